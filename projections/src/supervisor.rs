//! Follows the list of builds: starts and stops projectors, and tells queries which builds serve.
//!
//! Every build of every version in this program is projected. If another version answers a view's queries, readiness
//! names it: other releases have it, and the deployment of this one must not continue.

use crate::{
    builds::{self, Build, Entry, RegistryError, State, registry, version::view_of},
    catch_up::CatchUpCheck,
    databases::Databases,
    lag::Lags,
    metrics as names,
    parking::{
        KNOWN_MAX,
        table::{self as parked, ParkedCount},
    },
    postgres,
    projector::{Running, Runtime, Share, component},
    registration::Registration,
    repeated_failure::RepeatedFailure,
    versions::Versions,
    view::Partition,
};
use metrics::gauge;
use schemas::topics::PartitionCounts;
use service::health::Component;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::sync::watch;

/// Time between two readings of the list. After a switch, a process may answer from the previous build for this time.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// All partitions of some journals.
fn partitions(topics: &[&'static str], counts: &PartitionCounts) -> Vec<Partition> {
    let of_topic = |topic: &&'static str| {
        let topic = *topic;
        (0..counts.of(topic)).map(move |partition| (topic, partition))
    };
    topics.iter().flat_map(of_topic).collect()
}

/// The partitions that a process projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// All partitions of all journals.
    All,
    /// These partitions, by topic and number. Other processes have the rest.
    Only(BTreeSet<(String, i32)>),
}

/// Runs the projectors of this process. A process has one supervisor, with one timer for all views.
pub struct Supervisor {
    runtime: Runtime,
    databases: Databases,
    views: &'static [Registration],
    assignment: watch::Receiver<Assignment>,
    component: Component,
    running: BTreeMap<Build, (Share, Running)>,
    /// Whether the first builds exist.
    has_builds: bool,
    lags: Lags,
}

impl Supervisor {
    /// `assignment` contains the partitions of this process, and may change.
    pub fn new(
        runtime: Runtime,
        databases: Databases,
        views: &'static [Registration],
        assignment: watch::Receiver<Assignment>,
    ) -> Self {
        let component = runtime.health.component("views");
        for view in views {
            let all = partitions(view.topics, &runtime.partitions);
            runtime.progress.declare(view.name, all);
        }
        Self {
            runtime,
            databases,
            views,
            assignment,
            component,
            running: BTreeMap::new(),
            has_builds: false,
            lags: Lags::default(),
        }
    }

    /// Runs until shutdown.
    pub async fn run(mut self) {
        let shutdown = self.runtime.shutdown.clone();
        let measuring = self
            .lags
            .clone()
            .measure(self.runtime.source.clone(), shutdown.clone());
        self.runtime.tasks.spawn(measuring);
        let check = CatchUpCheck::new(
            self.databases.clone(),
            self.runtime.source.clone(),
            self.runtime.partitions.clone(),
            self.runtime.health.clone(),
            self.lags.clone(),
            self.views,
        );
        self.runtime.tasks.spawn(check.run(shutdown.clone()));
        let mut failure = RepeatedFailure::default();
        let mut waits = service::Backoff::for_server();
        while !shutdown.is_cancelled() {
            let wait = match shutdown.run_until_cancelled(self.follow()).await {
                None => break,
                Some(Ok(())) => {
                    if let Some(over) = failure.end() {
                        let (attempts, lasted) = (over.attempts, over.lasted.as_secs());
                        tracing::info!(
                            attempts,
                            failed_for_s = lasted,
                            "read the list of builds again"
                        );
                    }
                    waits.reset();
                    self.component.ready();
                    INTERVAL
                }
                Some(Err(error)) => {
                    postgres::close_older_connections(&error);
                    self.component.not_ready(error.to_string());
                    if failure.add() {
                        tracing::warn!(%error, "failed to read the list of builds, retrying");
                    }
                    waits.wait()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // After the sender is dropped, this branch is disabled.
                Ok(()) = self.assignment.changed() => {}
                () = shutdown.cancelled() => {}
            }
        }
        for (_, running) in self.running.into_values() {
            running.stop().await;
        }
    }

    /// Reads the list, and starts and stops projectors accordingly.
    async fn follow(&mut self) -> Result<(), RegistryError> {
        let pool = self.databases.projectors.clone();
        if !self.has_builds {
            let names: Vec<&str> = self.views.iter().map(|view| view.name).collect();
            registry::create_first_builds(&pool, &names).await?;
            self.has_builds = true;
            // Projectors that already run have lost their tables, and an idle projector does not notice that.
            for (_, running) in std::mem::take(&mut self.running).into_values() {
                running.stop().await;
            }
        }
        let entries = registry::all(&pool).await;
        if let Err(RegistryError::Postgres(error)) = &entries {
            // An operator may have dropped the database: it is created again.
            self.has_builds = !postgres::is_schema_missing(error);
        }
        let entries = entries?;
        let wanted = self.wanted(&entries);
        self.rename_components(&wanted);
        // The old projectors are stopped first: the progress of the previous build must not end the wait of a query
        // that the new build answers.
        self.stop_unwanted(&wanted).await;
        self.databases.serving.set(&entries);
        self.report_missing_versions();
        for (build, share) in wanted {
            if !self.running.contains_key(&build)
                && let Some(view) = self.views.iter().find(|view| view.name == build.view)
            {
                let (number, of_build) = (build.number, share.clone());
                let (runtime, databases) = (&self.runtime, &self.databases);
                let running = (view.project)(runtime, databases, number, of_build, &self.lags);
                self.running.insert(build, (share, running));
            }
        }
        self.forward_retry_requests().await?;
        Ok(())
    }

    /// The builds that this process projects, with the share of each.
    fn wanted(&mut self, entries: &[Entry]) -> BTreeMap<Build, Share> {
        let assignment = self.assignment.borrow_and_update().clone();
        let mut wanted = BTreeMap::new();
        let answers = |entry: &Entry| builds::answering(entries, &entry.view) == Some(entry);
        for entry in entries {
            let known = self.views.iter().find(|view| view.name == entry.view);
            let Some(view) = known else { continue };
            let build = Build {
                view: view.name,
                number: entry.build,
            };
            let reader = match entry.state {
                State::Serving if answers(entry) => view.name.to_owned(),
                State::Serving | State::Building | State::Previous => build.table(view.name),
                State::Dropped => continue,
            };
            let partitions = self.assigned(view.topics, &assignment);
            wanted.insert(build, Share { partitions, reader });
        }
        wanted
    }

    /// After a switch to another version, the readiness of the view stays as it was, until the version's projector
    /// reports its own.
    fn rename_components(&self, wanted: &BTreeMap<Build, Share>) {
        let serves = |build: &Build, share: &Share| share.reader == build.view;
        for (next, _) in wanted.iter().filter(|(build, share)| serves(build, share)) {
            let mut running = self.running.iter();
            let former = running.find(|(build, (share, _))| {
                let is_version = view_of(build.view) == view_of(next.view);
                is_version && build.view != next.view && serves(build, share)
            });
            if let Some((former, _)) = former {
                let health = &self.runtime.health;
                health.rename(&component(former.view), &component(next.view));
            }
        }
    }

    /// Reports the views whose queries are answered by versions that this program does not have.
    fn report_missing_versions(&self) {
        let health = &self.runtime.health;
        for view in Versions::of_all(self.views) {
            let name = component(view.view());
            match view.answering(&self.databases.serving) {
                Ok(_) => health.remove(&name),
                Err(missing) => health.continued(name).not_ready(format!(
                    "{missing}: run a release that has it, or switch to another version with `daybook views switch`"
                )),
            }
        }
    }

    fn assigned(&self, topics: &[&'static str], assignment: &Assignment) -> Vec<Partition> {
        let all = partitions(topics, &self.runtime.partitions).into_iter();
        let is_assigned = |(topic, partition): &Partition| match assignment {
            Assignment::All => true,
            Assignment::Only(assigned) => assigned.contains(&((*topic).to_owned(), *partition)),
        };
        all.filter(is_assigned).collect()
    }

    /// Stops the projectors of dropped builds and those whose share has changed, and removes those that have ended.
    async fn stop_unwanted(&mut self, wanted: &BTreeMap<Build, Share>) {
        let is_stopped = |build: &Build, share: &Share, running: &Running| {
            wanted.get(build) != Some(share) || running.has_ended()
        };
        let stopped: Vec<Build> = self
            .running
            .iter()
            .filter(|(build, (share, running))| is_stopped(build, share, running))
            .map(|(build, _)| *build)
            .collect();
        let readers: BTreeSet<&str> = wanted.values().map(|share| &*share.reader).collect();
        for build in stopped {
            if let Some((share, running)) = self.running.remove(&build) {
                running.stop().await;
                self.lags.remove(build);
                report_parked(build, None);
                if !readers.contains(&*share.reader) {
                    self.runtime.health.remove(&component(&share.reader));
                }
                for (topic, partition) in share.partitions {
                    self.runtime
                        .progress
                        .remove(&share.reader, topic, partition);
                }
            }
        }
    }

    /// Passes requests for parked keys to their projectors, and counts the parked keys.
    async fn forward_retry_requests(&mut self) -> Result<(), sqlx::Error> {
        let pool = &self.databases.projectors;
        let reading = self.databases.marks.begin();
        let counts = parked::counts(pool).await?;
        for build in self.running.keys() {
            let is_of_build =
                |count: &&ParkedCount| count.view_name == build.view && count.build == build.number;
            report_parked(*build, counts.iter().find(is_of_build));
        }
        if counts.is_empty() {
            self.databases.marks.set(&[], reading);
            return Ok(());
        }
        let aggregates = parked::aggregates(KNOWN_MAX + 1, pool).await?;
        self.databases.marks.set(&aggregates, reading);
        for (view, number, key) in parked::requested(pool).await? {
            let of_build = self
                .running
                .iter()
                .find(|(build, _)| build.view == view && build.number == number);
            if let Some((_, (_, running))) = of_build {
                running.request(key);
            }
        }
        Ok(())
    }
}

/// Exports the numbers of a build's parked aggregates and of their events.
fn report_parked(build: Build, count: Option<&ParkedCount>) {
    let labels = [
        ("view", build.view.to_owned()),
        ("build", build.number.to_string()),
    ];
    let (keys, events) = count.map_or((0, 0), |count| (count.keys, count.events));
    gauge!(names::PARKED_KEYS, &labels).set(keys as f64);
    gauge!(names::PARKED_EVENTS, &labels).set(events as f64);
}
