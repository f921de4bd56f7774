//! Finds out when a serving build that is projected from the start has caught up.
//!
//! The first build of a view starts at the beginning of the log, and so does a build that replaces one whose tables
//! were dropped or that an operator has reset. Such a build serves, but its rows are only a part of the view. So its
//! queries are refused, and the process is not ready, until the build has read every offset that the journals had
//! when this process first noticed it. Then this is stored in the list of builds, for all processes and later starts.

use crate::{
    builds::{Build, CatchUp, Serving, registry},
    databases::Databases,
    operations::{AdminError, Positions},
    registration::Registration,
};
use journal::Source;
use schemas::topics::PartitionCounts;
use service::{Backoff, health::Health};
use std::{collections::BTreeMap, time::Duration};
use tokio_util::sync::CancellationToken;

/// Shortest time between two measurements.
const INTERVAL_MIN: Duration = Duration::from_millis(25);
/// Longest time between two measurements.
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Measures the serving builds that have not caught up.
pub(crate) struct CatchUpCheck {
    databases: Databases,
    source: Source,
    partitions: PartitionCounts,
    health: Health,
    views: &'static [Registration],
    /// The offsets that each build must read.
    targets: BTreeMap<Build, Positions>,
}

impl CatchUpCheck {
    /// Checks the builds of these views.
    pub fn new(
        databases: Databases,
        source: Source,
        partitions: PartitionCounts,
        health: Health,
        views: &'static [Registration],
    ) -> Self {
        Self {
            databases,
            source,
            partitions,
            health,
            views,
            targets: BTreeMap::new(),
        }
    }

    /// Measures until `stop`, while a build has not caught up.
    pub async fn run(mut self, stop: CancellationToken) {
        // Safe to drop at any point: the next process measures again.
        stop.run_until_cancelled(self.measure()).await;
    }

    async fn measure(&mut self) {
        let mut waits = Backoff::doubling(INTERVAL_MIN, INTERVAL_MAX);
        loop {
            self.databases.serving.is_behind().await;
            let mut has_changed = false;
            for view in self.views {
                if self.databases.serving.catch_up(view.name).is_none() {
                    continue;
                }
                match self.measure_view(view).await {
                    Ok(has_caught_up) => has_changed |= has_caught_up,
                    // Its tables may not exist yet.
                    Err(error) => {
                        let view = view.name;
                        tracing::debug!(view, %error, "failed to measure how far a build has caught up");
                    }
                }
            }
            report(&self.health, &self.databases.serving, self.views);
            if has_changed {
                waits.reset();
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Measures the serving build of a view. Returns whether it has caught up.
    async fn measure_view(&mut self, view: &'static Registration) -> Result<bool, AdminError> {
        let Some(build) = self.databases.serving.build(view.name) else {
            return Ok(false);
        };
        let target = match self.targets.get(&build).cloned() {
            Some(target) => target,
            None => {
                let target = self.ends(view).await?;
                self.targets.insert(build, target.clone());
                target
            }
        };
        let operations = (view.operations)(&self.databases, build.number);
        // A build needs no position before the first record.
        let positions = match target.values().all(|end| *end == 0) {
            true => Positions::new(),
            false => operations.positions().await?,
        };
        let catch_up = catch_up(&positions, &target);
        if catch_up.read < catch_up.end {
            self.databases.serving.set_catch_up(build, Some(catch_up));
            return Ok(false);
        }
        registry::set_caught_up(build, &self.databases.projectors).await?;
        self.databases.serving.set_catch_up(build, None);
        self.targets.remove(&build);
        let (view, build) = (build.view, build.number);
        tracing::info!(
            view,
            build,
            offsets = catch_up.end,
            "the serving build has caught up"
        );
        Ok(true)
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
}

/// How far positions are towards a target.
fn catch_up(positions: &Positions, target: &Positions) -> CatchUp {
    let read = |(partition, end): (&(String, i32), &i64)| {
        positions.get(partition).copied().unwrap_or(0).min(*end)
    };
    CatchUp {
        read: target.iter().map(read).sum(),
        end: target.values().sum(),
    }
}

/// Reports each view whose serving build has not caught up as a component that is not ready.
pub(crate) fn report(health: &Health, serving: &Serving, views: &[Registration]) {
    for view in views {
        let component = format!("rebuild.{}", view.name);
        match serving.catch_up(view.name) {
            None => health.remove(&component),
            Some(CatchUp { read, end }) => {
                health.continued(component).not_ready(format!(
                    "view {} is projected from the start: {read} of {end} records are read",
                    view.name
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        builds::{Entry, State},
        views::VIEWS,
    };
    use schemas::Timestamp;

    fn positions(of: &[(i32, i64)]) -> Positions {
        let topic = "journal.orders".to_owned();
        let of = of.iter();
        of.map(|(partition, next)| ((topic.clone(), *partition), *next))
            .collect()
    }

    #[test]
    fn a_build_has_caught_up_once_it_has_read_every_partition_to_its_target() {
        let target = positions(&[(0, 10), (1, 30)]);
        let ahead_in_one = catch_up(&positions(&[(0, 50), (1, 29)]), &target);
        assert_eq!(ahead_in_one, CatchUp { read: 39, end: 40 });
        let at_target = catch_up(&positions(&[(0, 10), (1, 31)]), &target);
        assert_eq!(at_target, CatchUp { read: 40, end: 40 });
    }

    #[test]
    fn readiness_names_a_view_until_its_build_has_caught_up() {
        let (health, serving, view) = (Health::default(), Serving::default(), VIEWS[0].name);
        health.component("views").ready();
        let entry = Entry {
            view: view.to_owned(),
            build: 2,
            state: State::Serving,
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
            has_caught_up: false,
        };
        serving.set(&[entry]);
        let build = Build { view, number: 2 };
        serving.set_catch_up(build, Some(CatchUp { read: 3, end: 7 }));
        report(&health, &serving, VIEWS);
        let readiness = health.readiness();
        let reason = &readiness.components[&format!("rebuild.{view}")];
        assert!(reason.contains("3 of 7"), "{reason}");
        serving.set_catch_up(build, None);
        report(&health, &serving, VIEWS);
        assert!(health.readiness().ready, "{:?}", health.readiness());
    }
}
