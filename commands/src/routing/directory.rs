//! The directory: which node owns which partition, according to the owners' entries in `journal.owners`.
//!
//! The entry with the greatest epoch wins, and the last one among several with that epoch. Invalid records
//! are skipped. So the directory may be behind, but is not wrong for long. A node that declines its partition
//! publishes an entry that says so; the partition then has no owner until another node serves it. A tombstone
//! cancels all entries before it. An owner writes one if an entry with a greater epoch than its own stays,
//! because that entry may have no owner (see [`super::ownership_publisher`]). While Kafka is unreachable, the
//! entries read so far stay.

use crate::metrics as names;
use journal::Source;
use kafka::{BatchConsumer, BoundedReader, Fetch, Record, Span};
use schemas::{
    CONTEXTS,
    owners::{Entry, parse_key},
    topics::{OWNERS, PartitionCounts, TopicPartition},
};
use std::collections::HashMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Watches the entries read so far.
#[derive(Debug, Clone)]
pub struct Directory {
    known: watch::Receiver<Known>,
}

/// The entries read so far.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// By partition, the entry with the greatest epoch, or the last one among several with that epoch.
    greatest: HashMap<TopicPartition, Entry>,
    /// By partition, the last entry, which compaction keeps.
    last: HashMap<TopicPartition, Entry>,
    /// Whether everything was read that the topic held when reading started.
    is_complete: bool,
}

impl Known {
    /// The entry of a partition's owner; `None` if it has none, or if a node declined the partition since.
    pub fn owner(&self, partition: TopicPartition) -> Option<&Entry> {
        let entry = self.entry(partition);
        entry.filter(|entry| entry.declined.is_none())
    }

    /// The entries of all owners.
    pub fn owners(&self) -> impl Iterator<Item = (TopicPartition, &Entry)> {
        let entries = self.greatest.iter();
        entries
            .filter(|(_, entry)| entry.declined.is_none())
            .map(|(partition, entry)| (*partition, entry))
    }

    /// The entry with the greatest epoch. It belongs to the owner, or to a node that declined the partition.
    pub fn entry(&self, partition: TopicPartition) -> Option<&Entry> {
        self.greatest.get(&partition)
    }

    /// The last entry. A reader that begins now may find only this one.
    pub fn last(&self, partition: TopicPartition) -> Option<&Entry> {
        self.last.get(&partition)
    }

    /// Whether everything was read that the topic held when reading started. Before that, a partition may have
    /// an owner, and its log a proved record, that this node does not know of.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn insert(&mut self, partition: TopicPartition, entry: Entry) {
        let known = self.entry(partition);
        // Two terms have the same epoch if the journal was recreated; the later one is in force.
        if known.is_none_or(|known| known.epoch <= entry.epoch) {
            self.greatest.insert(partition, entry.clone());
        }
        self.last.insert(partition, entry);
    }

    fn remove(&mut self, partition: TopicPartition) {
        self.last.remove(&partition);
        self.greatest.remove(&partition);
    }
}

impl Directory {
    /// An empty directory, and the sender that fills it.
    pub fn empty() -> (watch::Sender<Known>, Self) {
        let (sender, known) = watch::channel(Known::default());
        (sender, Self { known })
    }

    /// The entries known now. Do not hold them across an await.
    pub fn known(&self) -> watch::Ref<'_, Known> {
        self.known.borrow()
    }

    /// Marks the entries known now as seen, so that [`Directory::changed`] waits for more.
    pub fn mark_seen(&mut self) {
        self.known.mark_unchanged();
    }

    /// Returns once the entries have changed since the last call. If the reader has ended, it never returns.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Fills the directory of a test with the same entry for every partition.
#[cfg(test)]
pub(crate) struct Entries {
    known: watch::Sender<Known>,
    partitions: PartitionCounts,
}

#[cfg(test)]
impl Entries {
    /// Reads an entry for every partition.
    pub(crate) fn put_all(&self, epoch: i64, url: &str) {
        self.put(&Entry::new(epoch, "", url));
    }

    /// Reads this entry for every partition.
    pub(crate) fn put(&self, entry: &Entry) {
        self.known.send_modify(|known| {
            for partition in self.partitions.journal_partitions() {
                known.insert(partition, entry.clone());
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
    /// A directory that was read to its end and is empty, and the entries that fill it.
    pub(crate) fn of_entries(partitions: PartitionCounts) -> (Entries, Self) {
        let (known, directory) = Self::empty();
        known.send_modify(|known| known.is_complete = true);
        (Entries { known, partitions }, directory)
    }
}

/// Reads the topic into `known` until `stop`; starts from the beginning after an error.
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

/// Reads from the beginning on; returns the error that ended it.
async fn read_on(
    source: &Source,
    known: &watch::Sender<Known>,
    partitions: &PartitionCounts,
) -> String {
    let end = match read_to_end(source, known, partitions).await {
        Ok(end) => end,
        Err(error) => return error,
    };
    known.send_if_modified(|known| !std::mem::replace(&mut known.is_complete, true));
    let consumer = BatchConsumer::start(&source.kafka, "directory", OWNERS.name, &[(0, end)]);
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

/// Reads everything that the topic holds now; returns the topic's end.
async fn read_to_end(
    source: &Source,
    known: &watch::Sender<Known>,
    partitions: &PartitionCounts,
) -> Result<i64, String> {
    let span = Span::measure(&source.admin, OWNERS.name, 0).await;
    let span = span.map_err(|error| error.to_string())?;
    let fetch = Fetch::Small;
    let reader = BoundedReader::start(&source.kafka, "directory", OWNERS.name, &[span], fetch);
    let mut reader = reader.map_err(|error| error.to_string())?;
    while let Some(records) = reader.next().await.map_err(|error| error.to_string())? {
        take_all(known, partitions, &records);
    }
    Ok(span.end)
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
                        "skipped a record that is not a valid entry of an owner"
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
    fn the_greatest_epoch_wins_and_garbage_is_skipped() {
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
        // The owner of epoch 6 must publish its entry again, because compaction would keep only epoch 5.
        let last_epoch = |directory: &Directory| {
            let known = directory.known();
            known.last(PARTITION).map(|entry| entry.epoch)
        };
        assert_eq!(last_epoch(&directory), Some(5));
        let tombstone = Record {
            value: None,
            ..record(5, &key, "")
        };
        take(&[tombstone]);
        assert_eq!(owner_url(&directory), None);
        assert_eq!(last_epoch(&directory), None);
        take(&[record(6, &key, &entry(2, "http://e:1"))]);
        assert_eq!(owner_url(&directory).as_deref(), Some("http://e:1"));
    }

    /// Applies an entry of [`PARTITION`] to the directory.
    fn take_entry(sender: &watch::Sender<Known>, text: &str) {
        let key = schemas::owners::key(PARTITION);
        let partitions = PartitionCounts::uniform(9);
        take_all(sender, &partitions, &[record(0, &key, text)]);
    }

    #[test]
    fn the_later_entry_wins_among_two_with_one_epoch() {
        let (sender, directory) = Directory::empty();
        let take = |text: String| take_entry(&sender, &text);
        take(entry(3, "http://of-the-deleted-journal:1"));
        take(entry(3, "http://of-the-new-journal:1"));
        let owner = owner_url(&directory);
        assert_eq!(owner.as_deref(), Some("http://of-the-new-journal:1"));
    }

    #[test]
    fn a_declined_partition_has_no_owner_until_another_node_serves() {
        let (sender, directory) = Directory::empty();
        let take = |text: String| take_entry(&sender, &text);
        take(entry(3, "http://a:1"));
        let declined = Entry::new(3, "", "http://b:1").declining("its clock is wrong");
        take(declined.to_json());
        assert_eq!(owner_url(&directory), None);
        assert_eq!(directory.known().entry(PARTITION), Some(&declined));
        take(entry(4, "http://c:1"));
        assert_eq!(owner_url(&directory).as_deref(), Some("http://c:1"));
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
