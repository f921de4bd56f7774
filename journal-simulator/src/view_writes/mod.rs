//! Writes of a view to the CQL store: projectors that crash, stall and repeat batches, over replicas that take writes
//! late, twice or never.
//!
//! The fold, the order of the requests and their timestamps are those of production ([`projections::cql::apply`],
//! [`projections::cql::writes`]), and so are the readers. The replicas and the lightweight transaction of the
//! checkpoint are models. Every row of a replica must be the fold of a prefix of its aggregate's history. Once a
//! checkpoint is stored, a quorum must have the rows up to it. In the end, when every late write has arrived, every
//! quorum must have the last rows.

mod plan;
mod projector;
mod protocol;
mod replica;
mod requests;
mod run;
mod states;
mod store;
mod table;
mod writer;

pub(crate) use protocol::{CorrectWrites, WriteProtocol};
pub(crate) use run::run;
