//! A view in Postgres: rows and checkpoint in one transaction.
//!
//! A projector moves a checkpoint only from the offset at which it read it, so one of two concurrent projectors
//! fails before it reads a row. The batches of a view exclude each other: one transaction at a time loads, folds
//! and writes a row that several partitions feed.

use super::{errors::failure, pool::begin_creating_database, rows::PostgresTables};
use crate::{
    columns::list,
    recorded::recorded_events,
    store::{Store, StoreError, complete_checkpoints},
    view::{View, ViewEvent},
};
use journal::{Batch, Checkpoint};
use schemas::{Position, topics::PartitionCounts};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, types::Json};
use std::marker::PhantomData;

/// Key of the advisory lock held during set-up. Without it, one of two nodes that create the same table at
/// once would fail.
const SET_UP_LOCK: i64 = 0x6461_7962_6f6f_6b01;
/// The table of all views' checkpoints.
const CHECKPOINTS: &str = "view_checkpoints";

/// A view whose rows are in Postgres.
pub trait PostgresView: View {
    /// Statements that create its tables and indexes; each does nothing if the table or index exists.
    const SCHEMA: &'static str;
    /// Its tables, as a tuple.
    type Tables: PostgresTables<Self::Event>;
}

/// A view in Postgres.
pub struct PostgresStore<V> {
    pool: PgPool,
    view: PhantomData<V>,
}

impl<V: PostgresView> PostgresStore<V> {
    /// The view in the pool's database.
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            view: PhantomData,
        }
    }
}

impl<V: PostgresView> Store for PostgresStore<V> {
    type Event = V::Event;

    fn name(&self) -> &'static str {
        V::NAME
    }

    async fn open(&self, partitions: &PartitionCounts) -> Result<Vec<Checkpoint>, StoreError> {
        let mut transaction = begin_creating_database(&self.pool).await?;
        create_tables::<V>(&mut transaction).await?;
        let stored: Vec<Json<Checkpoint>> =
            sqlx::query_scalar("SELECT checkpoint FROM view_checkpoints WHERE view_name = $1")
                .bind(V::NAME)
                .fetch_all(&mut *transaction)
                .await
                .map_err(|error| unreadable(V::NAME, error))?;
        let stored: Vec<Checkpoint> = stored.into_iter().map(|Json(stored)| stored).collect();
        let checkpoints = complete_checkpoints::<V::Event>(&stored, partitions);
        for checkpoint in &checkpoints {
            sqlx::query(
                "INSERT INTO view_checkpoints (view_name, topic, partition, next_offset, checkpoint) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(V::NAME)
            .bind(&checkpoint.topic)
            .bind(checkpoint.partition)
            .bind(checkpoint.next_offset)
            .bind(Json(checkpoint))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(checkpoints)
    }

    async fn apply(&self, batch: &Batch<V::Event>) -> Result<(), StoreError> {
        let events = recorded_events(&batch.commits)?;
        let mut transaction = self.pool.begin().await?;
        lock_view(V::NAME, &mut transaction).await?;
        if !move_checkpoint(V::NAME, batch, &mut transaction).await? {
            transaction.rollback().await?;
            return Err(StoreError::StaleCheckpoint {
                view: V::NAME,
                topic: batch.checkpoint.topic.clone(),
                partition: batch.partition,
                expected: batch.from,
            });
        }
        V::Tables::apply(&events, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database {
            database: "postgres",
            failure: failure(&error),
            source: Box::new(error),
        }
    }
}

/// Creates the tables of the view if one is missing. If all exist, it runs no statement, because `CREATE INDEX IF
/// NOT EXISTS` would wait for every writer of its table.
async fn create_tables<V: PostgresView>(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(SET_UP_LOCK)
        .execute(&mut *connection)
        .await?;
    let tables = [&[CHECKPOINTS], V::Tables::NAMES].concat();
    let missing: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM UNNEST($1::text[]) AS name WHERE to_regclass(name) IS NULL",
    )
    .bind(&tables)
    .fetch_all(&mut *connection)
    .await?;
    if missing.is_empty() {
        return Ok(());
    }
    sqlx::raw_sql(include_str!("checkpoints.sql"))
        .execute(&mut *connection)
        .await?;
    start_over::<V>(&missing, connection).await?;
    sqlx::raw_sql(V::SCHEMA).execute(&mut *connection).await?;
    Ok(())
}

/// Deletes the checkpoints and the remaining tables of a view with missing tables. The checkpoints would skip the
/// rows of the missing tables, and applying events again is safe only for rows that store a version.
async fn start_over<V: PostgresView>(
    missing: &[String],
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    // This comes first, because it waits for a batch that another node is applying, and makes its next one stale.
    let deleted = sqlx::query("DELETE FROM view_checkpoints WHERE view_name = $1")
        .bind(V::NAME)
        .execute(&mut *connection)
        .await?;
    let left: Vec<&str> = V::Tables::NAMES
        .iter()
        .copied()
        .filter(|table| !missing.iter().any(|missing| missing == table))
        .collect();
    if !left.is_empty() {
        let statement = AssertSqlSafe(format!("DROP TABLE {}", list(&left)));
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    if deleted.rows_affected() > 0 || !left.is_empty() {
        for table in missing {
            let view = V::NAME;
            tracing::warn!(
                view,
                table,
                "table is missing, projecting the view from the start"
            );
        }
    }
    Ok(())
}

/// Waits until no other batch of the view is being applied. It locks all checkpoints in one order, so two
/// batches can't wait for each other.
async fn lock_view(view: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT next_offset FROM view_checkpoints WHERE view_name = $1 \
         ORDER BY topic, partition FOR UPDATE",
    )
    .bind(view)
    .execute(connection)
    .await?;
    Ok(())
}

/// The position up to which a view has applied a topic, in the transaction's snapshot.
///
/// # Errors
/// The database's error.
pub async fn read_position(
    view: &str,
    topic: &str,
    connection: &mut PgConnection,
) -> Result<Position, sqlx::Error> {
    let checkpoints: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, next_offset FROM view_checkpoints WHERE view_name = $1 AND topic = $2",
    )
    .bind(view)
    .bind(topic)
    .fetch_all(connection)
    .await?;
    Ok(checkpoints.into_iter().collect())
}

/// Moves the checkpoint past a batch; `false` if it is not at the batch's start.
async fn move_checkpoint<E: ViewEvent>(
    view: &str,
    batch: &Batch<E>,
    connection: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE view_checkpoints SET next_offset = $5, checkpoint = $6 \
         WHERE view_name = $1 AND topic = $2 AND partition = $3 AND next_offset = $4",
    )
    .bind(view)
    .bind(&batch.checkpoint.topic)
    .bind(batch.partition)
    .bind(batch.from)
    .bind(batch.checkpoint.next_offset)
    .bind(Json(&batch.checkpoint))
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() > 0)
}

/// The error of reading checkpoints. A checkpoint that can't be parsed is not the database's failure.
fn unreadable(view: &'static str, error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { source, .. } => StoreError::Checkpoint {
            view,
            reason: source.to_string(),
        },
        error => error.into(),
    }
}
