//! Operator commands for views and their builds: rebuild, switch, undo, drop and reset. A switch may lead to a build of
//! another version of the view.

pub use crate::{
    difference::{Comparison, Difference, EventOfRow},
    operations::{AdminError, BuildOperations, LogToExplain, Positions},
};

use crate::{
    builds::{self, Build, Entry, State, registry, version::view_of},
    databases::Databases,
    operations::{create, mark_as_dropped, mark_version_as_dropped, other_versions, replace},
    postgres::read_position,
    problems::QUERY_TIMEOUT,
    registration::Registration,
    supervisor::INTERVAL,
    views::VIEWS,
};
use schemas::topics::PartitionCounts;
use service::consistency::WAIT_MS_DEFAULT;
use sqlx::PgConnection;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for a build to catch up with the serving build. While events arrive, either build may be ahead.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two comparisons of the two builds' positions.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of deadlocks after which one change is attempted again.
const DEADLOCKS_MAX: u32 = 1;
/// Time between the end of a build's service and the drop of its tables. A process may notice the end up to
/// [`INTERVAL`] later, and a query that it began just before may take [`QUERY_TIMEOUT`].
const DRAIN_TIME: Duration = QUERY_TIMEOUT
    .saturating_add(INTERVAL)
    .saturating_add(READ_TIME);
/// Time between the end of a version's service and the drop of its builds: a query of the version may also have waited
/// for a position before it began.
const DRAIN_TIME_OF_VERSION: Duration =
    DRAIN_TIME.saturating_add(Duration::from_millis(WAIT_MS_DEFAULT));
/// Time allowed for a process to read the list of builds.
const READ_TIME: Duration = Duration::from_secs(1);

/// A build with its progress.
#[derive(Debug, Clone)]
pub struct Described {
    /// The build's entry in the list of builds.
    pub entry: Entry,
    /// The build's positions; empty until its tables exist, and for a version that this program does not have.
    pub positions: Positions,
}

/// The progress of a build towards the ends of its journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number of offsets that the build has read.
    pub read: i64,
    /// Number of offsets in the journals.
    pub end: i64,
}

impl Progress {
    /// Compares the positions of a build with the ends of its journals.
    pub fn new(positions: &Positions, ends: &Positions) -> Self {
        let read = |(partition, end): (&(String, i32), &i64)| {
            positions.get(partition).copied().unwrap_or(0).min(*end)
        };
        Self {
            read: ends.iter().map(read).sum(),
            end: ends.values().sum(),
        }
    }

    /// Whether the build has read every offset.
    pub fn is_at_end(self) -> bool {
        self.read >= self.end
    }

    /// Estimates the time left from the rate of `read_since` offsets in `elapsed`; `None` if no offset was read.
    pub fn time_left(self, read_since: i64, elapsed: Duration) -> Option<Duration> {
        let rate = read_since as f64 / elapsed.as_secs_f64();
        (rate > 0.0).then(|| Duration::from_secs_f64((self.end - self.read) as f64 / rate))
    }
}

/// The view with this name.
///
/// # Errors
/// [`AdminError::NoView`].
pub fn view(name: &str) -> Result<&'static Registration, AdminError> {
    let found = VIEWS.iter().find(|view| view.name == name);
    found.ok_or_else(|| AdminError::NoView { name: name.into() })
}

/// The builds of all views, or of one, with their positions. They include the builds of versions that this program does
/// not have.
///
/// # Errors
/// [`AdminError`], like all operations of this module.
pub async fn describe(
    databases: &Databases,
    only: Option<&str>,
) -> Result<Vec<Described>, AdminError> {
    let mut entries = registry::all(&databases.postgres).await?;
    if let Some(name) = only {
        entries.retain(|entry| entry.view == name);
        if entries.is_empty() {
            view(name)?;
        }
    }
    let mut described = Vec::new();
    for entry in entries {
        let positions = match view(&entry.view) {
            Ok(known) => (known.operations)(databases, entry.build).positions().await,
            Err(_) => Ok(Positions::new()),
        };
        let positions = match positions {
            Ok(positions) => positions,
            // Its projector has not created the shared tables yet.
            Err(AdminError::Cql(error)) if error.is_invalid_statement() => Positions::new(),
            Err(error) => return Err(error),
        };
        described.push(Described { entry, positions });
    }
    Ok(described)
}

/// Adds a build, which the running projectors project from offset 0. Returns its number.
///
/// # Errors
/// [`AdminError::NoView`], or [`AdminError::Builds`] if the view has too many builds or the list can't be changed.
pub async fn rebuild(databases: &Databases, name: &str) -> Result<i32, AdminError> {
    let known = view(name)?;
    retry_deadlocks(move || create(&databases.postgres, known.name)).await
}

/// Makes a build answer the queries of its view. The build that answers before may be one of another version. Waits for
/// a bounded time until the build has read everything that the serving build has read.
///
/// # Errors
/// [`AdminError::Behind`] or [`AdminError::NoPosition`] if the build has not caught up in time. [`AdminError::NoView`],
/// [`AdminError::Builds`] if the build serves, is dropped or does not exist, or a database's error.
pub async fn switch(databases: &Databases, name: &str, build: i32) -> Result<(), AdminError> {
    let known = view(name)?;
    let started = Instant::now();
    loop {
        match retry_deadlocks(move || try_switch(databases, known, build)).await {
            Err(AdminError::Behind { .. } | AdminError::NoPosition { .. })
                if started.elapsed() < CATCH_UP_TIMEOUT =>
            {
                tokio::time::sleep(CATCH_UP_INTERVAL).await;
            }
            switched => return switched,
        }
    }
}

/// Compares the positions and switches in one transaction that locks the list. Otherwise, a concurrent switch could
/// select a build that has read more than this one.
async fn try_switch(
    databases: &Databases,
    view: &'static Registration,
    number: i32,
) -> Result<(), AdminError> {
    let mut transaction = databases.postgres.begin().await?;
    let entries = registry::locked_versions(view.name, &mut transaction).await?;
    let is_target = |entry: &Entry| entry.view == view.name && entry.build == number;
    let is_projected = |entry: &Entry| is_target(entry) && entry.state != State::Dropped;
    if let Some(serving) = builds::answering(&entries, view.name)
        && entries.iter().any(is_projected)
    {
        let target = Build {
            view: view.name,
            number,
        };
        // The serving build's positions are read first, so events that arrive meanwhile can't make the target look
        // behind.
        let mut of_serving = positions_of(databases, serving, &mut transaction).await?;
        let of_target = positions(databases, view, target, &mut transaction).await?;
        // Versions may read different journals.
        of_serving.retain(|(topic, _), _| view.topics.contains(&&**topic));
        if serving.has_tables {
            let topics = common_topics(serving, view);
            let name = format!("{} build {}", serving.view, serving.build);
            check_complete(&name, &topics, &of_serving, &of_target)?;
        }
        check_caught_up(target, &of_target, &of_serving)?;
    }
    registry::switch(view.name, number, &mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// The journals that both versions read. A version that this program does not have counts as one that reads the same
/// journals.
fn common_topics(serving: &Entry, target: &Registration) -> Vec<&'static str> {
    let mut topics = target.topics.to_vec();
    if let Ok(serving) = view(&serving.view) {
        topics.retain(|topic| serving.topics.contains(topic));
    }
    topics
}

/// The stored positions of a build in the list, of any version.
async fn positions_of(
    databases: &Databases,
    entry: &Entry,
    connection: &mut PgConnection,
) -> Result<Positions, AdminError> {
    let Ok(known) = view(&entry.view) else {
        let (view, build) = (&entry.view, entry.build);
        return other_versions::positions(databases, view, build, connection).await;
    };
    let build = Build {
        view: known.name,
        number: entry.build,
    };
    positions(databases, known, build, connection).await
}

/// The stored positions of a build. Those in Postgres are read on `connection`, because the pool may have no other one.
async fn positions(
    databases: &Databases,
    view: &Registration,
    build: Build,
    connection: &mut PgConnection,
) -> Result<Positions, AdminError> {
    if view.database != "Postgres" {
        return (view.operations)(databases, build.number).positions().await;
    }
    let mut positions = Positions::new();
    for topic in view.topics {
        let of_topic = read_position(build, topic, connection).await?;
        let of_topic = of_topic.into_iter();
        positions
            .extend(of_topic.map(|(partition, next)| (((*topic).to_owned(), partition), next)));
    }
    Ok(positions)
}

/// Checks that the serving build has stored a position in each known partition of these journals. The known partitions
/// are those of the target build, because a build stores all of its positions when it is opened. A missing position
/// would compare as the start of the log.
fn check_complete(
    serving: &str,
    topics: &[&str],
    of_serving: &Positions,
    of_target: &Positions,
) -> Result<(), AdminError> {
    // Every journal has a partition 0, even if no build has a position in it.
    let first = topics.iter().map(|topic| ((*topic).to_owned(), 0));
    let known = of_target.keys().cloned();
    let known = known.filter(|(topic, _)| topics.contains(&&**topic));
    let mut needed = first.chain(known);
    match needed.find(|partition| !of_serving.contains_key(partition)) {
        None => Ok(()),
        Some((topic, partition)) => Err(AdminError::NoPosition {
            build: serving.to_owned(),
            topic,
            partition,
        }),
    }
}

fn check_caught_up(
    build: Build,
    of_target: &Positions,
    of_serving: &Positions,
) -> Result<(), AdminError> {
    for ((topic, partition), serving) in of_serving {
        let next_offset = of_target.get(&(topic.clone(), *partition)).copied();
        let next_offset = next_offset.unwrap_or(0);
        if next_offset < *serving {
            return Err(AdminError::Behind {
                build,
                topic: topic.clone(),
                partition: *partition,
                next_offset,
                serving: *serving,
            });
        }
    }
    Ok(())
}

/// Makes the build that served before the current one answer the queries again, which may be one of another version.
/// `name` is the version that answers, or the view's name without a version. Returns the build.
///
/// # Errors
/// [`AdminError::OtherAnswers`] for a version that does not answer, [`AdminError::Builds`] if no build served before,
/// and those of [`switch`].
pub async fn undo(databases: &Databases, name: &str) -> Result<Build, AdminError> {
    let entries = registry::all(&databases.postgres).await?;
    let mut of_view = entries.iter();
    if !of_view.any(|entry| view_of(&entry.view) == view_of(name)) {
        view(name)?;
    }
    if let Some(answering) = builds::answering(&entries, name)
        && ![answering.view.as_str(), view_of(name)].contains(&name)
    {
        return Err(AdminError::OtherAnswers {
            view: name.to_owned(),
            answering: answering.view.clone(),
        });
    }
    let previous = registry::previous(&entries, name)?;
    let (view, number) = (view(&previous.view)?.name, previous.build);
    switch(databases, view, number).await?;
    Ok(Build { view, number })
}

/// Drops a build that does not serve. If the build has served before, waits until no process answers queries from its
/// tables.
///
/// # Errors
/// [`AdminError::NoView`], [`AdminError::Builds`] if the build serves or does not exist, or a database's error.
pub async fn drop_build(databases: &Databases, name: &str, build: i32) -> Result<(), AdminError> {
    let known = view(name)?;
    let entries = registry::all(&databases.postgres).await?;
    let entry = entries
        .iter()
        .find(|entry| entry.view == name && entry.build == build);
    let was_serving = entry.is_some_and(|entry| entry.state == State::Previous);
    retry_deadlocks(move || mark_as_dropped(&databases.postgres, name, build)).await?;
    if was_serving {
        tokio::time::sleep(DRAIN_TIME).await;
    }
    drop_tables(databases, known, build).await
}

/// Drops all builds of a version that does not answer queries. This program need not have the version. If the version
/// has answered before, waits until no process answers queries from its tables.
///
/// # Errors
/// [`AdminError::NoView`] if the version has never had a build, [`AdminError::Builds`] if it answers queries, or a
/// database's error.
pub async fn drop_version(databases: &Databases, name: &str) -> Result<(), AdminError> {
    let entries = registry::all(&databases.postgres).await?;
    let answering = builds::answering(&entries, name);
    let is_former = |entry: &Entry| entry.view == name && entry.state == State::Previous;
    if answering.is_none_or(|one| one.view != name) && entries.iter().any(is_former) {
        // The builds are projected until the last query of the version has its answer.
        tokio::time::sleep(DRAIN_TIME_OF_VERSION).await;
    }
    let builds =
        retry_deadlocks(move || mark_version_as_dropped(&databases.postgres, name)).await?;
    if builds.is_empty() {
        view(name)?;
    }
    for build in builds {
        match view(name) {
            Ok(known) => drop_tables(databases, known, build).await?,
            Err(_) => {
                retry_deadlocks(move || other_versions::drop_tables(databases, name, build))
                    .await?;
            }
        }
    }
    Ok(())
}

/// Replaces a build with a new build in the same state, and drops the tables of the old build. The new build is
/// projected from offset 0; if it serves, queries are refused until it has caught up. Returns the new build's number.
///
/// # Errors
/// [`AdminError::NoView`], [`AdminError::Builds`] if the build is dropped or does not exist, or a database's error.
pub async fn reset(databases: &Databases, name: &str, build: i32) -> Result<i32, AdminError> {
    let known = view(name)?;
    let number = retry_deadlocks(move || replace(&databases.postgres, name, build)).await?;
    drop_tables(databases, known, build).await?;
    Ok(number)
}

/// Drops the tables of a build that is marked as dropped. The drop locks one table after the other, as a query of
/// several tables does.
async fn drop_tables(
    databases: &Databases,
    view: &'static Registration,
    build: i32,
) -> Result<(), AdminError> {
    let operations = (view.operations)(databases, build);
    retry_deadlocks(|| operations.drop_tables()).await
}

/// Attempts a change again if Postgres ended it to resolve a deadlock. Nothing of the failed attempt is stored.
async fn retry_deadlocks<T, Attempt>(change: impl Fn() -> Attempt) -> Result<T, AdminError>
where
    Attempt: Future<Output = Result<T, AdminError>>,
{
    let mut deadlocks = 0;
    loop {
        match change().await {
            Err(error) if error.is_deadlock() && deadlocks < DEADLOCKS_MAX => deadlocks += 1,
            changed => return changed,
        }
    }
}

/// The end offset of each partition of a view's journals.
///
/// # Errors
/// [`AdminError::Kafka`]: Kafka does not answer.
pub async fn ends(
    admin: &kafka::Admin,
    view: &Registration,
    partitions: &PartitionCounts,
) -> Result<Positions, AdminError> {
    let mut ends = Positions::new();
    for topic in view.topics {
        for partition in 0..partitions.of(topic) {
            let watermarks = admin.watermarks(topic, partition).await?;
            ends.insert(((*topic).to_owned(), partition), watermarks.high);
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn positions(of: &[(i32, i64)]) -> Positions {
        let topic = "journal.orders".to_owned();
        of.iter()
            .map(|(partition, next)| ((topic.clone(), *partition), *next))
            .collect()
    }

    #[test]
    fn a_build_is_at_the_end_once_every_partition_is_read() {
        let ends = positions(&[(0, 10), (1, 30)]);
        let progress = Progress::new(&positions(&[(1, 10)]), &ends);
        assert_eq!(progress, Progress { read: 10, end: 40 });
        assert!(!progress.is_at_end());
        // The build may have read past the measured end.
        let progress = Progress::new(&positions(&[(0, 50), (1, 30)]), &ends);
        assert_eq!(progress, Progress { read: 40, end: 40 });
        assert!(progress.is_at_end());
    }

    #[test]
    fn a_build_is_behind_if_it_has_read_less_of_one_partition() {
        let build = Build::first("orders_v2");
        let serving = positions(&[(0, 10), (1, 30)]);
        let ahead = positions(&[(0, 11), (1, 30)]);
        assert!(check_caught_up(build, &ahead, &serving).is_ok());
        for behind in [positions(&[(0, 50), (1, 29)]), positions(&[(1, 30)])] {
            let checked = check_caught_up(build, &behind, &serving);
            assert!(
                matches!(checked, Err(AdminError::Behind { .. })),
                "{behind:?}: {checked:?}"
            );
        }
    }

    #[test]
    fn a_serving_build_without_a_position_is_compared_with_no_other() {
        let (build, topics) = ("orders_v2 build 1", ["journal.orders"]);
        let of_target = positions(&[(0, 11), (1, 30)]);
        let check = |of_serving: &[(i32, i64)], of_target: &Positions| {
            let checked = check_complete(build, &topics, &positions(of_serving), of_target);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(&[(0, 10), (1, 30)], &of_target), Ok(()));
        for (of_serving, of_target, lacking) in [
            (&[(0, 10)][..], &of_target, "journal.orders/1"),
            (&[][..], &of_target, "journal.orders/0"),
            (&[][..], &Positions::new(), "journal.orders/0"),
        ] {
            let error = check(of_serving, of_target).expect_err(lacking);
            assert!(error.contains(lacking), "no {lacking} in: {error}");
        }
    }

    #[test]
    fn the_journals_that_only_one_version_reads_are_not_compared() {
        let of_target = BTreeMap::from([
            (("journal.orders".to_owned(), 0), 11),
            (("journal.catalog".to_owned(), 0), 3),
        ]);
        let of_serving = positions(&[(0, 10)]);
        let checked = check_complete("a", &["journal.orders"], &of_serving, &of_target);
        assert!(checked.is_ok(), "{checked:?}");
    }

    #[test]
    fn the_time_left_follows_from_the_rate() {
        let progress = Progress { read: 10, end: 40 };
        let left = progress.time_left(5, Duration::from_secs(1));
        assert_eq!(left, Some(Duration::from_secs(6)));
        assert_eq!(progress.time_left(0, Duration::from_secs(1)), None);
    }
}
