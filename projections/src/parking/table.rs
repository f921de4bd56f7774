//! The tables of parked aggregates and of their waiting commits, in Postgres. [`super::decisions`] changes the states
//! of aggregates as operators decide.

use super::{ParkedCommit, ParkedKey};
use crate::{builds::Build, view::Partition};
use schemas::Timestamp;
use sqlx::{FromRow, PgConnection, PgPool};

/// Maximum number of requests for a retry that are read at once.
pub const REQUESTS_MAX: i64 = 100;
/// The state of an aggregate for which an operator has requested a retry.
pub const REQUESTED: &str = "RETRY";

/// A parked aggregate, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Parked {
    /// The view.
    pub view_name: String,
    /// The build's number.
    pub build: i32,
    /// The journal.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The record's key.
    pub key: String,
    /// `PARKED`, `RETRY` or `DISCARDED`.
    pub state: String,
    /// Offset of the commit that can't be applied.
    pub first_offset: i64,
    /// Why it can't be applied.
    pub error: String,
    /// When the aggregate was parked, in microseconds since 1970.
    pub parked_us: i64,
    /// Failed attempts to apply the commit.
    pub attempts: i32,
    /// The operator who discarded the aggregate.
    pub discarded_by: Option<String>,
    /// Why the operator discarded it.
    pub reason: Option<String>,
    /// Number of waiting commits, including the first one.
    pub commits: i64,
    /// Number of their events.
    pub events: i64,
}

/// The number of parked aggregates of a build.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ParkedCount {
    /// The view.
    pub view_name: String,
    /// The build's number.
    pub build: i32,
    /// Number of aggregates, without the discarded ones.
    pub keys: i64,
    /// Number of waiting events, including those of discarded aggregates. The build's rows lack these events.
    pub events: i64,
}

/// A parked or discarded aggregate of a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct ParkedAggregate {
    /// The view.
    pub view_name: String,
    /// The build's number.
    pub build: i32,
    /// The record's key.
    pub key: String,
}

/// A parked key for which an operator has requested a retry.
#[derive(FromRow)]
struct Request {
    view_name: String,
    build: i32,
    #[sqlx(flatten)]
    key: ParkedKey,
}

/// A waiting commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Waiting {
    /// Its offset.
    pub offset: i64,
    /// The aggregate's version before it.
    pub version: i64,
    /// Number of its events.
    pub events: i32,
}

impl Parked {
    /// When the aggregate was parked.
    pub fn parked_at(&self) -> Timestamp {
        Timestamp(self.parked_us)
    }
}

/// The parked keys of some partitions of a build.
///
/// # Errors
/// Postgres's error, as of all functions here.
pub(crate) async fn keys(
    build: Build,
    partitions: &[Partition],
    connection: &mut PgConnection,
) -> Result<Vec<ParkedKey>, sqlx::Error> {
    let mut keys: Vec<ParkedKey> = sqlx::query_as(
        "SELECT topic, partition, key FROM view_parked_keys WHERE view_name = $1 AND build = $2",
    )
    .bind(build.view)
    .bind(build.number)
    .fetch_all(connection)
    .await?;
    keys.retain(|key| partitions.contains(&(key.topic.as_str(), key.partition)));
    Ok(keys)
}

/// Records parked commits of a partition. Those that are recorded already stay unchanged.
pub(crate) async fn insert(
    build: Build,
    (topic, partition): (&str, i32),
    commits: &[ParkedCommit],
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let causes: Vec<_> = commits
        .iter()
        .filter_map(|commit| Some((commit, commit.error.as_deref()?)))
        .collect();
    if !causes.is_empty() {
        let keys: Vec<&str> = causes.iter().map(|(commit, _)| &*commit.key).collect();
        let offsets: Vec<i64> = causes.iter().map(|(commit, _)| commit.offset).collect();
        let errors: Vec<String> = causes.iter().map(|(_, error)| storable(error)).collect();
        sqlx::query(
            "INSERT INTO view_parked_keys (view_name, build, topic, partition, key, first_offset, error) \
             SELECT $1, $2, $3, $4, * FROM UNNEST($5::text[], $6::bigint[], $7::text[]) \
             ON CONFLICT DO NOTHING",
        )
        .bind(build.view)
        .bind(build.number)
        .bind(topic)
        .bind(partition)
        .bind(keys)
        .bind(offsets)
        .bind(errors)
        .execute(&mut *connection)
        .await?;
    }
    if !commits.is_empty() {
        let column =
            |value: fn(&ParkedCommit) -> i64| commits.iter().map(value).collect::<Vec<_>>();
        let keys: Vec<&str> = commits.iter().map(|commit| &*commit.key).collect();
        sqlx::query(
            "INSERT INTO view_parked_commits \
             (view_name, build, topic, partition, key, \"offset\", version, events) \
             SELECT $1, $2, $3, $4, * \
             FROM UNNEST($5::text[], $6::bigint[], $7::bigint[], $8::bigint[]) \
             ON CONFLICT DO NOTHING",
        )
        .bind(build.view)
        .bind(build.number)
        .bind(topic)
        .bind(partition)
        .bind(keys)
        .bind(column(|commit| commit.offset))
        .bind(column(|commit| commit.version))
        .bind(column(|commit| i64::from(commit.events)))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// An error's text without characters that Postgres refuses. Otherwise Postgres would refuse to park the aggregate, and
/// its partition would be stuck.
fn storable(error: &str) -> String {
    error.replace('\0', "\u{fffd}")
}

/// The first waiting commits of a key, in order, at most `limit`.
pub async fn waiting(
    view: &str,
    build: i32,
    key: &ParkedKey,
    limit: i64,
    pool: &PgPool,
) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as(
        "SELECT \"offset\", version, events FROM view_parked_commits \
         WHERE view_name = $1 AND build = $2 AND topic = $3 AND partition = $4 AND key = $5 \
         ORDER BY \"offset\" LIMIT $6",
    )
    .bind(view)
    .bind(build)
    .bind(&key.topic)
    .bind(key.partition)
    .bind(&key.key)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Removes applied commits of a key, and the key itself if no commit waits any more. Returns the number of removed
/// commits, which is smaller than the number of `offsets` if another process has removed some of them.
pub(crate) async fn remove(
    build: Build,
    key: &ParkedKey,
    offsets: &[i64],
    connection: &mut PgConnection,
) -> Result<usize, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM view_parked_commits WHERE view_name = $1 AND build = $2 AND topic = $3 \
         AND partition = $4 AND key = $5 AND \"offset\" = ANY($6)",
    )
    .bind(build.view)
    .bind(build.number)
    .bind(&key.topic)
    .bind(key.partition)
    .bind(&key.key)
    .bind(offsets)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM view_parked_keys AS parked WHERE view_name = $1 AND build = $2 AND topic = $3 \
         AND partition = $4 AND key = $5 AND NOT EXISTS (SELECT FROM view_parked_commits AS waiting \
         WHERE (waiting.view_name, waiting.build, waiting.topic, waiting.partition, waiting.key) = \
         (parked.view_name, parked.build, parked.topic, parked.partition, parked.key))",
    )
    .bind(build.view)
    .bind(build.number)
    .bind(&key.topic)
    .bind(key.partition)
    .bind(&key.key)
    .execute(connection)
    .await?;
    Ok(usize::try_from(removed.rows_affected()).unwrap_or(usize::MAX))
}

/// The state of a parked key; `None` if it is not parked.
pub(crate) async fn state(
    build: Build,
    key: &ParkedKey,
    pool: &PgPool,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT state FROM view_parked_keys WHERE view_name = $1 AND build = $2 AND topic = $3 \
         AND partition = $4 AND key = $5",
    )
    .bind(build.view)
    .bind(build.number)
    .bind(&key.topic)
    .bind(key.partition)
    .bind(&key.key)
    .fetch_optional(pool)
    .await
}

/// Records a failed attempt to apply a parked key's commits. The key stays parked until the next request; a key that
/// was discarded meanwhile stays discarded.
pub(crate) async fn record_failure(
    build: Build,
    key: &ParkedKey,
    offset: i64,
    error: &str,
    pool: &PgPool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE view_parked_keys SET state = CASE state WHEN 'RETRY' THEN 'PARKED' ELSE state END, \
         attempts = attempts + 1, first_offset = $6, error = $7 \
         WHERE view_name = $1 AND build = $2 AND topic = $3 AND partition = $4 AND key = $5",
    )
    .bind(build.view)
    .bind(build.number)
    .bind(&key.topic)
    .bind(key.partition)
    .bind(&key.key)
    .bind(offset)
    .bind(storable(error))
    .execute(pool)
    .await?;
    Ok(())
}

/// The keys for which operators have requested a retry, with their views and builds, at most [`REQUESTS_MAX`].
pub(crate) async fn requested(pool: &PgPool) -> Result<Vec<(String, i32, ParkedKey)>, sqlx::Error> {
    let requests: Vec<Request> = sqlx::query_as(
        "SELECT view_name, build, topic, partition, key FROM view_parked_keys \
         WHERE state = 'RETRY' ORDER BY parked_at LIMIT $1",
    )
    .bind(REQUESTS_MAX)
    .fetch_all(pool)
    .await?;
    let requests = requests.into_iter();
    Ok(requests
        .map(|request| (request.view_name, request.build, request.key))
        .collect())
}

/// The numbers of parked keys and their events, of each build that has any.
pub(crate) async fn counts(pool: &PgPool) -> Result<Vec<ParkedCount>, sqlx::Error> {
    sqlx::query_as(
        "SELECT view_name, build, \
             count(DISTINCT (topic, partition, key)) FILTER (WHERE state <> 'DISCARDED') AS keys, \
             coalesce(sum(waiting.events), 0)::bigint AS events \
         FROM view_parked_keys \
         LEFT JOIN view_parked_commits AS waiting USING (view_name, build, topic, partition, key) \
         GROUP BY view_name, build",
    )
    .fetch_all(pool)
    .await
}

/// The parked and discarded aggregates of all builds, at most `limit`.
pub(crate) async fn aggregates(
    limit: i64,
    pool: &PgPool,
) -> Result<Vec<ParkedAggregate>, sqlx::Error> {
    sqlx::query_as("SELECT view_name, build, key FROM view_parked_keys ORDER BY parked_at LIMIT $1")
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// The parked and discarded aggregates of one build, at most `limit`.
pub(crate) async fn aggregates_of(
    build: Build,
    limit: i64,
    pool: &PgPool,
) -> Result<Vec<ParkedAggregate>, sqlx::Error> {
    sqlx::query_as(
        "SELECT view_name, build, key FROM view_parked_keys WHERE view_name = $1 AND build = $2 LIMIT $3",
    )
    .bind(build.view)
    .bind(build.number)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// A text that changes when an aggregate of a build is parked, also when it is parked again, and when one is removed.
/// Postgres computes it from the keys and times in the list.
pub async fn fingerprint(build: Build, pool: &PgPool) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', count(*), sum(hashtextextended( \
             concat_ws(' ', topic, partition, key, extract(epoch FROM parked_at)), 0))) \
         FROM view_parked_keys WHERE view_name = $1 AND build = $2",
    )
    .bind(build.view)
    .bind(build.number)
    .fetch_one(pool)
    .await
}

/// The parked aggregates of a view, or of all views.
pub async fn list(view: Option<&str>, pool: &PgPool) -> Result<Vec<Parked>, sqlx::Error> {
    sqlx::query_as(
        "SELECT view_name, build, topic, partition, key, state, first_offset, error, \
             (extract(epoch FROM parked_at) * 1000000)::bigint AS parked_us, attempts, discarded_by, \
             reason, count(waiting.\"offset\") AS commits, coalesce(sum(waiting.events), 0)::bigint AS events \
         FROM view_parked_keys AS parked \
         LEFT JOIN view_parked_commits AS waiting USING (view_name, build, topic, partition, key) \
         WHERE $1::text IS NULL OR view_name = $1 \
         GROUP BY parked.view_name, parked.build, parked.topic, parked.partition, parked.key \
         ORDER BY parked_at, key",
    )
    .bind(view)
    .fetch_all(pool)
    .await
}
