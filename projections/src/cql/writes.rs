//! The writes of a change, with timestamps that make them safe to repeat and to delay.
//!
//! A write is a pure function of the row's aggregate up to an offset, and carries that offset. The write with the
//! greater offset wins, regardless of the order of arrival. So a replay, a retry or a zombie projector can only write
//! values that are already stored, or that a write with a greater offset replaces.
//!
//! The fold therefore needs the version of the row before the batch. A stored row contains its version. For a deleted
//! row, the version is stored with the deletion, in a table of the build, before the row is deleted. Otherwise a replay
//! from before the deletion would find no row to apply its events to.

use crate::fold::Change;
use scylla::{
    frame::response::result::{ColumnType, NativeType},
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        value::SerializeValue,
        writers::RowWriter,
    },
};

/// A write of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write<Key, Row> {
    /// All columns of a row. Binds the row, then the timestamp.
    Upsert {
        /// The row.
        row: Row,
        /// `USING TIMESTAMP`.
        timestamp: i64,
    },
    /// The deletion of a row. Binds the timestamp, then the key.
    Delete {
        /// The row's key.
        key: Key,
        /// `USING TIMESTAMP`.
        timestamp: i64,
    },
}

/// The record of a row's deletion, to be written before [`Write::Delete`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion<Key> {
    /// The row's key.
    pub key: Key,
    /// The aggregate's version after the event that deleted the row.
    pub version: i64,
    /// `USING TIMESTAMP`.
    pub timestamp: i64,
}

/// Timestamp of a row written at an offset of the journal. The 1 keeps timestamps of rows and deletions apart: at equal
/// timestamps, a deletion would win over the row.
pub fn write_timestamp(offset: i64) -> i64 {
    2 * offset + 1
}

/// The offset of a [`write_timestamp`].
pub fn offset_of(write_timestamp: i64) -> i64 {
    (write_timestamp - 1) / 2
}

/// Timestamp of a row's deletion at an offset of the journal.
pub fn delete_timestamp(offset: i64) -> i64 {
    2 * offset
}

/// The writes of a batch's changes: first all deletions, then all rows. A deletion is written even if no row existed
/// before the batch, because a zombie may still write a row that the batch created and deleted.
pub fn writes<Key: Clone, Row>(
    changes: Vec<Change<Key, Row>>,
) -> (Vec<Deletion<Key>>, Vec<Write<Key, Row>>) {
    let (mut deletions, mut rows) = (Vec::new(), Vec::with_capacity(changes.len()));
    for change in changes {
        let Change {
            key,
            before: _,
            after,
            offset,
            version,
        } = change;
        match after {
            Some(row) => rows.push(Write::Upsert {
                row,
                timestamp: write_timestamp(offset),
            }),
            None => {
                deletions.push(Deletion {
                    key: key.clone(),
                    version,
                    timestamp: write_timestamp(offset),
                });
                rows.push(Write::Delete {
                    key,
                    timestamp: delete_timestamp(offset),
                });
            }
        }
    }
    (deletions, rows)
}

impl<Key: SerializeRow, Row: SerializeRow> SerializeRow for Write<Key, Row> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let columns = context.columns();
        match self {
            Self::Upsert { row, timestamp } => {
                let row_columns = &columns[..columns.len().saturating_sub(1)];
                row.serialize(&RowSerializationContext::from_specs(row_columns), writer)?;
                serialize_timestamp(*timestamp, writer)
            }
            Self::Delete { key, timestamp } => {
                serialize_timestamp(*timestamp, writer)?;
                let key_columns = columns.get(1..).unwrap_or_default();
                key.serialize(&RowSerializationContext::from_specs(key_columns), writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

fn serialize_timestamp(
    timestamp: i64,
    writer: &mut RowWriter<'_>,
) -> Result<(), SerializationError> {
    const BIGINT: ColumnType<'static> = ColumnType::Native(NativeType::BigInt);
    timestamp.serialize(&BIGINT, writer.make_cell_writer())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_offset_always_wins() {
        let first = write_timestamp(0);
        assert!(first > 0, "{first} instead of above 0");
        assert_eq!(offset_of(write_timestamp(8)), 8);
        let times = [write_timestamp(7), delete_timestamp(8), write_timestamp(8)];
        assert!(
            times.is_sorted_by(|earlier, later| earlier < later),
            "{times:?} do not ascend"
        );
    }

    #[test]
    fn a_row_that_a_batch_creates_and_deletes_is_deleted() {
        let change = Change {
            key: "order_1",
            before: None::<i64>,
            after: None,
            offset: 7,
            version: 2,
        };
        let (deletions, rows) = writes(vec![change]);
        let deletion = Deletion {
            key: "order_1",
            version: 2,
            timestamp: 15,
        };
        assert_eq!(deletions, [deletion]);
        let delete = Write::Delete {
            key: "order_1",
            timestamp: 14,
        };
        assert_eq!(rows, [delete]);
    }
}
