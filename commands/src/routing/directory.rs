//! Who owns which partition, as owners say in `journal.owners`.
//!
//! Of two entries the greater epoch counts, and what is no entry is passed over: the directory may
//! be behind, never wrong for long. A tombstone makes everything before it count no more: an owner
//! writes one where an entry of a greater epoch than its own stays, which nobody may stand behind (see
//! [`super::announcer`]). What was known stays known while Kafka is away.

use crate::metrics as names;
use journal::Source;
use kafka::{BatchConsumer, Record};
use schemas::{
    CONTEXTS,
    owners::{Entry, Place, parse_key},
    topics::OWNERS,
};
use std::collections::HashMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the directory knows, now and from now on.
#[derive(Debug, Clone)]
pub struct Directory {
    known: watch::Receiver<Known>,
}

/// What was read so far.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// By place, the entry of the greatest epoch.
    greatest: HashMap<Place, Entry>,
    /// By place, the epoch of the last record: what compaction will leave.
    last_epoch: HashMap<Place, i64>,
}

impl Known {
    /// Who owns a partition.
    pub fn owner(&self, place: Place) -> Option<&Entry> {
        self.greatest.get(&place)
    }

    /// The epoch of the entry that a reader who begins now would find; 0 if there is none.
    pub fn last_epoch(&self, place: Place) -> i64 {
        self.last_epoch.get(&place).copied().unwrap_or_default()
    }

    fn take(&mut self, place: Place, entry: Entry) {
        self.last_epoch.insert(place, entry.epoch);
        let known = self.owner(place);
        if known.is_none_or(|known| known.epoch < entry.epoch) {
            self.greatest.insert(place, entry);
        }
    }

    fn forget(&mut self, place: Place) {
        self.last_epoch.remove(&place);
        self.greatest.remove(&place);
    }
}

impl Directory {
    /// An empty directory, and where what is read goes in.
    pub fn empty() -> (watch::Sender<Known>, Self) {
        let (sender, known) = watch::channel(Known::default());
        (sender, Self { known })
    }

    /// What is known now. Not to be held across an await.
    pub fn known(&self) -> watch::Ref<'_, Known> {
        self.known.borrow()
    }

    /// Takes note of what is known now, so that [`Directory::changed`] waits for more.
    pub fn mark_seen(&mut self) {
        self.known.mark_unchanged();
    }

    /// Returns once more is known than when it returned last. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a test has read.
#[cfg(test)]
pub(crate) struct Entries(watch::Sender<Known>);

#[cfg(test)]
impl Entries {
    /// An entry for every place.
    pub(crate) fn put_all(&self, epoch: i64, url: &str) {
        self.0.send_modify(|known| {
            for place in schemas::owners::places() {
                let entry = Entry {
                    epoch,
                    term: String::new(),
                    url: url.to_owned(),
                };
                known.take(place, entry);
            }
        });
    }

    /// A tombstone for every place.
    pub(crate) fn forget_all(&self) {
        self.0
            .send_modify(|known| schemas::owners::places().for_each(|place| known.forget(place)));
    }
}

#[cfg(test)]
impl Directory {
    /// An empty directory, and what is read.
    pub(crate) fn of_entries() -> (Entries, Self) {
        let (known, directory) = Self::empty();
        (Entries(known), directory)
    }
}

/// Reads the topic until `stop`; begins again where that fails.
pub async fn read(source: Source, known: watch::Sender<Known>, stop: CancellationToken) {
    for wait in service::backoff() {
        let reason = tokio::select! {
            reason = read_on(&source, &known) => reason,
            () = stop.cancelled() => return,
        };
        tracing::warn!(topic = OWNERS.name, reason, "the directory is read again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Reads from the beginning on; gives why that ended.
async fn read_on(source: &Source, known: &watch::Sender<Known>) -> String {
    let low = match source.admin.watermarks(OWNERS.name, 0).await {
        Ok(watermarks) => watermarks.low,
        Err(error) => return error.to_string(),
    };
    let consumer = BatchConsumer::start(&source.kafka, "directory", OWNERS.name, &[(0, low)]);
    let mut consumer = match consumer {
        Ok(consumer) => consumer,
        Err(error) => return error.to_string(),
    };
    loop {
        match consumer.next().await {
            Ok(records) => take_all(known, &records),
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "the directory may be behind");
            }
            Err(error) => return error.to_string(),
        }
    }
}

fn take_all(known: &watch::Sender<Known>, records: &[Record]) {
    known.send_modify(|known| {
        for record in records {
            let place = record.key.as_deref().and_then(parse_key);
            let entry = record.value.as_deref().map(Entry::parse);
            if let (Some(place), Some(Some(entry))) = (place, entry.clone()) {
                known.take(place, entry);
            } else if let (Some(place), None) = (place, entry) {
                known.forget(place);
            } else {
                metrics::counter!(names::DIRECTORY_GARBAGE).increment(1);
                tracing::warn!(
                    topic = OWNERS.name,
                    offset = record.offset,
                    "a record that is no owner's entry is passed over"
                );
            }
        }
        show(known);
    });
}

/// Brings the metrics up to date.
#[expect(clippy::cast_precision_loss, reason = "a journal has some partitions")]
fn show(known: &Known) {
    for context in CONTEXTS {
        let topic = context.topic;
        let count = known
            .greatest
            .keys()
            .filter(|place| place.0 == topic)
            .count();
        metrics::gauge!(names::OWNERS_KNOWN, "topic" => topic).set(count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = ("journal.orders", 1);

    fn record(offset: i64, key: &str, value: &str) -> Record {
        Record {
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: Some(key.to_owned().into()),
            value: Some(value.to_owned().into()),
        }
    }

    #[test]
    fn the_greatest_epoch_counts_and_garbage_does_not() {
        let (sender, directory) = Directory::empty();
        let key = schemas::owners::key(PLACE);
        let entry =
            |epoch: i64, url: &str| format!(r#"{{"epoch":{epoch},"term":"","url":"{url}"}}"#);
        let records = [
            record(0, &key, &entry(4, "http://a:1")),
            record(1, &key, "garbage"),
            record(2, "nowhere/1", &entry(9, "http://b:1")),
            record(3, &key, &entry(6, "http://c:1")),
            record(4, &key, &entry(5, "http://d:1")),
        ];
        take_all(&sender, &records);
        let known = directory.known();
        let owner = known.owner(PLACE).map(|entry| entry.url.as_str());
        assert_eq!(owner, Some("http://c:1"));
        // Whoever holds epoch 6 must publish it again, for compaction would leave 5.
        assert_eq!(known.last_epoch(PLACE), 5);
        assert_eq!(known.owner(("journal.orders", 2)), None);
        drop(known);
        let tombstone = Record {
            value: None,
            ..record(5, &key, "")
        };
        take_all(&sender, &[tombstone]);
        assert_eq!(directory.known().owner(PLACE), None);
        assert_eq!(directory.known().last_epoch(PLACE), 0);
        take_all(&sender, &[record(6, &key, &entry(2, "http://e:1"))]);
        let known = directory.known();
        let owner = known.owner(PLACE).map(|entry| entry.url.as_str());
        assert_eq!(owner, Some("http://e:1"));
    }
}
