//! Detects when a serving build that is projected from the start has caught up.
//!
//! Two kinds of builds serve from the start of their projection: the first build of a view, and a build that replaces
//! one that lost tables or that an operator reset. At first, the rows of such a build are only a part of the view. So
//! its queries are refused until the build has read every offset that the journals had when this process first noticed
//! the build. The list of builds then stores that it has caught up, for all processes and later starts. The process is
//! ready meanwhile, because commands and the other views do not depend on the build; `/health/ready` has a note with
//! the progress. Versions of a view that do not answer queries are not measured.
//!
//! A halted partition counts as read. A partition that is held for an operator counts as read once another partition of
//! the view is read. Otherwise the view would answer no queries until an operator acts. Readiness names the halted and
//! the held partitions.

use crate::{
    builds::{Build, BuildId, CatchUp, Entry, Serving, State, registry},
    databases::Databases,
    lag::{Lags, Stop},
    operations::{AdminError, Positions},
    postgres::close_older_connections,
    registration::Registration,
    repeated_failure::RepeatedFailure,
};
use journal::Source;
use schemas::topics::PartitionCounts;
use service::{Backoff, health::Health};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Shortest time between two measurements.
const INTERVAL_MIN: Duration = Duration::from_millis(25);
/// Longest time between two measurements.
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Longest time for one measurement of one view. It limits the delay for the other views while a database does not
/// answer.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time during which an end of 0 is not trusted. A broker that has just become the leader may report 0 until its
/// followers have fetched from it. Any other end that is too low does no harm: the build is then slightly behind, as
/// every build may be.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Measures the serving builds that have not caught up.
pub(crate) struct CatchUpCheck {
    databases: Databases,
    source: Source,
    partitions: PartitionCounts,
    health: Health,
    lags: Lags,
    views: &'static [Registration],
    /// The offsets that each build must read.
    targets: BTreeMap<BuildId, Target>,
    /// The views whose last measurement failed.
    failures: BTreeMap<&'static str, Failing>,
}

/// The offsets that a build must read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    ends: Positions,
    /// The time of the first measurement.
    measured: Instant,
    /// Whether the ends are trusted: none is 0, or [`SETTLE_TIME`] has passed.
    is_settled: bool,
}

/// Failed measurements of a view.
#[derive(Debug, Default)]
struct Failing {
    failure: RepeatedFailure,
    /// The reason of the last failure.
    reason: String,
}

impl Target {
    fn new(ends: Positions) -> Self {
        let is_settled = ends.values().all(|end| *end > 0);
        Self {
            ends,
            measured: Instant::now(),
            is_settled,
        }
    }

    /// Keeps the greater end of each partition.
    fn add(&mut self, ends: Positions) {
        for (partition, end) in ends {
            let known = self.ends.entry(partition).or_default();
            *known = end.max(*known);
        }
        let is_over = self.measured.elapsed() >= SETTLE_TIME;
        self.is_settled = is_over || self.ends.values().all(|end| *end > 0);
    }
}

impl CatchUpCheck {
    /// Checks the builds of these views. `lags` has the partitions that this process does not apply further.
    pub fn new(
        databases: Databases,
        source: Source,
        partitions: PartitionCounts,
        health: Health,
        lags: Lags,
        views: &'static [Registration],
    ) -> Self {
        Self {
            databases,
            source,
            partitions,
            health,
            lags,
            views,
            targets: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Runs until `stop`. Measures while a serving build has not caught up.
    pub async fn run(mut self, stop: CancellationToken) {
        // Safe to drop at any point: the next process measures again.
        stop.run_until_cancelled(self.measure()).await;
    }

    async fn measure(&mut self) {
        let mut waits = Backoff::doubling(INTERVAL_MIN, INTERVAL_MAX);
        let names: Vec<&str> = self.views.iter().map(|view| view.name).collect();
        loop {
            // Another process may have stored that a build has caught up.
            self.report();
            self.databases.serving.is_behind(&names).await;
            self.report();
            let mut has_changed = false;
            for view in self.views {
                if self.databases.serving.catch_up(view.name).is_some() {
                    has_changed |= self.try_measure(view).await;
                }
            }
            self.report();
            if has_changed {
                waits.reset();
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Measures the serving build of a view, and keeps the reason of a failure. Returns whether it has caught up.
    async fn try_measure(&mut self, view: &'static Registration) -> bool {
        let measured = match timeout(MEASURE_TIMEOUT, self.measure_view(view)).await {
            Ok(measured) => measured.map_err(|error| {
                close_older_connections(&error);
                error.to_string()
            }),
            Err(_) => Err(format!("no answer within {} s", MEASURE_TIMEOUT.as_secs())),
        };
        let reason = match measured {
            Ok(has_caught_up) => {
                self.failures.remove(view.name);
                return has_caught_up;
            }
            Err(reason) => reason,
        };
        let failing = self.failures.entry(view.name).or_default();
        if failing.failure.add() {
            let view = view.name;
            tracing::warn!(
                view,
                reason,
                "failed to measure how far a build has caught up, retrying"
            );
        }
        failing.reason = reason;
        false
    }

    /// Measures the serving build of a view. Returns whether it has caught up.
    async fn measure_view(&mut self, view: &'static Registration) -> Result<bool, AdminError> {
        let entries = registry::all(&self.databases.projectors).await?;
        let Some(id) = measurable(&entries, view.name) else {
            return Ok(false);
        };
        self.measure_ends(view, id).await?;
        let Some(target) = self.targets.get(&id) else {
            return Ok(false);
        };
        // A build needs no position before the first record.
        let positions = match target.ends.values().all(|end| *end == 0) {
            true => Positions::new(),
            false => {
                let operations = (view.operations)(&self.databases, id.build.number);
                operations.positions().await?
            }
        };
        let catch_up = catch_up(&positions, &target.ends, &self.lags.stopped(id.build));
        if catch_up.read < catch_up.end || !target.is_settled {
            self.databases.serving.set_catch_up(id, Some(catch_up));
            return Ok(false);
        }
        if !registry::set_caught_up(id, &self.databases.projectors).await? {
            // The build was replaced meanwhile.
            return Ok(false);
        }
        self.databases.serving.set_catch_up(id, None);
        self.targets.remove(&id);
        let Build { view, number } = id.build;
        tracing::info!(
            view,
            build = number,
            offsets = catch_up.end,
            "the serving build has caught up"
        );
        Ok(true)
    }

    /// Measures the ends of a view's journals for a build, unless they are trusted already.
    async fn measure_ends(&mut self, view: &Registration, id: BuildId) -> Result<(), AdminError> {
        // The other builds of the view do not serve any more.
        self.targets
            .retain(|known, _| known.build.view != view.name || *known == id);
        if self
            .targets
            .get(&id)
            .is_some_and(|target| target.is_settled)
        {
            return Ok(());
        }
        let ends = self.ends(view).await?;
        match self.targets.get_mut(&id) {
            Some(target) => target.add(ends),
            None => {
                self.targets.insert(id, Target::new(ends));
            }
        }
        Ok(())
    }

    /// The end of each partition of a view's journals.
    async fn ends(&self, view: &Registration) -> Result<Positions, AdminError> {
        let mut ends = Positions::new();
        for topic in view.topics {
            for partition in 0..self.partitions.of(topic) {
                let end = self.source.admin.watermarks(topic, partition).await?.high;
                ends.insert(((*topic).to_owned(), partition), end);
            }
        }
        Ok(ends)
    }

    /// Reports the progress of each view whose serving build has not caught up.
    fn report(&self) {
        for view in self.views {
            let failing = self.failures.get(view.name);
            let reason = failing.map(|failing| failing.reason.as_str());
            report(&self.health, &self.databases.serving, view.name, reason);
        }
    }
}

/// The serving build of a view, if its position can be measured: without tables, the position may be that of an earlier
/// build with the same number.
fn measurable(entries: &[Entry], view: &'static str) -> Option<BuildId> {
    let serving = entries
        .iter()
        .find(|entry| entry.view == view && entry.state == State::Serving)?;
    let number = serving.build;
    serving.has_tables.then_some(BuildId {
        build: Build { view, number },
        created_at: serving.created_at,
    })
}

/// The progress of positions towards a target. A halted partition counts as read. A held partition counts as read if
/// another partition was read: if all are held, the view's code may be at fault, and the view has no rows.
fn catch_up(
    positions: &Positions,
    target: &Positions,
    stopped: &BTreeMap<(String, i32), Stop>,
) -> CatchUp {
    let position = |partition: &(String, i32)| positions.get(partition).copied().unwrap_or(0);
    let is_another_read = target.iter().any(|(partition, end)| {
        *end > 0 && position(partition) >= *end && !stopped.contains_key(partition)
    });
    let read = |(partition, end): (&(String, i32), &i64)| match stopped.get(partition) {
        Some(Stop::Halted) => *end,
        Some(Stop::Held) if is_another_read => *end,
        Some(Stop::Held) | None => position(partition).min(*end),
    };
    CatchUp {
        read: target.iter().map(read).sum(),
        end: target.values().sum(),
    }
}

/// Notes the progress of a view whose serving build has not caught up, and why it could not be measured.
fn report(health: &Health, serving: &Serving, view: &str, failure: Option<&str>) {
    let name = format!("rebuild.{view}");
    let Some(CatchUp { read, end }) = serving.catch_up(view) else {
        health.remove_note(&name);
        return;
    };
    let progress =
        format!("the view {view} is still being projected: {read} of {end} offsets are read");
    let text = match failure {
        None => progress,
        Some(reason) => format!("{progress}; failed to measure more: {reason}"),
    };
    health.note(name, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Timestamp;

    const VIEW: &str = "orders_v2";

    fn positions(of: &[(i32, i64)]) -> Positions {
        let topic = "journal.orders".to_owned();
        let of = of.iter();
        of.map(|(partition, next)| ((topic.clone(), *partition), *next))
            .collect()
    }

    fn stopped(of: &[(i32, Stop)]) -> BTreeMap<(String, i32), Stop> {
        let topic = "journal.orders".to_owned();
        let of = of.iter();
        of.map(|(partition, stop)| ((topic.clone(), *partition), *stop))
            .collect()
    }

    fn entry(has_tables: bool) -> Entry {
        Entry {
            view: VIEW.to_owned(),
            build: 2,
            state: State::Serving,
            created_at: Timestamp(5),
            changed_at: Timestamp(5),
            has_tables,
            has_caught_up: false,
        }
    }

    fn id() -> BuildId {
        let (view, number, created_at) = (VIEW, 2, Timestamp(5));
        let build = Build { view, number };
        BuildId { build, created_at }
    }

    #[test]
    fn a_build_has_caught_up_once_it_has_read_every_partition_to_its_target() {
        let (target, none) = (positions(&[(0, 10), (1, 30)]), BTreeMap::new());
        let ahead_in_one = catch_up(&positions(&[(0, 50), (1, 29)]), &target, &none);
        assert_eq!(ahead_in_one, CatchUp { read: 39, end: 40 });
        let at_target = catch_up(&positions(&[(0, 10), (1, 31)]), &target, &none);
        assert_eq!(at_target, CatchUp { read: 40, end: 40 });
    }

    #[test]
    fn a_halted_partition_counts_as_read() {
        let target = positions(&[(0, 10), (1, 30)]);
        let halted = stopped(&[(1, Stop::Halted)]);
        let read = catch_up(&positions(&[(0, 10), (1, 4)]), &target, &halted);
        assert_eq!(read, CatchUp { read: 40, end: 40 });
        let all = stopped(&[(0, Stop::Halted), (1, Stop::Halted)]);
        let read = catch_up(&positions(&[(0, 3), (1, 4)]), &target, &all);
        assert_eq!(read, CatchUp { read: 40, end: 40 });
    }

    #[test]
    fn a_held_partition_counts_as_read_once_another_one_is_read() {
        let target = positions(&[(0, 10), (1, 30), (2, 0)]);
        let held = stopped(&[(1, Stop::Held)]);
        let other_is_behind = catch_up(&positions(&[(0, 9), (1, 4)]), &target, &held);
        assert_eq!(other_is_behind, CatchUp { read: 13, end: 40 });
        let other_is_read = catch_up(&positions(&[(0, 10), (1, 4)]), &target, &held);
        assert_eq!(other_is_read, CatchUp { read: 40, end: 40 });
        // An empty partition is no sign that events can be applied.
        let all = stopped(&[(0, Stop::Held), (1, Stop::Held)]);
        let none_is_read = catch_up(&positions(&[(0, 3), (1, 4)]), &target, &all);
        assert_eq!(none_is_read, CatchUp { read: 7, end: 40 });
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_of_0_counts_after_some_time_only() {
        let mut target = Target::new(positions(&[(0, 10), (1, 0)]));
        assert!(!target.is_settled, "at once: {target:?}");
        target.add(positions(&[(0, 0), (1, 0)]));
        assert!(!target.is_settled, "after another measurement: {target:?}");
        tokio::time::advance(SETTLE_TIME).await;
        target.add(positions(&[(0, 9), (1, 0)]));
        assert!(target.is_settled, "after {SETTLE_TIME:?}: {target:?}");
        assert_eq!(target.ends, positions(&[(0, 10), (1, 0)]));
    }

    #[test]
    fn ends_above_0_count_at_once() {
        let mut target = Target::new(positions(&[(0, 10), (1, 0)]));
        target.add(positions(&[(0, 9), (1, 4)]));
        assert!(target.is_settled, "{target:?}");
        assert_eq!(target.ends, positions(&[(0, 10), (1, 4)]));
    }

    #[test]
    fn a_build_without_tables_is_not_measured() {
        assert_eq!(measurable(&[entry(false)], VIEW), None);
        assert_eq!(measurable(&[entry(true)], VIEW), Some(id()));
    }

    #[test]
    fn readiness_notes_a_view_until_its_build_has_caught_up() {
        let (health, serving) = (Health::default(), Serving::default());
        health.component("views").ready();
        serving.set(&[entry(true)]);
        serving.set_catch_up(id(), Some(CatchUp { read: 3, end: 7 }));
        report(&health, &serving, VIEW, None);
        let readiness = health.readiness();
        assert!(readiness.ready, "{readiness:?}");
        let text = "the view orders_v2 is still being projected: 3 of 7 offsets are read";
        assert_eq!(readiness.notes["rebuild.orders_v2"], text);
        serving.set_catch_up(id(), None);
        report(&health, &serving, VIEW, None);
        assert_eq!(health.readiness().notes, BTreeMap::new());
    }

    #[test]
    fn the_note_has_the_reason_of_a_failed_measurement() {
        let (health, serving) = (Health::default(), Serving::default());
        serving.set(&[entry(true)]);
        report(&health, &serving, VIEW, Some("kafka: no answer"));
        let note = &health.readiness().notes["rebuild.orders_v2"];
        assert!(note.ends_with("kafka: no answer"), "{note}");
    }
}
