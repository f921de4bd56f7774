//! `daybook journal describe`: describes partitions of journals for operators, read from the log itself by
//! the void rule. It needs only Kafka, and writes nothing.
//!
//! Exit codes: 0: every partition can be read to its end; 1: at least one partition cannot; 2: Kafka is unreachable, or
//! the partition does not exist.

mod directory;
mod partition;
mod reading;
mod report;
mod run;

pub use directory::entries;
pub use reading::ReadError;
pub use run::{Args, run};
