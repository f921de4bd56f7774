//! The lag of each build behind the ends of its journals, as metrics.

use crate::{builds::Build, metrics as names};
use journal::{Checkpoint, Source, owner::machine_clock};
use metrics::gauge;
use schemas::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(5);

/// A partition of a build.
type BuildPartition = (Build, String, i32);

/// The applied positions of this process's builds, and the partitions that are not applied further. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lags {
    applied: Arc<Mutex<BTreeMap<BuildPartition, Applied>>>,
    stopped: Arc<Mutex<BTreeSet<(BuildPartition, Stop)>>>,
}

/// The reason why a partition of a build is not applied further until an operator acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// A batch can't be applied, and parking its aggregates is no remedy.
    Held,
    /// The journal is not read further, because its log was altered.
    Halted,
}

/// The applied position of a partition.
#[derive(Debug, Clone, Copy)]
struct Applied {
    next_offset: i64,
    /// Log time at this position.
    log_time: Timestamp,
    /// Time of the last measurement at the end of the partition; `None` before the first such measurement.
    behind_since: Option<Instant>,
}

impl Lags {
    /// Records the position of a build.
    pub fn applied(&self, build: Build, checkpoint: &Checkpoint) {
        let mut applied = self.lock();
        let key = (build, checkpoint.topic.clone(), checkpoint.partition);
        let entry = applied.entry(key).or_insert(Applied {
            next_offset: 0,
            log_time: Timestamp(0),
            behind_since: None,
        });
        entry.next_offset = checkpoint.next_offset;
        entry.log_time = checkpoint.log_time;
    }

    /// Records that a partition of a build is not applied further.
    pub fn stops(&self, build: Build, topic: &str, partition: i32, stop: Stop) {
        let key = (build, topic.to_owned(), partition);
        self.lock_stopped().insert((key, stop));
    }

    /// Records that a reason why a partition of a build was not applied further is gone.
    pub fn continues(&self, build: Build, topic: &str, partition: i32, stop: Stop) {
        let mut stopped = self.lock_stopped();
        if !stopped.is_empty() {
            stopped.remove(&((build, topic.to_owned(), partition), stop));
        }
    }

    /// The partitions of a build that are not applied further, by topic and number. A partition that is halted and held
    /// counts as halted.
    pub fn stopped(&self, build: Build) -> BTreeMap<(String, i32), Stop> {
        let stopped = self.lock_stopped();
        let of_build = stopped.iter().filter(|((of, ..), _)| *of == build);
        // In the order of the set, so that the greater reason of a partition replaces the other.
        of_build
            .map(|((_, topic, partition), stop)| ((topic.clone(), *partition), *stop))
            .collect()
    }

    /// Forgets a build, or its partitions in this process.
    pub fn remove(&self, build: Build) {
        let mut applied = self.lock();
        applied.retain(|key, _| {
            let is_other = key.0 != build;
            if !is_other {
                report(key, 0, 0.0);
            }
            is_other
        });
        self.lock_stopped().retain(|(key, _)| key.0 != build);
    }

    /// Measures until `stop`.
    pub async fn measure(self, source: Source, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.measure_once(&source).await {
                tracing::debug!(%error, "failed to measure the lag of the views");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn measure_once(&self, source: &Source) -> Result<(), kafka::admin::AdminError> {
        let partition = |(_, topic, partition): &BuildPartition| (topic.clone(), *partition);
        let partitions = self.lock().keys().map(partition).collect();
        let ends = source.admin.ends(partitions).await?;
        let (now, time) = (Instant::now(), machine_clock());
        for (key, applied) in self.lock().iter_mut() {
            if let Some(end) = ends.get(&(key.1.clone(), key.2)) {
                let (records, seconds) = applied.lag(*end, now, time);
                report(key, records, seconds);
            }
        }
        Ok(())
    }

    fn lock_stopped(&self) -> MutexGuard<'_, BTreeSet<(BuildPartition, Stop)>> {
        self.stopped.lock().expect("no holder of this lock panics")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BuildPartition, Applied>> {
        self.applied.lock().expect("no holder of this lock panics")
    }
}

impl Applied {
    /// Returns the records and the seconds between the position and the end. A partition may be idle for a long time
    /// before its next record, so the seconds count at most from the last measurement at the end.
    fn lag(&mut self, end: i64, now: Instant, time: Timestamp) -> (i64, f64) {
        let records = (end - self.next_offset).max(0);
        if records == 0 {
            self.behind_since = Some(now);
            return (0, 0.0);
        }
        let since_log_time = (time.0 - self.log_time.0).max(0) as f64 / 1e6;
        let seconds = match self.behind_since {
            Some(since) => since_log_time.min((now - since).as_secs_f64()),
            None => since_log_time,
        };
        (records, seconds)
    }
}

fn report((build, topic, partition): &BuildPartition, records: i64, seconds: f64) {
    let labels = [
        ("view", build.view.to_owned()),
        ("build", build.number.to_string()),
        ("topic", topic.clone()),
        ("partition", partition.to_string()),
    ];
    gauge!(names::LAG_RECORDS, &labels).set(records as f64);
    gauge!(names::LAG_SECONDS, &labels).set(seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_stopped_until_it_continues_or_its_build_is_removed() {
        let [build, other] = ["orders_v2", "catalog_v1"].map(Build::first);
        let (lags, topic) = (Lags::default(), "journal.orders");
        lags.stops(build, topic, 0, Stop::Halted);
        lags.stops(build, topic, 1, Stop::Held);
        lags.stops(other, topic, 1, Stop::Held);
        lags.continues(build, topic, 0, Stop::Halted);
        let held = BTreeMap::from([((topic.to_owned(), 1), Stop::Held)]);
        assert_eq!(lags.stopped(build), held);
        lags.remove(build);
        assert_eq!(lags.stopped(build), BTreeMap::new());
        assert_eq!(lags.stopped(other), held);
    }

    /// Batches that were read before the halt are applied afterwards.
    #[test]
    fn a_halted_partition_stays_halted_when_its_held_batch_is_applied() {
        let (lags, build, topic) = (Lags::default(), Build::first("orders_v2"), "journal.orders");
        lags.stops(build, topic, 0, Stop::Halted);
        lags.stops(build, topic, 0, Stop::Held);
        let halted = BTreeMap::from([((topic.to_owned(), 0), Stop::Halted)]);
        assert_eq!(lags.stopped(build), halted);
        lags.continues(build, topic, 0, Stop::Held);
        assert_eq!(lags.stopped(build), halted);
    }

    fn second(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn a_new_build_is_as_late_as_its_last_record_and_an_idle_one_is_not_late() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut applied = Applied {
            next_offset: 10,
            log_time: second(100),
            behind_since: None,
        };
        assert_eq!(applied.lag(15, at(0), second(400)), (5, 300.0));
        assert_eq!(applied.lag(10, at(5), second(405)), (0, 0.0));
        // A record arrives after a long time, and is not applied.
        assert_eq!(applied.lag(11, at(10), second(410)), (1, 5.0));
        assert_eq!(applied.lag(12, at(15), second(415)), (2, 10.0));
        // Under load, the time of the last applied record is closer.
        (applied.next_offset, applied.log_time) = (12, second(419));
        assert_eq!(applied.lag(13, at(20), second(420)), (1, 1.0));
    }
}
