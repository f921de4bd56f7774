//! Publishes in `journal.owners` which partitions this node owns.
//!
//! Readers believe the entry of the greatest epoch. An entry of a greater epoch than that of the serving
//! owner is usually its successor's. It may also be stale, or belong to a journal that was since recreated,
//! and would then always count. So an owner that still serves some time after it read such an entry
//! contests it: it writes a tombstone, by which readers forget the entry, and then its own entry. If the
//! contested entry has an owner after all, that owner publishes it again, as every owner without an entry
//! does; so each entry is contested once.

use super::Directory;
use crate::{metrics as names, owners::OwnerStatuses};
use journal::owner::Status;
use kafka::Publisher;
use schemas::{
    owners::{Entry, key},
    topics::{OWNERS, TopicPartition},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Time after which an entry is published again if it has not been read back.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// Time after which an entry of a greater epoch than that of a serving owner is contested. If the entry is
/// its successor's, any command makes the owner step down within this time.
const CONTEST_AFTER: Duration = Duration::from_secs(5);

/// Publishes this node's entries.
pub struct OwnershipPublisher {
    publisher: Publisher,
    own_url: String,
    statuses: OwnerStatuses,
    directory: Directory,
    /// The epoch published last for each partition, and when.
    published: HashMap<TopicPartition, (i64, Instant)>,
    contests: Contests,
}

/// Entries of greater epochs than those of serving owners, by partition.
type Contests = HashMap<TopicPartition, Contest>;

/// An entry that must be contested, or was contested.
struct Contest {
    entry: Entry,
    since: Instant,
    is_over: bool,
}

impl OwnershipPublisher {
    /// A publisher for the owners behind `statuses`.
    pub fn new(
        publisher: Publisher,
        own_url: String,
        statuses: OwnerStatuses,
        directory: Directory,
    ) -> Self {
        Self {
            publisher,
            own_url,
            statuses,
            directory,
            published: HashMap::new(),
            contests: Contests::new(),
        }
    }

    /// Publishes an entry for every serving owner of this node, and again wherever the last entry of the
    /// topic has a lesser epoch; until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            stop.run_until_cancelled(self.contest()).await;
            stop.run_until_cancelled(self.publish()).await;
            tokio::select! {
                () = self.statuses.changed() => {}
                () = self.directory.changed() => {}
                () = sleep(PUBLISH_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Contests the entries that are due.
    async fn contest(&mut self) {
        let due = entries_to_contest(&self.statuses, &self.directory, &mut self.contests);
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
        let due = entries_to_publish(&self.statuses, &self.directory, &self.published);
        if due.is_empty() {
            return;
        }
        let records: Vec<(String, Vec<u8>)> = due
            .iter()
            .map(|(partition, epoch, term)| {
                let entry = Entry {
                    epoch: *epoch,
                    term: hex::encode(term),
                    url: self.own_url.clone(),
                };
                (key(*partition), entry.to_json().into_bytes())
            })
            .collect();
        if let Err(error) = self.publisher.publish(OWNERS.name, &records).await {
            tracing::warn!(%error, "entries of serving owners could not be published yet");
        }
        let now = Instant::now();
        let published = due.into_iter();
        self.published
            .extend(published.map(|(partition, epoch, _)| (partition, (epoch, now))));
    }
}

/// The epoch and the term of an owner that serves.
fn serving(status: &Status) -> Option<(i64, [u8; 16])> {
    match status {
        Status::Serving { epoch, term } => Some((*epoch, *term)),
        Status::Standby | Status::TakingOver(_) | Status::SteppingDown | Status::Ended(_) => None,
    }
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
        let entry = serving(&status).zip(known.owner(partition));
        let greater = entry.filter(|((epoch, _), entry)| entry.epoch > *epoch);
        let contest = contests.get(&partition);
        match (greater, contest) {
            (Some((_, entry)), Some(contest)) if contest.entry == *entry => {
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
            // An entry that was contested is remembered, in case it comes again.
            (None, Some(contest)) if contest.is_over => {}
            (None, Some(_) | None) => drop(contests.remove(&partition)),
        }
    }
    due
}

/// Records for which partitions a tombstone was written.
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
            "contested an entry of a greater epoch than that of the serving owner"
        );
    }
}

/// The serving owners whose epoch is greater than that of the topic's last entry.
fn entries_to_publish(
    statuses: &OwnerStatuses,
    directory: &Directory,
    published: &HashMap<TopicPartition, (i64, Instant)>,
) -> Vec<(TopicPartition, i64, [u8; 16])> {
    let known = directory.known();
    let is_just_published = |partition: TopicPartition, epoch: i64| {
        let last = published.get(&partition);
        last.is_some_and(|(sent, at)| *sent == epoch && at.elapsed() < PUBLISH_INTERVAL)
    };
    statuses
        .all()
        .filter_map(|(partition, status)| {
            let (epoch, term) = serving(&status)?;
            Some((partition, epoch, term))
        })
        .filter(|(partition, epoch, _)| known.last_epoch(*partition) < *epoch)
        .filter(|(partition, epoch, _)| !is_just_published(*partition, *epoch))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::topics::PartitionCounts;
    use tokio::{sync::watch, time::advance};

    /// The journals have this many partitions each.
    fn partitions() -> PartitionCounts {
        PartitionCounts::uniform(3)
    }

    /// Serving owners of every partition.
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

    #[tokio::test(start_paused = true)]
    async fn a_stale_entry_is_contested_once_and_readers_recover() {
        let (_senders, statuses) = serving_owners(3);
        let (entries, directory) = Directory::of_entries(partitions());
        let (mut contests, published) = (Contests::new(), HashMap::new());
        let mut contested = || entries_to_contest(&statuses, &directory, &mut contests);
        let count = partitions().journal_partitions().count();
        entries.put_all(9, "http://stale:1");
        assert!(entries_to_publish(&statuses, &directory, &published).is_empty());
        assert!(contested().is_empty());
        advance(CONTEST_AFTER).await;
        let due = contested();
        assert_eq!(due.len(), count);
        mark_contested(&due, &mut contests);
        let mut contested = || entries_to_contest(&statuses, &directory, &mut contests);
        // After its tombstone the owner publishes its own entry.
        entries.remove_all();
        assert!(contested().is_empty());
        let due = entries_to_publish(&statuses, &directory, &published);
        assert_eq!(due.len(), count);
        // The contested entry comes again, so its owner exists.
        entries.put_all(9, "http://stale:1");
        advance(CONTEST_AFTER * 3).await;
        assert!(contested().is_empty());
        advance(CONTEST_AFTER).await;
        assert!(contested().is_empty());
        // Another entry is contested again.
        entries.put_all(10, "http://other:1");
        assert!(contested().is_empty());
        advance(CONTEST_AFTER).await;
        assert_eq!(contested().len(), count);
    }

    #[tokio::test(start_paused = true)]
    async fn the_entry_of_a_successor_is_not_contested() {
        let (senders, statuses) = serving_owners(3);
        let (entries, directory) = Directory::of_entries(partitions());
        let mut contests = Contests::new();
        entries.put_all(4, "http://b:1");
        assert!(entries_to_contest(&statuses, &directory, &mut contests).is_empty());
        for sender in &senders {
            sender.send_replace(Status::Standby);
        }
        advance(CONTEST_AFTER).await;
        assert!(entries_to_contest(&statuses, &directory, &mut contests).is_empty());
        assert!(contests.is_empty());
    }
}
