//! The layout of an owner's index tables in the state store.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | `stamp` | [`Stamp`], as JSON |
//! | aggregates | the record's key | [`Aggregate`](super::entries::Aggregate): version and state, postcard |
//! | answers | the command's id | [`StoredAnswer`], postcard |
//! | expiry | lifetime (0: never expires), log time of the write's last such answer, next offset of the write | the ids of that write's answers |
//!
//! `journal/golden/state_store/` has the entries of each version.

use super::{
    bloom_filter::BloomFilter,
    entries::{Lifetime, StoredAnswer, Unsaved},
    request::Machine,
};
use crate::{
    checkpoint::Checkpoint,
    store::{Change, Entries, STAMP_KEY, StateStore, StoreError, Table},
};
use schemas::{Timestamp, ids::CommandId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;
use tokio::task::yield_now;

/// The version of this layout. Raise it with every change of an entry: stores of another version are
/// rebuilt from the log.
pub(super) const LAYOUT_VERSION: u32 = 3;
/// Maximum number of earlier writes whose expired answers one write removes: more than one, so that the table can
/// shrink.
const EXPIRED_WRITES_MAX: usize = 4;
/// Expiry entries read at once.
const ENTRIES_READ: usize = 256;
/// Ids that are added to a filter before other tasks of the thread get a turn: less than a millisecond of work. One
/// entry may have the ids of a hundred thousand answers.
const IDS_AT_ONCE: usize = 4_096;
/// Bytes of an id in an expiry entry.
const ID_BYTES: usize = 16;

/// The versions and the checkpoint that the other entries of a store belong to.
#[derive(Serialize, Deserialize)]
struct Stamp {
    layout_version: u32,
    /// [`Machine::FOLD_VERSION`].
    fold_version: u32,
    /// Fingerprint of the key that hashed the commands of the stored answers. Stamps of earlier releases don't
    /// have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash_key: Option<String>,
    checkpoint: Checkpoint,
}

/// The checkpoint of a store; `None` if it is empty, torn, or built by another fold.
///
/// # Errors
/// The store can't be read, or a node with another key than `hash_key` has written it.
pub(super) async fn checkpoint<M: Machine>(
    store: &Arc<dyn StateStore>,
    topic: &str,
    partition: i32,
    hash_key: Option<&str>,
) -> Result<Option<Checkpoint>, StoreError> {
    let Some(bytes) = store.clone().stamp().await? else {
        return Ok(None);
    };
    let stamp: Result<Stamp, _> = serde_json::from_slice(&bytes);
    // Checked first: a store that is rebuilt under another key would no longer show the difference.
    if let Ok(stamp) = &stamp
        && let (Some(found), Some(own)) = (&stamp.hash_key, hash_key)
        && found != own
    {
        return Err(StoreError::HashKeyMismatch {
            partition: format!("{topic}/{partition}"),
            found: found.clone(),
            own: own.to_owned(),
        });
    }
    let reason = match stamp {
        Ok(stamp) if stamp.layout_version != LAYOUT_VERSION => "it has another layout".to_owned(),
        Ok(stamp) if stamp.fold_version != M::FOLD_VERSION => {
            let (found, own) = (stamp.fold_version, M::FOLD_VERSION);
            format!("it was built by fold version {found}, this program has {own}")
        }
        Ok(stamp) => return Ok(Some(stamp.checkpoint)),
        Err(error) => format!("its stamp is torn: {error}"),
    };
    tracing::warn!(
        topic,
        partition,
        reason,
        "state store will be rebuilt from the log"
    );
    Ok(None)
}

/// All changes of one write.
pub(super) fn changes<M: Machine>(
    unsaved: &Unsaved<M::State>,
    checkpoint: &Checkpoint,
    hash_key: Option<&str>,
    store: &dyn Entries,
) -> Vec<Change> {
    let stamp = Stamp {
        layout_version: LAYOUT_VERSION,
        fold_version: M::FOLD_VERSION,
        hash_key: hash_key.map(str::to_owned),
        checkpoint: checkpoint.clone(),
    };
    let stamp = Change {
        table: Table::Meta,
        key: STAMP_KEY.to_vec(),
        value: Some(serde_json::to_vec(&stamp).expect("a checkpoint is plain text and numbers")),
    };
    let mut changes = Vec::with_capacity(unsaved.aggregates.len() + unsaved.answers.len());
    // Removals come first: an answer that this write stores under an expired id must stay.
    for lifetime in Lifetime::ALL {
        changes.extend(expired(lifetime, checkpoint.log_time, store));
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

/// Records when this write's answers expire: one entry per lifetime, not one per answer.
fn expiries<S>(unsaved: &Unsaved<S>, checkpoint: &Checkpoint) -> Vec<Change> {
    let entry = |lifetime: Lifetime| {
        let answers = || {
            unsaved
                .answers
                .iter()
                .filter(move |(_, stored)| Lifetime::of(stored.origin) == lifetime)
        };
        let last = answers().map(|(_, stored)| stored.recorded_at).max()?;
        let mut key = expiry_key(lifetime, last);
        key.extend(checkpoint.next_offset.to_be_bytes());
        Some(Change {
            table: Table::Expiry,
            key,
            value: Some(answers().flat_map(|(id, _)| id.0).collect()),
        })
    };
    Lifetime::ALL.into_iter().filter_map(entry).collect()
}

/// Adds every command id that has an answer in the store to `filter`, and some whose answers have expired. Other tasks
/// run meanwhile.
pub(super) async fn add_ids(
    store: &Arc<dyn StateStore>,
    log_time: Timestamp,
    filter: &mut BloomFilter,
) -> Result<(), StoreError> {
    let mut at_once = 0;
    for lifetime in Lifetime::ALL {
        let kept_us = lifetime.us().unwrap_or(i64::MAX);
        let mut start = expiry_key(lifetime, Timestamp(log_time.0.saturating_sub(kept_us)));
        let end = vec![lifetime as u8 + 1];
        loop {
            let entries = store
                .clone()
                .scan(Table::Expiry, start, end.clone(), ENTRIES_READ);
            let entries = entries.await?;
            for (key, ids) in &entries {
                let last = expiry_time(key);
                for id in ids.chunks_exact(ID_BYTES) {
                    let id = id.try_into().expect("a chunk has an id's length");
                    filter.insert(CommandId(id), lifetime, last);
                    at_once += 1;
                    if at_once == IDS_AT_ONCE {
                        at_once = 0;
                        yield_now().await;
                    }
                }
            }
            let Some((last, _)) = entries.into_iter().next_back() else {
                break;
            };
            start = last;
            // The lowest key after the last one that was read.
            start.push(0);
        }
    }
    Ok(())
}

/// Removes the answers of the oldest writes, if they have expired. If the store can't be read now, the
/// next write reads it again.
fn expired(lifetime: Lifetime, log_time: Timestamp, store: &dyn Entries) -> Vec<Change> {
    let Some(kept_us) = lifetime.us() else {
        return Vec::new();
    };
    let start = expiry_key(lifetime, Timestamp(0));
    let end = expiry_key(lifetime, Timestamp(log_time.0.saturating_sub(kept_us)));
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
            let found = found.and_then(|bytes| postcard::from_bytes::<StoredAnswer>(&bytes).ok());
            if found.is_some_and(|stored| stored.is_expired(log_time)) {
                changes.push(remove(Table::Answers, id.to_vec()));
            }
        }
        changes.push(remove(Table::Expiry, key));
    }
    changes
}

/// Bytes of the time in an expiry entry's key. They follow the byte of the lifetime.
const TIME_BYTES: std::ops::Range<usize> = 1..9;

fn expiry_key(lifetime: Lifetime, time: Timestamp) -> Vec<u8> {
    // Log time is never below 1970, so big-endian bytes sort like the numbers.
    let mut key = vec![lifetime as u8];
    key.extend(time.0.max(0).to_be_bytes());
    key
}

/// The log time in the key of an expiry entry; the earliest one in a key of another form.
fn expiry_time(key: &[u8]) -> Timestamp {
    let time = key.get(TIME_BYTES).and_then(|time| time.try_into().ok());
    Timestamp(time.map_or(0, i64::from_be_bytes))
}

/// Reads an entry; `name` is for the error.
pub(super) fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Unreadable {
        partition: name.to_owned(),
        reason: error.to_string(),
    })
}

/// An entry's bytes in an allocation of exactly their size, because thousands wait to be written;
/// `entry` is a buffer for encoding.
fn write<T: Serialize>(value: &T, entry: &mut Vec<u8>) -> Vec<u8> {
    entry.clear();
    postcard::to_io(value, &mut *entry).expect("entries contain only types of known length");
    entry.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe::{Event, PROBE},
        store::Memory,
    };
    use schemas::Outcome;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A machine without commands.
    struct NoCommands;

    impl Machine for NoCommands {
        const FOLD_VERSION: u32 = 1;
        type Event = Event;
        type State = ();
        type Command = ();

        fn blank(&self, _: &str) -> Option<()> {
            None
        }

        fn decide(&self, (): &(), (): &()) -> Result<Vec<Event>, Outcome> {
            Ok(Vec::new())
        }

        fn evolve(&self, (): (), _: &Event) {}
    }

    /// After a rollback, the earlier release still uses the store of the later one.
    #[tokio::test]
    async fn a_stamp_with_fields_of_a_later_release_is_read() {
        let checkpoint = Checkpoint::start(PROBE.topic, 3);
        let stamp = Stamp {
            layout_version: LAYOUT_VERSION,
            fold_version: NoCommands::FOLD_VERSION,
            hash_key: None,
            checkpoint: checkpoint.clone(),
        };
        let mut stamp = serde_json::to_value(&stamp).unwrap();
        stamp["later"] = 1.into();
        stamp["checkpoint"]["later"] = "a field".into();
        let store = Arc::new(Memory::default());
        store.apply(vec![Change {
            table: Table::Meta,
            key: STAMP_KEY.to_vec(),
            value: Some(stamp.to_string().into_bytes()),
        }]);
        let store: Arc<dyn StateStore> = store;
        let read = super::checkpoint::<NoCommands>(&store, PROBE.topic, 3, Some("own")).await;
        assert_eq!(read, Ok(Some(checkpoint)));
    }

    /// This holds even if this release would rebuild the store, because the rebuilt store would not show the
    /// difference.
    #[tokio::test]
    async fn a_stamp_of_another_hash_key_is_an_error() {
        let checkpoint = Checkpoint::start(PROBE.topic, 3);
        for fold_version in [NoCommands::FOLD_VERSION, NoCommands::FOLD_VERSION + 1] {
            let stamp = Stamp {
                layout_version: LAYOUT_VERSION,
                fold_version,
                hash_key: Some("other".into()),
                checkpoint: checkpoint.clone(),
            };
            let store = Arc::new(Memory::default());
            store.apply(vec![Change {
                table: Table::Meta,
                key: STAMP_KEY.to_vec(),
                value: Some(serde_json::to_vec(&stamp).unwrap()),
            }]);
            let store: Arc<dyn StateStore> = store;
            let read = super::checkpoint::<NoCommands>(&store, PROBE.topic, 3, Some("own")).await;
            let refused = read.unwrap_err().to_string();
            assert!(
                refused.contains("commands.hash_key_file"),
                "no \"commands.hash_key_file\" in: {refused}"
            );
            for accepted in [Some("other"), None] {
                let read = super::checkpoint::<NoCommands>(&store, PROBE.topic, 3, accepted).await;
                assert!(read.is_ok(), "an error from {accepted:?}: {read:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_ids_of_all_expiry_entries_are_added() {
        let store = Arc::new(Memory::default());
        let (lifetime, log_time) = (Lifetime::ALL[0], Timestamp(1));
        let writes = 2 * u16::try_from(ENTRIES_READ).unwrap() + 1;
        let id = |write: u16, index: u8| {
            let mut id = [index; ID_BYTES];
            id[..2].copy_from_slice(&write.to_be_bytes());
            id
        };
        let entry = |write: u16| Change {
            table: Table::Expiry,
            key: [expiry_key(lifetime, log_time), write.to_be_bytes().to_vec()].concat(),
            value: Some([id(write, 0), id(write, 1)].concat()),
        };
        store.apply((0..writes).map(entry).collect());
        let mut filter = BloomFilter::default();
        let store: Arc<dyn StateStore> = store;
        add_ids(&store, log_time, &mut filter).await.unwrap();
        for write in 0..writes {
            for id in [id(write, 0), id(write, 1)] {
                assert!(
                    filter.may_contain(CommandId(id)),
                    "the filter has no {id:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn other_tasks_run_while_the_ids_of_one_entry_are_added() {
        let store = Arc::new(Memory::default());
        let (lifetime, log_time) = (Lifetime::ALL[0], Timestamp(1));
        store.apply(vec![Change {
            table: Table::Expiry,
            key: expiry_key(lifetime, log_time),
            value: Some(vec![7; 2 * IDS_AT_ONCE * ID_BYTES]),
        }]);
        let store: Arc<dyn StateStore> = store;
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let mut filter = BloomFilter::default();
        add_ids(&store, log_time, &mut filter).await.unwrap();
        let turns = turns.load(Ordering::Relaxed);
        other.abort();
        assert!(
            turns > 0,
            "the other task had {turns} turns instead of 1 or more"
        );
    }
}
