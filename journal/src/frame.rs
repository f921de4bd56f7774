//! The frame: the part of a record's value that the void rule reads.
//!
//! The frame's layout is frozen, so it is read by position, without a schema: a verdict depends only on
//! the log's bytes, and no outage of the registry can delay a reader. The bytes after the frame are
//! not read: a well-formed frame does not imply a well-formed decision.
//!
//! ```text
//! byte 0       0, the wire format's magic byte
//! bytes 1..5   schema id, big-endian, not judged
//! bytes 5..37  prev
//! bytes 37..53 term
//! then         zigzag varints: epoch, seq, recorded_at, the body's branch
//! branch 0     an announcement: rule_version, partitions (32 bits), owner_url (length, UTF-8)
//! branch 1, 2  a no-op, a decision
//! ```

use schemas::Timestamp;
use std::ops::Range;

/// The position of `prev` in a record's value.
pub const PREV_RANGE: Range<usize> = 5..37;

/// `prev` of a value that is long enough to have one, even if the value is malformed otherwise.
pub fn prev(value: &[u8]) -> Option<&[u8; 32]> {
    value.get(PREV_RANGE)?.try_into().ok()
}

/// Longest varint, in bytes: 64 bits, 7 per byte.
const VARINT_BYTES_MAX: usize = 10;

/// The fields that the void rule reads from a record's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The registry's id of the writer's schema; not judged.
    pub schema_id: u32,
    /// The chain's hash before this record, as the writer saw it.
    pub prev: [u8; 32],
    /// The term: one owner's leadership, named by a random id.
    pub term: [u8; 16],
    /// The term's number.
    pub epoch: i64,
    /// The record's number within its term.
    pub seq: i64,
    /// In an announcement, the writer's clock. In a commit, the clock of the term, and never below log time.
    pub recorded_at: Timestamp,
    /// The kind of the record.
    pub kind: Kind,
}

/// The kind of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A new owner takes over. Fields that a later version adds are not read.
    Announcement {
        /// The version of the void rule that the owner follows.
        rule_version: i32,
        /// The topic's number of partitions, as the owner knows it.
        partitions: i32,
        /// The URL at which the owner takes commands.
        owner_url: String,
    },
    /// A no-op: it proves that its owner still owned the partition.
    NoOp,
    /// The outcome of one command.
    Decision,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The value ends too early.
    #[error("value ends within {field}")]
    Truncated {
        /// The field in which it ends.
        field: &'static str,
    },
    /// The value is not in the wire format.
    #[error("value begins with byte {found}, not 0")]
    Magic {
        /// The first byte.
        found: u8,
    },
    /// A number with more bytes than 64 bits need.
    #[error("{field} has more than {VARINT_BYTES_MAX} bytes")]
    VarintTooLong {
        /// The number's field.
        field: &'static str,
    },
    /// A number of more than 64 bits, or of more than 32 where the schema says so.
    #[error("{field} is out of range")]
    OutOfRange {
        /// The number's field.
        field: &'static str,
    },
    /// A body that is neither announcement nor no-op nor decision.
    #[error("body has branch {branch}, which does not exist")]
    UnknownBody {
        /// The union's branch.
        branch: i64,
    },
    /// A text with a negative length.
    #[error("{field} has a length of {length}")]
    NegativeLength {
        /// The text's field.
        field: &'static str,
        /// Its length.
        length: i64,
    },
    /// A text that is not UTF-8.
    #[error("{field} is not utf-8")]
    NotText {
        /// The text's field.
        field: &'static str,
    },
}

impl FrameError {
    /// A stable short name, for metrics and vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "malformed_truncated",
            Self::Magic { .. } => "malformed_magic",
            Self::VarintTooLong { .. } => "malformed_varint",
            Self::OutOfRange { .. } => "malformed_range",
            Self::UnknownBody { .. } => "malformed_body",
            Self::NegativeLength { .. } => "malformed_length",
            Self::NotText { .. } => "malformed_text",
        }
    }
}

impl Frame {
    /// Reads the frame of a record's value, with its 5 bytes of wire header.
    ///
    /// # Errors
    /// The first error from the front.
    pub fn read(value: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader { rest: value };
        let [found] = reader.fixed("wire header")?;
        if found != 0 {
            return Err(FrameError::Magic { found });
        }
        // Rust evaluates the fields of a struct expression in the order in which they are written.
        Ok(Self {
            schema_id: u32::from_be_bytes(reader.fixed("wire header")?),
            prev: reader.fixed("prev")?,
            term: reader.fixed("term")?,
            epoch: reader.long("epoch")?,
            seq: reader.long("seq")?,
            recorded_at: Timestamp(reader.long("recorded_at")?),
            kind: Kind::read(&mut reader)?,
        })
    }
}

impl Kind {
    fn read(reader: &mut Reader) -> Result<Self, FrameError> {
        match reader.long("body")? {
            0 => Ok(Self::Announcement {
                rule_version: reader.int("rule_version")?,
                partitions: reader.int("partitions")?,
                owner_url: reader.text("owner_url")?.to_owned(),
            }),
            1 => Ok(Self::NoOp),
            2 => Ok(Self::Decision),
            branch => Err(FrameError::UnknownBody { branch }),
        }
    }
}

/// Takes Avro's primitive values off the front of bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(FrameError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(FrameError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A zigzag varint of 64 bits. Padding with empty groups is accepted, as other readers of Avro
    /// accept it; the chain is over bytes, so a padded record can't replace the shorter one.
    fn long(&mut self, field: &'static str) -> Result<i64, FrameError> {
        let mut bits = 0_u64;
        for group in 0..VARINT_BYTES_MAX {
            let [byte] = self.fixed(field)?;
            let payload = u64::from(byte & 0x7f);
            // The last byte has room for one bit: 9 x 7 + 1 = 64.
            if group + 1 == VARINT_BYTES_MAX && byte & 0x80 == 0 && payload > 1 {
                return Err(FrameError::OutOfRange { field });
            }
            bits |= payload << (7 * group);
            if byte & 0x80 == 0 {
                return Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        Err(FrameError::VarintTooLong { field })
    }

    fn int(&mut self, field: &'static str) -> Result<i32, FrameError> {
        i32::try_from(self.long(field)?).map_err(|_| FrameError::OutOfRange { field })
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, FrameError> {
        let length = self.long(field)?;
        if length < 0 {
            return Err(FrameError::NegativeLength { field, length });
        }
        // A length beyond memory is beyond the value as well.
        let bytes = self.bytes(usize::try_from(length).unwrap_or(usize::MAX), field)?;
        std::str::from_utf8(bytes).map_err(|_| FrameError::NotText { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(bytes: &[u8]) -> Result<i64, FrameError> {
        Reader { rest: bytes }.long("epoch")
    }

    #[test]
    fn reads_varints_at_their_limits() {
        assert_eq!(long(&[0]), Ok(0));
        assert_eq!(long(&[1]), Ok(-1));
        assert_eq!(long(&[0xff, 0x01]), Ok(-128));
        let mut greatest = [0xff; VARINT_BYTES_MAX];
        greatest[9] = 1;
        assert_eq!(long(&greatest), Ok(i64::MIN));
        greatest[0] = 0xfe;
        assert_eq!(long(&greatest), Ok(i64::MAX));
        greatest[9] = 2;
        assert_eq!(
            long(&greatest),
            Err(FrameError::OutOfRange { field: "epoch" })
        );
    }

    #[test]
    fn accepts_padding_up_to_ten_bytes() {
        assert_eq!(long(&[0x82, 0x00]), Ok(1));
        assert_eq!(
            long(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
            Ok(1)
        );
        assert_eq!(
            long(&[0x80; 11]),
            Err(FrameError::VarintTooLong { field: "epoch" })
        );
        assert_eq!(
            long(&[0x80; 9]),
            Err(FrameError::Truncated { field: "epoch" })
        );
    }
}
