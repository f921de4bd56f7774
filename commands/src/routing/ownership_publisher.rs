//! Publishes in `journal.owners` which partitions this node owns, and which it declines.
//!
//! An entry has the fingerprint of the node's hash key, and the last record that the owner has proved, so
//! that no node continues with a log that lost the record.
//!
//! Readers use the entry with the greatest epoch. An entry with a greater epoch than the serving owner's is
//! usually its successor's. It may also be stale, or belong to a journal that was recreated since, and would
//! then win permanently. So an owner that still serves some time after it read such an entry contests it: it
//! writes a tombstone, which makes readers forget the entry, and then its own entry. If the contested entry
//! has an owner after all, that owner publishes it again, like every owner without an entry. So each entry is
//! contested only once.

use super::{Directory, owners_view::OwnersView, self_eviction::fault};
use crate::{metrics as names, owners::OwnerStatuses};
use kafka::Publisher;
use schemas::{
    owners::{Entry, ProvedRecord, key},
    topics::{OWNERS, TopicPartition},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Time after which an entry is published again if it has not been read back.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);
/// Time after which an entry is published again with the record proved last. If a log loses only records that
/// were proved since the last publication, only the owner's state store shows it.
const PROVED_INTERVAL: Duration = Duration::from_secs(5);
/// Time after which an entry with a greater epoch than the serving owner's is contested. If the entry is its
/// successor's, any command makes the owner step down within this time.
const CONTEST_AFTER: Duration = Duration::from_secs(5);
/// Time after which a partition that this node declines is offered to other nodes. In this time, this node learns
/// whether another node serves it.
const DECLINE_AFTER: Duration = Duration::from_secs(3);

/// Publishes this node's entries.
pub struct OwnershipPublisher {
    publisher: Publisher,
    node: OwnNode,
    view: OwnersView,
    /// By partition, the epoch of the last published entry and the time of its publication.
    published: HashMap<TopicPartition, (i64, Instant)>,
    declined: HashMap<TopicPartition, Instant>,
    contests: Contests,
}

/// The contents of this node's entries.
pub struct OwnNode {
    /// The URL at which it takes commands from other nodes.
    pub url: String,
    /// The fingerprint of its hash key.
    pub hash_key: String,
    /// The last record that its owner of a partition has proved.
    pub proved: Arc<dyn Fn(TopicPartition) -> Option<ProvedRecord> + Send + Sync>,
}

/// By partition, an entry with a greater epoch than the serving owner's.
type Contests = HashMap<TopicPartition, Contest>;

/// An entry that must be contested, or was contested.
struct Contest {
    entry: Entry,
    since: Instant,
    is_over: bool,
}

impl OwnershipPublisher {
    /// A publisher for the owners of this node.
    pub fn new(publisher: Publisher, node: OwnNode, view: OwnersView) -> Self {
        Self {
            publisher,
            node,
            view,
            published: HashMap::new(),
            declined: HashMap::new(),
            contests: Contests::new(),
        }
    }

    /// Publishes an entry for every serving owner of this node until `stop`, and publishes it again if the
    /// topic's last entry of the partition differs.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            stop.run_until_cancelled(self.contest()).await;
            stop.run_until_cancelled(self.publish()).await;
            tokio::select! {
                () = self.view.statuses.changed() => {}
                () = self.view.directory.changed() => {}
                () = sleep(PUBLISH_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Contests the entries that are due.
    async fn contest(&mut self) {
        let (statuses, directory) = (&self.view.statuses, &self.view.directory);
        let due = entries_to_contest(statuses, directory, &mut self.contests);
        if due.is_empty() {
            return;
        }
        let keys: Vec<String> = due.iter().copied().map(key).collect();
        match self.publisher.publish_tombstones(OWNERS.name, &keys).await {
            Ok(()) => mark_contested(&due, &mut self.contests),
            Err(error) => tracing::warn!(%error, "stale entries could not be contested yet"),
        }
    }

    /// Publishes the entries that are due.
    async fn publish(&mut self) {
        let (statuses, directory) = (&self.view.statuses, &self.view.directory);
        let mut due = entries_to_publish(statuses, directory, &self.node, &self.published);
        due.extend(self.entries_to_decline());
        if due.is_empty() {
            return;
        }
        let records: Vec<(String, Vec<u8>)> = due
            .iter()
            .map(|(partition, entry)| (key(*partition), entry.to_json().into_bytes()))
            .collect();
        if let Err(error) = self.publisher.publish(OWNERS.name, &records).await {
            tracing::warn!(%error, "entries of this node's owners could not be published yet");
        }
        let now = Instant::now();
        let published = due.into_iter();
        self.published
            .extend(published.map(|(partition, entry)| (partition, (entry.epoch, now))));
    }

    /// The entries of partitions that this node declines, that another node may be able to own, and that no
    /// node serves.
    fn entries_to_decline(&mut self) -> Vec<(TopicPartition, Entry)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (partition, status) in self.view.statuses.all() {
            let Some((reason, epoch)) = fault(&status) else {
                self.declined.remove(&partition);
                continue;
            };
            let since = *self.declined.entry(partition).or_insert(now);
            let known = self.view.directory.known().entry(partition).cloned();
            let entry = declining(known.as_ref(), &self.node.url, epoch, reason);
            let is_offered =
                known.is_some_and(|known| known.declined.is_some() && known.epoch >= entry.epoch);
            let is_served = self.view.other_server(partition, epoch).is_some();
            if now - since >= DECLINE_AFTER && !is_served && !is_offered {
                due.push((partition, entry));
            }
        }
        due
    }
}

/// The entry of a node that declines a partition. It keeps the known proved record and the hash key.
fn declining(known: Option<&Entry>, own_url: &str, epoch: i64, reason: &str) -> Entry {
    let entry = match known {
        Some(known) if known.epoch >= epoch => known.clone(),
        // The announcement of this node has ended the term of that entry.
        Some(known) => Entry {
            epoch,
            term: String::new(),
            ..known.clone()
        },
        None => Entry::new(epoch.max(1), "", ""),
    };
    let entry = Entry {
        url: own_url.to_owned(),
        ..entry
    };
    entry.declining(reason)
}

/// The partitions whose entry must be contested now.
fn entries_to_contest(
    statuses: &OwnerStatuses,
    directory: &Directory,
    contests: &mut Contests,
) -> Vec<TopicPartition> {
    let known = directory.known();
    let mut due = Vec::new();
    for (partition, status) in statuses.all() {
        let entry = status.served_term().zip(known.entry(partition));
        let greater = entry.filter(|((epoch, _), entry)| entry.epoch > *epoch);
        let contest = contests.get(&partition);
        match (greater, contest) {
            (Some((_, entry)), Some(contest)) if is_of_same_owner(&contest.entry, entry) => {
                if !contest.is_over && contest.since.elapsed() >= CONTEST_AFTER {
                    due.push(partition);
                }
            }
            (Some((_, entry)), Some(_) | None) => {
                let contest = Contest {
                    entry: entry.clone(),
                    since: Instant::now(),
                    is_over: false,
                };
                contests.insert(partition, contest);
            }
            // A contested entry is remembered, in case it appears again.
            (None, Some(contest)) if contest.is_over => {}
            (None, Some(_) | None) => drop(contests.remove(&partition)),
        }
    }
    due
}

/// Marks the partitions for which a tombstone was written.
fn mark_contested(contested: &[TopicPartition], contests: &mut Contests) {
    for target in contested {
        let Some(contest) = contests.get_mut(target) else {
            continue;
        };
        contest.is_over = true;
        let TopicPartition { topic, partition } = *target;
        let (epoch, url) = (contest.entry.epoch, &contest.entry.url);
        metrics::counter!(names::ENTRIES_CONTESTED, "topic" => topic).increment(1);
        tracing::warn!(
            topic,
            partition,
            epoch,
            url,
            "contested an entry with a greater epoch than the serving owner's"
        );
    }
}

/// The entries of serving owners that differ from the topic's last entry. A last entry with a greater epoch
/// is contested first. One with the same epoch and another term belongs to a journal that was recreated
/// since.
fn entries_to_publish(
    statuses: &OwnerStatuses,
    directory: &Directory,
    node: &OwnNode,
    published: &HashMap<TopicPartition, (i64, Instant)>,
) -> Vec<(TopicPartition, Entry)> {
    let known = directory.known();
    let mut due = Vec::new();
    for (partition, status) in statuses.all() {
        let Some((epoch, term)) = status.served_term() else {
            continue;
        };
        let entry = Entry {
            proved: (node.proved)(partition).map(Box::new),
            hash_key: Some(node.hash_key.as_str().into()),
            ..Entry::new(epoch, hex::encode(term), node.url.clone())
        };
        let interval = match known.last(partition) {
            Some(last) if *last == entry || last.epoch > epoch => continue,
            Some(last) if is_of_same_owner(last, &entry) => PROVED_INTERVAL,
            Some(_) | None => PUBLISH_INTERVAL,
        };
        let last = published.get(&partition);
        if last.is_none_or(|(sent, at)| *sent != epoch || at.elapsed() >= interval) {
            due.push((partition, entry));
        }
    }
    due
}

/// Whether two entries are equal except for the proved record.
fn is_of_same_owner(one: &Entry, other: &Entry) -> bool {
    Entry {
        proved: None,
        ..one.clone()
    } == Entry {
        proved: None,
        ..other.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::owner::Status;
    use schemas::topics::PartitionCounts;
    use tokio::{sync::watch, time::advance};

    /// The number of partitions of each journal.
    fn partitions() -> PartitionCounts {
        PartitionCounts::uniform(3)
    }

    /// A serving owner for every partition.
    fn serving_owners(epoch: i64) -> (Vec<watch::Sender<Status>>, OwnerStatuses) {
        let serving = Status::Serving {
            epoch,
            term: [3; 16],
        };
        let channel = |partition| {
            let (sender, receiver) = watch::channel(serving.clone());
            (sender, (partition, receiver))
        };
        let channels = partitions().journal_partitions().map(channel).unzip();
        let (senders, statuses): (_, Vec<_>) = channels;
        (senders, OwnerStatuses::new(statuses))
    }

    const OWN_URL: &str = "http://a:1";

    /// A node whose owners have all proved the record at this offset.
    fn node(offset: i64) -> OwnNode {
        let proved = ProvedRecord {
            log_id: [1; 32],
            offset,
            hash: [2; 32],
        };
        OwnNode {
            url: OWN_URL.into(),
            hash_key: "0011223344556677".into(),
            proved: Arc::new(move |_| Some(proved)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_entry_of_the_same_epoch_is_overwritten() {
        let (_senders, statuses) = serving_owners(3);
        let (entries, directory) = Directory::of_entries(partitions());
        let published = HashMap::new();
        let due = || entries_to_publish(&statuses, &directory, &node(7), &published);
        // The serving owners have another term.
        entries.put(&Entry::new(
            3,
            "09".repeat(16),
            "http://of-a-deleted-journal:1",
        ));
        let stale = due();
        assert_eq!(stale.len(), partitions().journal_partitions().count());
        for (_, entry) in &stale {
            assert_eq!((entry.epoch, entry.url.as_str()), (3, OWN_URL));
            entries.put(entry);
        }
        assert_eq!(due(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_proved_record_is_published_again_some_time_after_it_has_changed() {
        let (_senders, statuses) = serving_owners(3);
        let (entries, directory) = Directory::of_entries(partitions());
        let mut published = HashMap::new();
        let (_, first) = entries_to_publish(&statuses, &directory, &node(7), &published)[0].clone();
        let offset_of = |entry: &Entry| entry.proved.as_ref().map(|proved| proved.offset);
        assert_eq!(offset_of(&first), Some(7));
        assert_eq!(first.hash_key.as_deref(), Some("0011223344556677"));
        entries.put(&first);
        let now = Instant::now();
        published.extend(partitions().journal_partitions().map(|one| (one, (3, now))));
        let due = entries_to_publish(&statuses, &directory, &node(8), &published);
        assert_eq!(due, [], "too early");
        advance(PROVED_INTERVAL).await;
        let due = entries_to_publish(&statuses, &directory, &node(7), &published);
        assert_eq!(due, [], "no new offset");
        let due = entries_to_publish(&statuses, &directory, &node(8), &published);
        assert_eq!(due.len(), partitions().journal_partitions().count());
        assert_eq!(offset_of(&due[0].1), Some(8));
    }

    #[test]
    fn an_entry_that_declines_keeps_the_proved_record_and_the_hash_key() {
        let owner = Entry {
            proved: Some(Box::new(ProvedRecord {
                log_id: [1; 32],
                offset: 7,
                hash: [2; 32],
            })),
            hash_key: Some("0011223344556677".into()),
            ..Entry::new(4, "04".repeat(16), "http://b:1")
        };
        let declined = declining(Some(&owner), OWN_URL, 4, "newer software");
        let expected = Entry {
            url: OWN_URL.into(),
            declined: Some("newer software".into()),
            ..owner.clone()
        };
        assert_eq!(declined, expected);
        // It has announced itself before it declined.
        let declined = declining(Some(&owner), OWN_URL, 5, "the clock");
        assert_eq!((declined.epoch, declined.proved), (5, owner.proved));
        assert_eq!(declining(None, OWN_URL, 0, "newer software").epoch, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stale_entry_is_contested_once_and_readers_recover() {
        let (_senders, statuses) = serving_owners(3);
        let (entries, directory) = Directory::of_entries(partitions());
        let (mut contests, published) = (Contests::new(), HashMap::new());
        let mut contested = || entries_to_contest(&statuses, &directory, &mut contests);
        let due = || entries_to_publish(&statuses, &directory, &node(7), &published);
        let count = partitions().journal_partitions().count();
        entries.put_all(9, "http://stale:1");
        assert_eq!(due(), []);
        assert_eq!(contested(), []);
        advance(CONTEST_AFTER).await;
        let stale = contested();
        assert_eq!(stale.len(), count);
        mark_contested(&stale, &mut contests);
        let mut contested = || entries_to_contest(&statuses, &directory, &mut contests);
        // After its tombstone the owner publishes its own entry.
        entries.remove_all();
        assert_eq!(contested(), []);
        assert_eq!(due().len(), count);
        // The contested entry appears again, so its owner exists.
        entries.put_all(9, "http://stale:1");
        advance(CONTEST_AFTER * 3).await;
        assert_eq!(contested(), []);
        advance(CONTEST_AFTER).await;
        assert_eq!(contested(), []);
        // Another entry is contested again.
        entries.put_all(10, "http://other:1");
        assert_eq!(contested(), []);
        advance(CONTEST_AFTER).await;
        assert_eq!(contested().len(), count);
    }

    #[tokio::test(start_paused = true)]
    async fn the_entry_of_a_successor_is_not_contested() {
        let (senders, statuses) = serving_owners(3);
        let (entries, directory) = Directory::of_entries(partitions());
        let mut contests = Contests::new();
        entries.put_all(4, "http://b:1");
        assert_eq!(entries_to_contest(&statuses, &directory, &mut contests), []);
        for sender in &senders {
            sender.send_replace(Status::Standby);
        }
        advance(CONTEST_AFTER).await;
        assert_eq!(entries_to_contest(&statuses, &directory, &mut contests), []);
        assert_eq!(contests.len(), 0);
    }
}
