//! A copy of the log as JSON Lines, which can be verified anywhere, without Kafka or registry.
//!
//! One header line; then, in the order of reading, record lines, each schema before the first valid
//! decision written with it; and an end line per partition. Bytes are hexadecimal digits. A record
//! line's check names a damaged record at once, and the end line's digest covers all of them, void ones
//! included, so that any difference is seen. Against somebody who writes checks and end lines anew, a
//! copy proves as much as the chain and the rule do.

mod line;
mod reader;
mod writer;

pub use line::{Digest, End, Header, Line, RecordLine, SchemaLine, TopicPartitions, check, hash};
pub use reader::{CopyError, CopyReader, Read};
pub use writer::{CopyWriter, PartitionEnd};
