//! `daybook import online-retail FILE`: a client of our own service that turns a CSV of sales into
//! commands.
//!
//! The way of a row: [`source`] numbers and bounds it, [`fields`] splits it, [`row`] gives it types
//! ([`price`], [`london`]), [`book`] puts it to its invoice and its product, and [`traps`] counts
//! what is odd; [`reading`] drives that, and what can't be taken goes to [`rejects`]. Then
//! [`command`] writes the commands, [`client`] and [`exchange`] bring them to the service,
//! [`answer`] tallies what it says, and [`report`] tells it all.
//!
//! Everything goes through the service's commands: nothing here knows the journal or a database.

mod answer;
mod book;
mod client;
mod command;
mod exchange;
mod fields;
mod london;
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
mod traps;

pub use run::{Args, run};
