//! The directory: which node owns which partition, according to the owners' entries in `journal.owners`.
//!
//! The entry of the greatest epoch counts, and an invalid record is skipped; so the directory may be
//! behind, but is not wrong for long. A tombstone cancels everything before it: an owner writes one if an
//! entry of a greater epoch than its own stays, because that entry may have no owner (see
//! [`super::ownership_publisher`]). While Kafka is unreachable, the entries read so far stay.

use crate::metrics as names;
use journal::Source;
use kafka::{BatchConsumer, Record};
use schemas::{
    CONTEXTS,
    owners::{Entry, parse_key},
    topics::{OWNERS, PartitionCounts, TopicPartition},
};
use std::collections::HashMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The entries read so far, now and from now on.
#[derive(Debug, Clone)]
pub struct Directory {
    known: watch::Receiver<Known>,
}

/// The entries read so far.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// By partition, the entry of the greatest epoch.
    greatest: HashMap<TopicPartition, Entry>,
    /// By partition, the epoch of the last record, which compaction will leave.
    last_epoch: HashMap<TopicPartition, i64>,
}

impl Known {
    /// The entry of a partition's owner.
    pub fn owner(&self, partition: TopicPartition) -> Option<&Entry> {
        self.greatest.get(&partition)
    }

    /// The epoch of the entry that a reader that begins now may find alone; 0 if there is no entry.
    pub fn last_epoch(&self, partition: TopicPartition) -> i64 {
        self.last_epoch.get(&partition).copied().unwrap_or_default()
    }

    fn insert(&mut self, partition: TopicPartition, entry: Entry) {
        self.last_epoch.insert(partition, entry.epoch);
        let known = self.owner(partition);
        if known.is_none_or(|known| known.epoch < entry.epoch) {
            self.greatest.insert(partition, entry);
        }
    }

    fn remove(&mut self, partition: TopicPartition) {
        self.last_epoch.remove(&partition);
        self.greatest.remove(&partition);
    }
}

impl Directory {
    /// An empty directory, and the sender that fills it.
    pub fn empty() -> (watch::Sender<Known>, Self) {
        let (sender, known) = watch::channel(Known::default());
        (sender, Self { known })
    }

    /// The entries known now. Not to be held across an await.
    pub fn known(&self) -> watch::Ref<'_, Known> {
        self.known.borrow()
    }

    /// Marks the entries known now as seen, so that [`Directory::changed`] waits for more.
    pub fn mark_seen(&mut self) {
        self.known.mark_unchanged();
    }

    /// Returns once more is known than at its last return; never, if the reader has ended. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Fills the directory of a test, every partition alike.
#[cfg(test)]
pub(crate) struct Entries {
    known: watch::Sender<Known>,
    partitions: PartitionCounts,
}

#[cfg(test)]
impl Entries {
    /// Reads an entry for every partition.
    pub(crate) fn put_all(&self, epoch: i64, url: &str) {
        self.known.send_modify(|known| {
            for partition in self.partitions.journal_partitions() {
                let entry = Entry {
                    epoch,
                    term: String::new(),
                    url: url.to_owned(),
                };
                known.insert(partition, entry);
            }
        });
    }

    /// Reads a tombstone for every partition.
    pub(crate) fn remove_all(&self) {
        self.known.send_modify(|known| {
            let partitions = self.partitions.journal_partitions();
            partitions.for_each(|partition| known.remove(partition));
        });
    }
}

#[cfg(test)]
impl Directory {
    /// An empty directory, and the entries that fill it.
    pub(crate) fn of_entries(partitions: PartitionCounts) -> (Entries, Self) {
        let (known, directory) = Self::empty();
        (Entries { known, partitions }, directory)
    }
}

/// Reads the topic into `known` until `stop`; begins again after an error.
pub async fn read(
    source: Source,
    known: watch::Sender<Known>,
    partitions: PartitionCounts,
    stop: CancellationToken,
) {
    for wait in service::Backoff::for_server() {
        let error = tokio::select! {
            error = read_on(&source, &known, &partitions) => error,
            () = stop.cancelled() => return,
        };
        tracing::warn!(
            topic = OWNERS.name,
            error,
            "reading the directory again from its beginning"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Reads from the beginning on; gives the error that ended it.
async fn read_on(
    source: &Source,
    known: &watch::Sender<Known>,
    partitions: &PartitionCounts,
) -> String {
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
            Ok(records) => take_all(known, partitions, &records),
            Err(error) if error.is_transient() => {
                tracing::debug!(topic = OWNERS.name, %error, "the directory may be behind");
            }
            Err(error) => return error.to_string(),
        }
    }
}

fn take_all(known: &watch::Sender<Known>, partitions: &PartitionCounts, records: &[Record]) {
    known.send_modify(|known| {
        for record in records {
            let partition = record.key.as_deref().and_then(parse_key);
            let partition = partition.filter(|key| key.partition < partitions.of(key.topic));
            let entry = record.value.as_deref().map(Entry::parse);
            match (partition, entry) {
                (Some(partition), Some(Some(entry))) => known.insert(partition, entry),
                (Some(partition), None) => known.remove(partition),
                (None, _) | (Some(_), Some(None)) => {
                    metrics::counter!(names::DIRECTORY_GARBAGE).increment(1);
                    tracing::warn!(
                        topic = OWNERS.name,
                        offset = record.offset,
                        "skipped a record that is not a valid owner's entry"
                    );
                }
            }
        }
        set_metrics(known);
    });
}

/// Brings the metrics up to date.
#[expect(clippy::cast_precision_loss, reason = "a journal has few partitions")]
fn set_metrics(known: &Known) {
    for context in CONTEXTS {
        let topic = context.topic;
        let partitions = known.greatest.keys();
        let count = partitions.filter(|known| known.topic == topic).count();
        metrics::gauge!(names::OWNERS_KNOWN, "topic" => topic).set(count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: TopicPartition = TopicPartition {
        topic: "journal.orders",
        partition: 8,
    };

    fn record(offset: i64, key: &str, value: &str) -> Record {
        Record {
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: Some(key.to_owned().into()),
            value: Some(value.to_owned().into()),
        }
    }

    fn entry(epoch: i64, url: &str) -> String {
        format!(r#"{{"epoch":{epoch},"term":"","url":"{url}"}}"#)
    }

    fn owner_url(directory: &Directory) -> Option<String> {
        let known = directory.known();
        known.owner(PARTITION).map(|entry| entry.url.clone())
    }

    #[test]
    fn the_greatest_epoch_counts_and_garbage_is_skipped() {
        let partitions = PartitionCounts::uniform(9);
        let (sender, directory) = Directory::empty();
        let take = |records: &[Record]| take_all(&sender, &partitions, records);
        let key = schemas::owners::key(PARTITION);
        take(&[
            record(0, &key, &entry(4, "http://a:1")),
            record(1, &key, "garbage"),
            record(2, "nowhere/1", &entry(9, "http://b:1")),
            record(3, &key, &entry(6, "http://c:1")),
            record(4, &key, &entry(5, "http://d:1")),
        ]);
        assert_eq!(owner_url(&directory).as_deref(), Some("http://c:1"));
        // The owner of epoch 6 must publish its entry again, because compaction would leave 5.
        assert_eq!(directory.known().last_epoch(PARTITION), 5);
        let tombstone = Record {
            value: None,
            ..record(5, &key, "")
        };
        take(&[tombstone]);
        assert_eq!(owner_url(&directory), None);
        assert_eq!(directory.known().last_epoch(PARTITION), 0);
        take(&[record(6, &key, &entry(2, "http://e:1"))]);
        assert_eq!(owner_url(&directory).as_deref(), Some("http://e:1"));
    }

    #[test]
    fn an_entry_of_a_partition_that_the_topic_does_not_have_is_skipped() {
        let (sender, directory) = Directory::empty();
        let key = schemas::owners::key(PARTITION);
        let records = [record(0, &key, &entry(4, "http://a:1"))];
        take_all(&sender, &PartitionCounts::uniform(8), &records);
        assert_eq!(owner_url(&directory), None);
        take_all(&sender, &PartitionCounts::uniform(9), &records);
        assert_eq!(owner_url(&directory).as_deref(), Some("http://a:1"));
    }
}
