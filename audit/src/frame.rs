//! Reads a journal record's frame by its frozen layout, without schema or registry.
//!
//! Byte 0 is 0. Then come the schema's id (4 bytes, big-endian, not judged), `prev` (32 bytes), `term`
//! (16 bytes), `epoch`, `seq` and `recorded_at` as Avro longs, and the branch of the body's union. The
//! first three fields of an announcement are frozen too. Later bytes are ignored.

use schemas::{Announcement, Timestamp};

/// Position of `prev` in a record's value.
pub const PREV_BYTES: std::ops::Range<usize> = 5..37;
/// Maximum length of an Avro long, in bytes: ten groups of seven bits hold 64 bits.
const LONG_BYTES_MAX: u32 = 10;

/// The fields of a record's value that the void rule reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The registry's id of the writer's schema.
    pub schema_id: u32,
    /// The chain's hash before this record, in the writer's view.
    pub prev: [u8; 32],
    /// The id of the writer's term.
    pub term: [u8; 16],
    /// The term's number.
    pub epoch: i64,
    /// The record's number within its term.
    pub seq: i64,
    /// In an announcement, the writer's clock. In a commit, the clock of the term, and never below log time.
    pub recorded_at: Timestamp,
    /// The kind of body that follows.
    pub kind: Kind,
}

/// Kinds of bodies.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// An owner starts a new term.
    Announcement(Announcement),
    /// An owner confirms that its term still lasts.
    NoOp,
    /// The result of one command.
    Decision,
}

/// The reason why bytes are not a frame. Byte positions count from the start of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The value does not have the registry's wire format.
    #[error("the first byte is {found}, not 0")]
    Magic {
        /// The first byte.
        found: u8,
    },
    /// The value ends within the frame.
    #[error("the value ends within the frame, after {bytes} bytes")]
    Truncated {
        /// The value's length.
        bytes: usize,
    },
    /// A number has more than ten bytes.
    #[error("the number at byte {at} has more than {LONG_BYTES_MAX} bytes")]
    Varint {
        /// The position of its first byte.
        at: usize,
    },
    /// A number does not fit its type.
    #[error("the number at byte {at} is out of its type's range")]
    Range {
        /// The position of its first byte.
        at: usize,
    },
    /// The branch of the body's union is unknown.
    #[error("the body's kind {branch} is unknown")]
    Body {
        /// The branch's number.
        branch: i64,
    },
    /// A text has a negative length.
    #[error("the text at byte {at} has a negative length")]
    Length {
        /// The position of the length's first byte.
        at: usize,
    },
    /// A text is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    Text {
        /// The position of the first byte of the text's length.
        at: usize,
    },
}

impl Malformed {
    /// A short name that never changes; reports count by it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Magic { .. } => "malformed_magic",
            Self::Truncated { .. } => "malformed_truncated",
            Self::Varint { .. } => "malformed_varint",
            Self::Range { .. } => "malformed_range",
            Self::Body { .. } => "malformed_body",
            Self::Length { .. } => "malformed_length",
            Self::Text { .. } => "malformed_text",
        }
    }
}

impl Frame {
    /// Reads the frame at the start of a record's value.
    ///
    /// # Errors
    /// [`Malformed`]: the first field that can't be read.
    pub fn read(value: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor { value, at: 0 };
        let [magic] = cursor.array()?;
        if magic != 0 {
            return Err(Malformed::Magic { found: magic });
        }
        let schema_id = u32::from_be_bytes(cursor.array()?);
        let prev = cursor.array()?;
        let term = cursor.array()?;
        let epoch = cursor.long()?;
        let seq = cursor.long()?;
        let recorded_at = Timestamp(cursor.long()?);
        let kind = match cursor.long()? {
            0 => Kind::Announcement(Announcement {
                rule_version: cursor.int()?,
                partitions: cursor.int()?,
                owner_url: cursor.text()?,
            }),
            1 => Kind::NoOp,
            2 => Kind::Decision,
            branch => return Err(Malformed::Body { branch }),
        };
        Ok(Self {
            schema_id,
            prev,
            term,
            epoch,
            seq,
            recorded_at,
            kind,
        })
    }

    /// Whether the record is an announcement, the first record of a term.
    pub fn is_announcement(&self) -> bool {
        matches!(self.kind, Kind::Announcement(_))
    }
}

/// A position in a value, from which fields are read one by one.
struct Cursor<'a> {
    value: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn truncated(&self) -> Malformed {
        Malformed::Truncated {
            bytes: self.value.len(),
        }
    }

    fn slice(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let rest = &self.value[self.at..];
        let taken = rest.get(..bytes).ok_or_else(|| self.truncated())?;
        self.at += bytes;
        Ok(taken)
    }

    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        let slice = self.slice(BYTES)?;
        Ok(slice
            .try_into()
            .expect("slice returns the requested number of bytes"))
    }

    /// An Avro long: zigzag, seven bits per byte, the lowest first. Padding is accepted, as other Avro
    /// readers accept it.
    fn long(&mut self) -> Result<i64, Malformed> {
        let start = self.at;
        let mut bits = 0_u64;
        for index in 0..LONG_BYTES_MAX {
            let [byte] = self.array()?;
            let low = u64::from(byte & 0x7f);
            let is_last_possible = index == LONG_BYTES_MAX - 1;
            if is_last_possible && byte & 0x80 != 0 {
                break;
            }
            if is_last_possible && low > 1 {
                return Err(Malformed::Range { at: start });
            }
            bits |= low << (7 * index);
            if byte & 0x80 == 0 {
                let magnitude = (bits >> 1).cast_signed();
                return Ok(magnitude ^ -(bits & 1).cast_signed());
            }
        }
        Err(Malformed::Varint { at: start })
    }

    fn int(&mut self) -> Result<i32, Malformed> {
        let at = self.at;
        i32::try_from(self.long()?).map_err(|_| Malformed::Range { at })
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let at = self.at;
        let length = self.long()?;
        if length < 0 {
            return Err(Malformed::Length { at });
        }
        let bytes = usize::try_from(length).map_err(|_| self.truncated())?;
        let text = std::str::from_utf8(self.slice(bytes)?);
        text.map(str::to_owned).map_err(|_| Malformed::Text { at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(bytes: &[u8]) -> Result<i64, Malformed> {
        let mut cursor = Cursor {
            value: bytes,
            at: 0,
        };
        cursor.long()
    }

    #[test]
    fn longs_are_read_over_their_whole_range() {
        assert_eq!(long(&[0]), Ok(0));
        assert_eq!(long(&[1]), Ok(-1));
        assert_eq!(long(&[0x80, 0x01]), Ok(64));
        let mut greatest = [0xff; 10];
        greatest[9] = 1;
        assert_eq!(long(&greatest), Ok(i64::MIN));
        greatest[0] = 0xfe;
        assert_eq!(long(&greatest), Ok(i64::MAX));
        greatest[9] = 2;
        assert_eq!(long(&greatest), Err(Malformed::Range { at: 0 }));
        assert_eq!(long(&[0x80; 11]), Err(Malformed::Varint { at: 0 }));
        assert_eq!(long(&[0x80]), Err(Malformed::Truncated { bytes: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_rejected(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::read(&value);
        }

        #[test]
        fn any_bytes_after_the_start_of_a_frame_are_read_or_rejected(
            tail in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut value = vec![0; PREV_BYTES.end + 16];
            value.extend(tail);
            let _ = Frame::read(&value);
        }
    }
}
