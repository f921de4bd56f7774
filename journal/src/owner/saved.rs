//! How an owner's tables stand in the state store.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `stamp` | [`Stamp`], as JSON |
//! | aggregates | the record's key | version and state |
//! | answers | the command's id | [`Stored`] |
//! | expiry | origin (0: never expires), the last commit's time and offset | the ids of that write's answers |

use super::{
    request::Machine,
    tables::{Stored, Unsaved},
};
use crate::{
    checkpoint::Checkpoint,
    store::{Change, STAMP_KEY, StateStore, StoreError, Table},
};
use schemas::{Origin, Timestamp, ids::CommandId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of this layout.
const LAYOUT_VERSION: u32 = 2;
/// Most earlier writes whose answers one write forgets: more than one, so that the table can shrink.
const EXPIRED_WRITES_MAX: usize = 4;
/// Expiry entries read at once.
const ENTRIES_READ: usize = 64;
/// Bytes of an id in an expiry entry.
const ID_BYTES: usize = 16;

/// What [`expiry_kind`] may give.
const EXPIRY_KINDS: [u8; 3] = [0, 1, 2];

/// What the rest of a store belongs to.
#[derive(Serialize, Deserialize)]
struct Stamp {
    layout_version: u32,
    /// Of [`Machine::FOLD_VERSION`].
    fold_version: u32,
    checkpoint: Checkpoint,
}

/// The checkpoint of a store; `None` if it is empty, torn, or made by another fold.
pub(super) fn checkpoint<M: Machine>(
    store: &dyn StateStore,
    topic: &str,
    partition: i32,
) -> Result<Option<Checkpoint>, StoreError> {
    let Some(bytes) = store.stamp()? else {
        return Ok(None);
    };
    let stamp: Result<Stamp, _> = serde_json::from_slice(&bytes);
    let reason = match stamp {
        Ok(stamp) if stamp.layout_version != LAYOUT_VERSION => "it has another layout".to_owned(),
        Ok(stamp) if stamp.fold_version != M::FOLD_VERSION => {
            let (found, own) = (stamp.fold_version, M::FOLD_VERSION);
            format!("it was made by fold version {found}, this program has {own}")
        }
        Ok(stamp) => return Ok(Some(stamp.checkpoint)),
        Err(error) => format!("its stamp is torn: {error}"),
    };
    tracing::warn!(
        topic,
        partition,
        reason,
        "the state store is made again from the log"
    );
    Ok(None)
}

/// Everything that a write changes.
pub(super) fn changes<M: Machine>(
    unsaved: &Unsaved<M::State>,
    checkpoint: &Checkpoint,
    store: &dyn StateStore,
) -> Vec<Change> {
    let stamp = Stamp {
        layout_version: LAYOUT_VERSION,
        fold_version: M::FOLD_VERSION,
        checkpoint: checkpoint.clone(),
    };
    let stamp = Change {
        table: Table::Meta,
        key: STAMP_KEY.to_vec(),
        value: Some(serde_json::to_vec(&stamp).expect("a checkpoint is plain text and numbers")),
    };
    let mut changes = Vec::with_capacity(unsaved.aggregates.len() + unsaved.answers.len());
    // Removals stand first: what this write stores anew under an old id must stay.
    for origin in [Origin::Keyed, Origin::Server] {
        changes.extend(expired(origin, checkpoint.log_time, store));
    }
    let mut entry = Vec::new();
    for (key, aggregate) in &unsaved.aggregates {
        changes.push(Change {
            table: Table::Aggregates,
            key: key.as_bytes().to_vec(),
            value: Some(write(&**aggregate, &mut entry)),
        });
    }
    for (id, stored) in &unsaved.answers {
        changes.push(Change {
            table: Table::Answers,
            key: id.0.to_vec(),
            value: Some(write(stored, &mut entry)),
        });
    }
    changes.extend(expiries(unsaved, checkpoint));
    changes.push(stamp);
    changes
}

/// Notes when this write's answers can be forgotten: one entry a kind of origin, not one an answer.
fn expiries<S>(unsaved: &Unsaved<S>, checkpoint: &Checkpoint) -> Vec<Change> {
    let entry = |kind: u8| {
        let of_kind = || {
            unsaved
                .answers
                .iter()
                .filter(move |(_, stored)| expiry_kind(stored.origin) == kind)
        };
        let last = of_kind().map(|(_, stored)| stored.recorded_at).max()?;
        let mut key = expiry_key(kind, last);
        key.extend(checkpoint.next_offset.to_be_bytes());
        Some(Change {
            table: Table::Expiry,
            key,
            value: Some(of_kind().flat_map(|(id, _)| id.0).collect()),
        })
    };
    EXPIRY_KINDS.into_iter().filter_map(entry).collect()
}

/// Every command id that has an answer in the store, and some whose answers are forgotten.
pub(super) fn each_id(
    store: &dyn StateStore,
    mut take: impl FnMut(CommandId),
) -> Result<(), StoreError> {
    let mut start = Vec::new();
    loop {
        let entries = store.first(Table::Expiry, &start, &[u8::MAX], ENTRIES_READ)?;
        for (_, ids) in &entries {
            for id in ids.chunks_exact(ID_BYTES) {
                take(CommandId(
                    id.try_into().expect("a chunk has an id's length"),
                ));
            }
        }
        let Some((last, _)) = entries.into_iter().next_back() else {
            return Ok(());
        };
        start = last;
        // The least key behind the last one.
        start.push(0);
    }
}

/// Forgets the answers of the oldest writes, if they have expired. A store that can't be read now
/// is asked again by the next write.
fn expired(origin: Origin, log_time: Timestamp, store: &dyn StateStore) -> Vec<Change> {
    let Some(kept_us) = Stored::kept_us(origin) else {
        return Vec::new();
    };
    let kind = expiry_kind(origin);
    let start = expiry_key(kind, Timestamp(0));
    let end = expiry_key(kind, Timestamp(log_time.0.saturating_sub(kept_us)));
    let entries = store.first(Table::Expiry, &start, &end, EXPIRED_WRITES_MAX);
    let remove = |table, key| Change {
        table,
        key,
        value: None,
    };
    let mut changes = Vec::new();
    for (key, ids) in entries.unwrap_or_default() {
        for id in ids.chunks_exact(ID_BYTES) {
            // The id may have been used again since.
            let found = store.get(Table::Answers, id).ok().flatten();
            let found = found.and_then(|bytes| postcard::from_bytes::<Stored>(&bytes).ok());
            if found.is_some_and(|stored| stored.is_expired(log_time)) {
                changes.push(remove(Table::Answers, id.to_vec()));
            }
        }
        changes.push(remove(Table::Expiry, key));
    }
    changes
}

fn expiry_kind(origin: Origin) -> u8 {
    match origin {
        Origin::Policy | Origin::Timer | Origin::Unknown => 0,
        Origin::Keyed => 1,
        Origin::Server => 2,
    }
}

fn expiry_key(kind: u8, time: Timestamp) -> Vec<u8> {
    // Log time is never below 1970, so its bytes sort as it does.
    let mut key = vec![kind];
    key.extend(time.0.max(0).to_be_bytes());
    key
}

/// Reads an entry; `name` is for the error.
pub(super) fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Unreadable {
        partition: name.to_owned(),
        reason: error.to_string(),
    })
}

/// An entry's bytes, of just their size, for thousands wait to be written; `entry` is where they grow.
fn write<T: Serialize>(value: &T, entry: &mut Vec<u8>) -> Vec<u8> {
    entry.clear();
    postcard::to_io(value, &mut *entry).expect("tables hold nothing that has no length");
    entry.as_slice().to_vec()
}
