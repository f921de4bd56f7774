//! The decisions of operators about parked aggregates, and the table that keeps them, in Postgres.
//!
//! A decision changes the state of the parked aggregate, and adds a row to the table in the same statement. No row of
//! the table is ever changed or deleted, so it also has the decisions about aggregates that are no longer parked, and
//! about builds that no longer exist.

use schemas::Timestamp;
use sqlx::{AssertSqlSafe, FromRow, PgPool};

/// A decision about a parked aggregate of one build.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Decision {
    /// `RETRY` or `DISCARD`.
    pub decision: String,
    /// When the operator decided, in microseconds since 1970.
    pub decided_us: i64,
    /// The operator; `None` if a retry did not name one.
    pub decided_by: Option<String>,
    /// Why the aggregate was discarded; `None` for a retry.
    pub reason: Option<String>,
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
    /// Offset of the commit that could not be applied.
    pub first_offset: i64,
    /// Why it could not be applied.
    pub error: String,
    /// Offset of the last waiting commit.
    pub last_offset: i64,
    /// Number of waiting commits, including the first one.
    pub commits: i64,
    /// Number of their events.
    pub events: i64,
}

impl Decision {
    /// When the operator decided.
    pub fn decided_at(&self) -> Timestamp {
        Timestamp(self.decided_us)
    }
}

/// Without a key, a retry concerns all keys that are not discarded.
const RETRY: &str = "UPDATE view_parked_keys SET state = 'RETRY' \
    WHERE view_name = $1 AND ($2::text IS NULL AND state <> 'DISCARDED' OR key = $2)";
const DISCARD: &str = "UPDATE view_parked_keys SET state = 'DISCARDED', discarded_by = $3, reason = $4, \
    discarded_at = now() WHERE view_name = $1 AND key = $2";

/// Requests a retry of one parked key of a view, or of all keys that are not discarded, and records it. Returns the
/// number of keys.
///
/// # Errors
/// Postgres's error, as of all functions here.
pub async fn request_retry(
    view: &str,
    key: Option<&str>,
    operator: Option<&str>,
    pool: &PgPool,
) -> Result<u64, sqlx::Error> {
    decide(
        &recorded("RETRY", RETRY),
        (view, key),
        (operator, None),
        pool,
    )
    .await
}

/// Records that a parked key's commits will not be applied, and why. Returns the number of keys: one for each build in
/// which the key is parked.
pub async fn discard(
    view: &str,
    key: &str,
    operator: &str,
    reason: &str,
    pool: &PgPool,
) -> Result<u64, sqlx::Error> {
    let statement = recorded("DISCARD", DISCARD);
    let why = (Some(operator), Some(reason));
    decide(&statement, (view, Some(key)), why, pool).await
}

/// The last decisions about a view or about all views, and about one key or about all keys, the newest first.
pub async fn decisions(
    view: Option<&str>,
    key: Option<&str>,
    limit: u32,
    pool: &PgPool,
) -> Result<Vec<Decision>, sqlx::Error> {
    sqlx::query_as(
        "SELECT decision, (extract(epoch FROM decided_at) * 1000000)::bigint AS decided_us, decided_by, \
             reason, view_name, build, topic, partition, key, first_offset, error, last_offset, commits, events \
         FROM view_parked_decisions \
         WHERE ($1::text IS NULL OR view_name = $1) AND ($2::text IS NULL OR key = $2) \
         ORDER BY id DESC LIMIT $3",
    )
    .bind(view)
    .bind(key)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await
}

/// A statement that updates parked keys, and records the decision about each of them. Parameters: the view, the key,
/// the operator, the reason.
fn recorded(decision: &str, update: &str) -> String {
    format!(
        "WITH decided AS ({update} \
             RETURNING view_name, build, topic, partition, key, first_offset, error) \
         INSERT INTO view_parked_decisions (decision, decided_by, reason, view_name, build, topic, partition, \
             key, first_offset, error, last_offset, commits, events) \
         SELECT '{decision}', $3::text, $4::text, decided.*, \
             coalesce(waiting.last_offset, decided.first_offset), waiting.commits, waiting.events \
         FROM decided CROSS JOIN LATERAL ( \
             SELECT max(\"offset\") AS last_offset, count(*) AS commits, \
                 coalesce(sum(events), 0)::bigint AS events \
             FROM view_parked_commits AS one \
             WHERE (one.view_name, one.build, one.topic, one.partition, one.key) = \
                 (decided.view_name, decided.build, decided.topic, decided.partition, decided.key) \
         ) AS waiting"
    )
}

async fn decide(
    statement: &str,
    (view, key): (&str, Option<&str>),
    (operator, reason): (Option<&str>, Option<&str>),
    pool: &PgPool,
) -> Result<u64, sqlx::Error> {
    // The statement is built from constants of this file only.
    let decided = sqlx::query(AssertSqlSafe(statement.to_owned()))
        .bind(view)
        .bind(key)
        .bind(operator)
        .bind(reason)
        .execute(pool)
        .await?;
    Ok(decided.rows_affected())
}
