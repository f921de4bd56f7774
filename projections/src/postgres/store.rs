//! A view in Postgres: rows and checkpoint in one transaction.
//!
//! The checkpoint moves only from where this projector believes it to be, so of two projectors one
//! fails before it writes a row.

use super::pool::begin_creating_database;
use crate::{
    facts,
    store::{PostError, Projection, Store, complete},
};
use journal::{Batch, Checkpoint};
use schemas::ContextEvent;
use sqlx::{PgConnection, PgPool, types::Json};
use std::marker::PhantomData;

/// Key of the advisory lock that set-up holds, so that processes starting at once don't trip over
/// each other's tables.
const SET_UP_LOCK: i64 = 0x6461_7962_6f6f_6b01;

/// A view whose rows are in Postgres.
pub trait PostgresView: Projection {
    /// Its tables and indexes; each statement does nothing where they are.
    const SCHEMA: &'static str;

    /// Writes a batch's changes as absolute values.
    fn write(
        changes: &Self::Changes,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
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

    async fn open(&self) -> Result<Vec<Checkpoint>, PostError> {
        let mut transaction = begin_creating_database(&self.pool).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(SET_UP_LOCK)
            .execute(&mut *transaction)
            .await?;
        // Made in one transaction, so one table stands for all; and making an index that is there
        // would still wait for whoever writes to its table.
        let missing: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NULL")
            .bind(V::NAME)
            .fetch_one(&mut *transaction)
            .await?;
        if missing {
            for schema in [include_str!("checkpoints.sql"), V::SCHEMA] {
                sqlx::raw_sql(schema).execute(&mut *transaction).await?;
            }
        }
        let topic = V::Event::CONTEXT.topic;
        let stored: Vec<Json<Checkpoint>> = sqlx::query_scalar(
            "SELECT checkpoint FROM view_checkpoints WHERE view_name = $1 AND topic = $2",
        )
        .bind(V::NAME)
        .bind(topic)
        .fetch_all(&mut *transaction)
        .await
        .map_err(|error| unreadable(V::NAME, error))?;
        let stored = stored.into_iter().map(|Json(checkpoint)| checkpoint);
        let checkpoints = complete::<V::Event>(stored.collect());
        for checkpoint in &checkpoints {
            sqlx::query(
                "INSERT INTO view_checkpoints (view_name, topic, partition, next_offset, checkpoint) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(V::NAME)
            .bind(topic)
            .bind(checkpoint.partition)
            .bind(checkpoint.next_offset)
            .bind(Json(checkpoint))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(checkpoints)
    }

    async fn post(&self, batch: &Batch<V::Event>) -> Result<(), PostError> {
        let changes = V::fold(&facts::of_commits(&batch.commits)?)?;
        let mut transaction = self.pool.begin().await?;
        // The guard comes first: it locks the row, so a second projector waits here, then fails.
        let moved = sqlx::query(
            "UPDATE view_checkpoints SET next_offset = $5, checkpoint = $6 \
             WHERE view_name = $1 AND topic = $2 AND partition = $3 AND next_offset = $4",
        )
        .bind(V::NAME)
        .bind(&batch.checkpoint.topic)
        .bind(batch.partition)
        .bind(batch.from)
        .bind(batch.checkpoint.next_offset)
        .bind(Json(&batch.checkpoint))
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() == 0 {
            transaction.rollback().await?;
            return Err(PostError::Overtaken {
                view: V::NAME,
                topic: batch.checkpoint.topic.clone(),
                partition: batch.partition,
                expected: batch.from,
            });
        }
        V::write(&changes, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// A checkpoint that is no checkpoint is no trouble of the database's.
fn unreadable(view: &'static str, error: sqlx::Error) -> PostError {
    match error {
        sqlx::Error::ColumnDecode { source, .. } => PostError::Checkpoint {
            view,
            reason: source.to_string(),
        },
        error => PostError::Postgres(error),
    }
}
