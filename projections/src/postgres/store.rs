//! A build in Postgres: its rows and its checkpoint are written in one transaction.
//!
//! A projector moves a checkpoint only from the offset at which it has read the checkpoint, so one of two concurrent
//! projectors fails before it reads a row. Partitions are applied concurrently. If several aggregates feed the rows of
//! a table, only one transaction at a time loads, folds and writes these rows.

use super::{
    errors::{failure, is_column_missing, is_reference_missing},
    outdated::close_older_connections,
    rows::PostgresTables,
};
use crate::{
    builds::{Build, registry},
    columns::list,
    parking::{ParkedKey, table as parked},
    recorded::Recorded,
    shared_tables::{begin_with_tables, lock_schema_creation},
    store::{Failure, Opened, Step, Store, StoreError, complete_checkpoints},
    view::{Partition, View},
};
use journal::Checkpoint;
use schemas::Position;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, pool::PoolConnection, types::Json,
};
use std::marker::PhantomData;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A view whose rows are in Postgres.
pub trait PostgresView: View {
    /// Statements that create a build's tables and indexes; each does nothing if the table or index exists. `{build}`
    /// ends the name of each table, and is a part of the name of each index.
    const SCHEMA: &'static str;
    /// The columns that Postgres generates, which no row type has: each as its table's name without the suffix of a
    /// build, and its own name.
    const GENERATED_COLUMNS: &'static [(&'static str, &'static str)] = &[];
    /// Its tables, as a tuple.
    type Tables: PostgresTables<Self::Event>;
}

/// Maximum number of partitions of a build that are applied at once, so that a slow build does not use up the
/// connections.
const APPLIES_MAX: usize = 2;

/// A build of a view in Postgres.
pub struct PostgresStore<V> {
    pool: PgPool,
    /// The permits for transactions. A view with shared rows has one permit, because its transactions would wait for
    /// each other.
    applies: Semaphore,
    build: Build,
    view: PhantomData<V>,
}

impl<V: PostgresView> PostgresStore<V> {
    /// A build in the pool's database.
    pub fn new(pool: PgPool, number: i32) -> Self {
        let build = Build {
            view: V::NAME,
            number,
        };
        Self {
            pool,
            applies: Semaphore::new(match V::Tables::IS_SHARED {
                true => 1,
                false => APPLIES_MAX,
            }),
            build,
            view: PhantomData,
        }
    }

    /// A permit and a connection for one transaction.
    async fn connect(
        &self,
    ) -> Result<(SemaphorePermit<'_>, PoolConnection<Postgres>), sqlx::Error> {
        let permit = self.applies.acquire().await;
        let permit = permit.expect("the semaphore is never closed");
        Ok((permit, self.pool.acquire().await?))
    }

    /// The pool of the build's database.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The names of the build's tables.
    fn tables(&self) -> Vec<String> {
        let tables = V::Tables::NAMES.iter();
        tables.map(|table| self.build.table(table)).collect()
    }

    /// The columns of the build's tables, each with the name of its table.
    fn columns(&self) -> Vec<(String, &'static str)> {
        let of_rows = V::Tables::columns().into_iter();
        let columns = of_rows.chain(V::GENERATED_COLUMNS.iter().copied());
        columns
            .map(|(table, column)| (self.build.table(table), column))
            .collect()
    }

    /// The tables that are missing or have lost a column's values. No version of a view drops a column, so an operator
    /// has dropped it.
    ///
    /// The catalog keeps the number of a dropped column but not its name, and each added column gets a greater number.
    /// So the dropped column was the view's if one of the view's columns is missing, or has a greater number because it
    /// was added again. A column that an operator added to a complete table has the greatest number, so its drop is no
    /// loss.
    async fn lost_tables(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let (tables, columns): (Vec<String>, Vec<&str>) = self.columns().into_iter().unzip();
        sqlx::query_scalar(
            "SELECT name FROM UNNEST($1::text[]) AS name \
             WHERE to_regclass(name) IS NULL OR EXISTS ( \
                 SELECT FROM pg_attribute AS dropped \
                 JOIN UNNEST($2::text[], $3::text[]) AS needed (table_name, column_name) \
                     ON needed.table_name = name \
                 LEFT JOIN pg_attribute AS found \
                     ON found.attrelid = dropped.attrelid AND found.attname = needed.column_name \
                 WHERE dropped.attrelid = to_regclass(name) AND dropped.attisdropped \
                     AND (found.attnum IS NULL OR found.attnum > dropped.attnum))",
        )
        .bind(self.tables())
        .bind(tables)
        .bind(columns)
        .fetch_all(connection)
        .await
    }

    /// Drops the build's tables.
    ///
    /// # Errors
    /// Postgres's error.
    pub async fn drop_tables(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let statement = format!("DROP TABLE IF EXISTS {}", list(self.tables()));
        sqlx::query(AssertSqlSafe(statement))
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Creates the tables of a new build. If all of them exist, no `CREATE` runs, because `CREATE INDEX IF NOT EXISTS`
    /// would wait for every writer of its table.
    ///
    /// # Errors
    /// [`StoreError::Dropped`], also for a build that lost a table or a column: the transaction of `connection` then
    /// replaces the build with a new one.
    async fn create_tables(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let build = self.build;
        let is_complete = self.lost_tables(connection).await?.is_empty()
            && registry::are_tables_recorded(build, connection).await?;
        // This lock is taken before the lock of the build, so that two nodes can't deadlock.
        if !is_complete {
            lock_schema_creation(connection).await?;
            // The build may be replaced, which locks all builds of the view: they are always locked in one order.
            registry::locked(build.view, connection).await?;
        }
        let had_tables = registry::has_tables(build, connection).await?;
        let had_tables = had_tables.ok_or(StoreError::Dropped { build })?;
        // Another node may have created the tables meanwhile.
        let lost = self.lost_tables(connection).await?;
        if had_tables && lost.is_empty() {
            return Ok(());
        }
        if had_tables {
            let number = registry::replace(build.view, build.number, connection).await?;
            self.drop_tables(connection).await?;
            let (view, build) = (build.view, build.number);
            tracing::warn!(
                view,
                build,
                ?lost,
                number,
                "tables or columns were dropped, projecting a new build from the start"
            );
            return Err(StoreError::Dropped { build: self.build });
        }
        // After a loss of the list of builds, an earlier build with this number may have left its tables. If their
        // checkpoints are lost, too, its events would be added to its rows a second time.
        self.drop_tables(connection).await?;
        registry::forget(build.view, build.number, connection).await?;
        let schema = AssertSqlSafe(build.fill(V::SCHEMA));
        sqlx::raw_sql(schema).execute(&mut *connection).await?;
        registry::set_has_tables(build, connection).await?;
        Ok(())
    }

    /// Stores the missing checkpoints, so that each can be moved.
    async fn insert_checkpoints(
        &self,
        checkpoints: &[Checkpoint],
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        for checkpoint in checkpoints {
            sqlx::query(
                "INSERT INTO view_build_checkpoints \
                 (view_name, build, topic, partition, next_offset, checkpoint) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(self.build.view)
            .bind(self.build.number)
            .bind(&checkpoint.topic)
            .bind(checkpoint.partition)
            .bind(checkpoint.next_offset)
            .bind(Json(checkpoint))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn apply_in(
        &self,
        step: &Step<'_, V::Event>,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        let mut transaction = connection.begin().await?;
        let partition = (&*step.checkpoint.topic, step.checkpoint.partition);
        if !self.move_checkpoint(step, &mut transaction).await? {
            transaction.rollback().await?;
            return Err(self.stale(partition, step.from));
        }
        match parked::insert(self.build, partition, step.parked, &mut transaction).await {
            Ok(()) => {}
            // Another process has applied the key's commits, so the parked keys of this one are outdated.
            Err(error) if is_reference_missing(&error) => {
                return Err(self.stale(partition, step.from));
            }
            Err(error) => return Err(error.into()),
        }
        V::Tables::apply(self.build, step.events, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends the use of a connection that has applied events. Returns the result, with the kind of its failure.
    async fn end(
        &self,
        applied: Result<(), StoreError>,
        mut connection: PoolConnection<Postgres>,
    ) -> Result<(), StoreError> {
        let applied = match applied {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error, &mut connection).await),
        };
        close_after(&applied, connection);
        applied
    }

    /// Finds out whether a missing column was dropped; then the build must be replaced. A renamed column waits for an
    /// operator.
    async fn explain(&self, error: StoreError, connection: &mut PgConnection) -> StoreError {
        let StoreError::Database { source, .. } = &error else {
            return error;
        };
        let is_column_missing = source
            .downcast_ref::<sqlx::Error>()
            .is_some_and(is_column_missing);
        if !is_column_missing {
            return error;
        }
        match self.lost_tables(connection).await {
            Ok(lost) if !lost.is_empty() => error.with_failure(Failure::TableMissing),
            // The next attempt asks again.
            Ok(_) | Err(_) => error,
        }
    }

    fn stale(&self, (topic, partition): (&str, i32), expected: i64) -> StoreError {
        StoreError::StaleCheckpoint {
            build: self.build,
            topic: topic.to_owned(),
            partition,
            expected,
        }
    }

    /// Moves the checkpoint; `false` if the stored checkpoint is not at the beginning of the step.
    async fn move_checkpoint(
        &self,
        step: &Step<'_, V::Event>,
        connection: &mut PgConnection,
    ) -> Result<bool, sqlx::Error> {
        let moved = sqlx::query(
            "UPDATE view_build_checkpoints SET next_offset = $6, checkpoint = $7 \
             WHERE view_name = $1 AND build = $2 AND topic = $3 AND partition = $4 \
             AND next_offset = $5",
        )
        .bind(self.build.view)
        .bind(self.build.number)
        .bind(&step.checkpoint.topic)
        .bind(step.checkpoint.partition)
        .bind(step.from)
        .bind(step.checkpoint.next_offset)
        .bind(Json(step.checkpoint))
        .execute(connection)
        .await?;
        Ok(moved.rows_affected() > 0)
    }

    async fn release_in(
        &self,
        key: &ParkedKey,
        commits: &[i64],
        events: &[Recorded<'_, V::Event>],
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        let mut transaction = connection.begin().await?;
        // The commits are removed first: another process that applies the same commits waits here, and then removes
        // none.
        let removed = parked::remove(self.build, key, commits, &mut transaction).await?;
        if removed != commits.len() {
            transaction.rollback().await?;
            let first = commits.first().copied().unwrap_or_default();
            return Err(self.stale((&key.topic, key.partition), first));
        }
        V::Tables::apply(self.build, events, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn try_apply_in(
        &self,
        events: &[Recorded<'_, V::Event>],
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        let mut transaction = connection.begin().await?;
        V::Tables::apply(self.build, events, &mut transaction).await?;
        // Constraints may be checked only at the end of the transaction.
        sqlx::query("SET CONSTRAINTS ALL IMMEDIATE")
            .execute(&mut *transaction)
            .await?;
        transaction.rollback().await?;
        Ok(())
    }
}

impl<V: PostgresView> Store for PostgresStore<V> {
    type Event = V::Event;

    fn build(&self) -> Build {
        self.build
    }

    async fn open(&self, partitions: &[Partition]) -> Result<Opened, StoreError> {
        let mut transaction = begin_with_tables(&self.pool).await?;
        match self.create_tables(&mut transaction).await {
            Ok(()) => {}
            Err(error @ StoreError::Dropped { .. }) => {
                // The transaction may have replaced the build.
                transaction.commit().await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        let stored: Vec<Json<Checkpoint>> = sqlx::query_scalar(
            "SELECT checkpoint FROM view_build_checkpoints WHERE view_name = $1 AND build = $2",
        )
        .bind(self.build.view)
        .bind(self.build.number)
        .fetch_all(&mut *transaction)
        .await
        .map_err(|error| unreadable(self.build, error))?;
        let stored: Vec<Checkpoint> = stored.into_iter().map(|Json(stored)| stored).collect();
        let checkpoints = complete_checkpoints(&stored, partitions);
        self.insert_checkpoints(&checkpoints, &mut transaction)
            .await?;
        let parked = parked::keys(self.build, partitions, &mut transaction).await?;
        transaction.commit().await?;
        Ok(Opened {
            checkpoints,
            parked,
        })
    }

    async fn apply(&self, step: &Step<'_, V::Event>) -> Result<(), StoreError> {
        let (_permit, mut connection) = self.connect().await?;
        let applied = self.apply_in(step, &mut connection).await;
        self.end(applied, connection).await
    }

    async fn try_apply(&self, events: &[Recorded<'_, V::Event>]) -> Result<(), StoreError> {
        let (_permit, mut connection) = self.connect().await?;
        let applied = self.try_apply_in(events, &mut connection).await;
        self.end(applied, connection).await
    }

    async fn release(
        &self,
        key: &ParkedKey,
        commits: &[i64],
        events: &[Recorded<'_, V::Event>],
    ) -> Result<(), StoreError> {
        let (_permit, mut connection) = self.connect().await?;
        let released = self.release_in(key, commits, events, &mut connection).await;
        self.end(released, connection).await
    }
}

/// Closes the connection after an error that no value caused. A connection keeps its prepared statements, and these
/// always fail after their table was altered.
fn close_after(applied: &Result<(), StoreError>, mut connection: PoolConnection<Postgres>) {
    let failure = applied.as_ref().err().and_then(StoreError::failure);
    match failure {
        Some(Failure::Transient | Failure::Timeout | Failure::TableMissing) => {
            connection.close_on_drop();
        }
        Some(Failure::Value) | None => {}
    }
}

impl From<sqlx::Error> for StoreError {
    /// The error of a projector, which makes another attempt by itself. The attempt must not fail for the same reason.
    fn from(error: sqlx::Error) -> Self {
        close_older_connections(&error);
        Self::Database {
            database: "postgres",
            failure: failure(&error),
            source: Box::new(error),
        }
    }
}

/// The position up to which a build has applied a topic, in the transaction's snapshot.
///
/// # Errors
/// The database's error.
pub async fn read_position(
    build: Build,
    topic: &str,
    connection: &mut PgConnection,
) -> Result<Position, sqlx::Error> {
    let checkpoints: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT partition, next_offset FROM view_build_checkpoints \
         WHERE view_name = $1 AND build = $2 AND topic = $3",
    )
    .bind(build.view)
    .bind(build.number)
    .bind(topic)
    .fetch_all(connection)
    .await?;
    Ok(checkpoints.into_iter().collect())
}

/// Converts an error of reading checkpoints. A checkpoint that can't be parsed does not count as a failure of the
/// database.
fn unreadable(build: Build, error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { source, .. } => StoreError::Checkpoint {
            build,
            reason: source.to_string(),
        },
        error => error.into(),
    }
}
