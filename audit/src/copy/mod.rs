//! A copy of the log as JSON Lines, which can be verified anywhere, without Kafka or registry.
//!
//! The first line is a header. Record lines follow in the order of reading, a schema line before the first
//! valid decision written with that schema, and an end line after the last record of each partition. Bytes
//! are hexadecimal digits. The check of a record line shows at once whether the line is damaged. The digest of
//! an end line covers all records of its partition, void ones included, so it shows any difference. Only the
//! hash chain and the rule stop an attacker who recomputes checks and end lines.
//!
//! `golden/copy/v<n>` of this crate holds a copy of each version of the format.

mod line;
mod reader;
mod writer;

pub use line::{Digest, End, Header, Line, RecordLine, SchemaLine, TopicPartitions, check, hash};
pub use reader::{CopyError, CopyReader, Read};
pub use writer::{CopyWriter, PartitionEnd};
