//! A copy of the log as JSON Lines, which can be verified anywhere, without Kafka or registry.
//!
//! One header line; then, in the order of reading, record lines, each schema before the first valid
//! decision written with it; and an end line per partition. Bytes are hexadecimal digits. The end
//! line's digest covers every record, void ones included, so that any difference is seen; what the
//! copy proves against someone who can write its end lines anew is only as much as the chain proves.

mod line;
mod reader;
mod writer;

pub use line::{Digest, End, Header, Line, RecordLine, SchemaLine, TopicPartitions};
pub use reader::{CopyError, CopyReader, Read};
pub use writer::{CopyWriter, PartitionEnd};
