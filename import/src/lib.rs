//! `daybook import online-retail FILE`: a client of the service's HTTP API that turns a CSV file of sales
//! into commands.
//!
//! Reading: [`source`] yields numbered rows of bounded length, [`fields`] splits them, [`row`] types their
//! fields ([`price`], [`local_time`]) by the [`conventions`] that all rows show together, and [`dataset`] groups
//! them into [`invoices`] and counts their [`data_quality`]. [`reading`] drives these steps and sends the rows it
//! rejects to [`rejects`].
//!
//! Sending: [`command`] builds the commands, [`client`] and [`batch_stream`] send them, [`answer`]
//! interprets and counts the answers, [`progress`] shows how many have arrived. [`run`] connects both
//! halves and prints the [`report`].
//!
//! The crate depends on the contract and the HTTP API only, not on the journal or a database.

mod answer;
mod batch_stream;
mod client;
mod command;
mod conventions;
mod data_quality;
mod dataset;
mod fields;
mod invoices;
mod local_time;
mod price;
mod progress;
mod reading;
mod rejects;
mod report;
mod row;
mod run;
#[cfg(test)]
mod service_fake;
mod source;

pub use run::{Args, run};
