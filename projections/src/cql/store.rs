//! A build in the CQL store. Its rows are written before its checkpoint, by writes that may be repeated or arrive late.
//!
//! The store has no transactions; [`super::writes`] explains why rows need none. Rows are read and written at a quorum,
//! and the checkpoint is written after the rows are acknowledged, so a stored checkpoint covers only stored rows. A
//! lightweight transaction moves the checkpoint, only from the offset at which the projector read it: of two concurrent
//! projectors, one fails and resumes from the checkpoint of the other.
//!
//! Parked commits are in Postgres, as the list of builds is. They are recorded before the checkpoint that covers them.

mod empty_tables;

use super::{
    Cql, CqlError, Session,
    connection::create_keyspace,
    migrations::{self, CHECKPOINTS},
    rows::{CqlTables, deletions_table},
    schema::{
        NeededTables, Schema, TableColumns, TablesState, failure_of_complete_tables, has_one_schema,
    },
};
use crate::{
    builds::{Build, registry},
    columns::list,
    parking::{ParkedKey, table as parked},
    postgres,
    recorded::Recorded,
    shared_tables::{begin_with_tables, lock_schema_creation},
    store::{Failure, Opened, Step, Store, StoreError, complete_checkpoints},
    view::{Partition, View, ViewEvent},
};
use journal::Checkpoint;
use schemas::Position;
use scylla::{
    errors::ExecutionError,
    value::{CqlValue, Row},
};
use sqlx::{PgConnection, PgPool};
use std::{marker::PhantomData, sync::Arc, time::Duration};

/// Longest wait of an operator's command for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The columns of the table of a build's deleted rows.
const DELETION_COLUMNS: [&str; 3] = ["table_name", "row_key", "version"];
/// The columns of the shared table of checkpoints.
const CHECKPOINT_COLUMNS: [&str; 6] = [
    "view_name",
    "build",
    "topic",
    "partition",
    "next_offset",
    "checkpoint",
];
const READ_CHECKPOINTS: &str = "SELECT checkpoint FROM {keyspace}.view_build_checkpoints \
    WHERE view_name = ? AND build = ? AND topic = ?";
pub(super) const READ_POSITION: &str = "SELECT partition, next_offset FROM {keyspace}.view_build_checkpoints \
    WHERE view_name = ? AND build = ? AND topic = ?";
const READ_PARTITIONS: &str = "SELECT partition FROM {keyspace}.view_build_checkpoints \
    WHERE view_name = ? AND build = ? AND topic = ?";
/// A lightweight transaction, like all writes of checkpoints. After a plain deletion, the clocks would decide whether
/// the next stored checkpoint is visible.
const DELETE_CHECKPOINT: &str = "DELETE FROM {keyspace}.view_build_checkpoints \
    WHERE view_name = ? AND build = ? AND topic = ? AND partition = ? IF EXISTS";
const INSERT_CHECKPOINT: &str = "INSERT INTO {keyspace}.view_build_checkpoints \
    (view_name, build, topic, partition, next_offset, checkpoint) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS";
const MOVE_CHECKPOINT: &str = "UPDATE {keyspace}.view_build_checkpoints SET next_offset = ?, checkpoint = ? \
    WHERE view_name = ? AND build = ? AND topic = ? AND partition = ? IF next_offset = ?";

/// A view whose rows are in the CQL store.
pub trait CqlView: View {
    /// Statements that create a build's tables; each does nothing if its table exists. `{build}` ends the name of each
    /// table.
    const SCHEMA: &'static str;
    /// Its tables, as a tuple.
    type Tables: CqlTables<Self::Event> + TableColumns;
}

/// A build of a view in the CQL store.
pub struct CqlStore<V> {
    cql: Cql,
    postgres: PgPool,
    build: Build,
    view: PhantomData<V>,
}

impl<V: CqlView> CqlStore<V> {
    /// A build in the store's keyspace. Its entry in the list of builds and its parked commits are in Postgres.
    pub fn new(cql: Cql, postgres: PgPool, number: i32) -> Self {
        let build = Build {
            view: V::NAME,
            number,
        };
        Self {
            cql,
            postgres,
            build,
            view: PhantomData,
        }
    }

    /// Waits a bounded time for the connection to the store.
    ///
    /// # Errors
    /// [`CqlError::NotConnected`].
    pub async fn session(&self) -> Result<Arc<Session>, CqlError> {
        self.cql.session_within(CONNECT_TIMEOUT).await
    }

    /// The build's tables with their columns, including the table of its deleted rows.
    fn needed_tables(&self) -> NeededTables {
        let tables = <V::Tables as TableColumns>::columns().into_iter();
        let tables = tables.map(|(table, columns)| (self.build.table(table), columns));
        let deletions = (deletions_table(self.build), DELETION_COLUMNS.to_vec());
        tables.chain([deletions]).collect()
    }

    /// The names of the build's tables; the last one is the table of its deleted rows.
    fn tables(&self) -> Vec<String> {
        let needed = self.needed_tables().into_iter();
        needed.map(|(table, _)| table).collect()
    }

    /// Drops the build's tables and checkpoints.
    ///
    /// # Errors
    /// The store's error.
    pub async fn drop_tables(&self) -> Result<(), CqlError> {
        let session = self.cql.session()?;
        self.delete_checkpoints(&session).await?;
        self.drop_all(&self.tables(), &session).await
    }

    /// Creates the keyspace, the tables of a new build and the shared tables, if any is missing. Checks for them first,
    /// because a role that may read and write may lack the right to create tables. One node at a time creates tables.
    ///
    /// # Errors
    /// [`StoreError::Dropped`], also for a build that lost a table or a column: the transaction of `connection` then
    /// replaces the build with a new one. [`CqlError::ColumnMissing`] for a renamed column, [`CqlError::NewerTables`]
    /// for shared tables of a newer program.
    async fn create_tables(
        &self,
        session: &Session,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        let (build, needed) = (self.build, self.needed_tables());
        let mut state = Schema::read(session).await?.state_of(&needed);
        let is_complete = !matches!(state, TablesState::Lost(_))
            && migrations::missing(session).await?.is_empty()
            && registry::are_tables_recorded(build, connection).await?;
        // This lock is taken before the lock of the build, so that two nodes can't deadlock.
        if !is_complete {
            lock_schema_creation(connection).await?;
            // The build may be replaced, which locks all builds of the view: they are always locked in one order.
            registry::locked(build.view, connection).await?;
        }
        let had_tables = registry::has_tables(build, connection).await?;
        let had_tables = had_tables.ok_or(StoreError::Dropped { build })?;
        if !is_complete {
            create_keyspace(session).await?;
            migrations::apply(session).await?;
            // Another node may have created the tables meanwhile.
            state = Schema::read(session).await?.state_of(&needed);
            if let (TablesState::Lost(lost), true) = (&state, had_tables) {
                return Err(self.replace(lost, connection).await);
            }
        }
        if !had_tables {
            self.create_empty_tables(&state, session).await?;
            state = TablesState::Complete;
        }
        if let TablesState::ColumnMissing { table, column } = state {
            return Err(CqlError::ColumnMissing { table, column }.into());
        }
        check_known(session, &needed).await?;
        if !had_tables {
            registry::set_has_tables(build, connection).await?;
        }
        Ok(())
    }

    /// Replaces a build that lost tables. Returns [`StoreError::Dropped`], or why it can't be replaced.
    async fn replace(&self, lost: &[String], connection: &mut PgConnection) -> StoreError {
        let Build { view, number } = self.build;
        match registry::replace(view, number, connection).await {
            Ok(successor) => {
                tracing::warn!(
                    view,
                    build = number,
                    ?lost,
                    number = successor,
                    "tables or columns were dropped, projecting a new build from the start"
                );
                StoreError::Dropped { build: self.build }
            }
            Err(error) => error.into(),
        }
    }

    /// Applies events to the rows, without a checkpoint.
    async fn apply_rows(
        &self,
        session: &Session,
        events: &[Recorded<'_, V::Event>],
    ) -> Result<(), StoreError> {
        match V::Tables::apply(self.build, session, events).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(session, error, true).await),
        }
    }

    /// Finds out why the store refused a statement, if missing or altered tables may be the cause. If the tables are
    /// complete and all nodes have one schema, the cause of an invalid statement about rows is a refused value.
    async fn explain(
        &self,
        session: &Session,
        error: StoreError,
        is_about_rows: bool,
    ) -> StoreError {
        let StoreError::Database { source, .. } = &error else {
            return error;
        };
        let refused = source.downcast_ref::<CqlError>();
        let Some(refused) = refused.filter(|refused| refused.may_be_about_schema()) else {
            return error;
        };
        let is_invalid = refused.is_invalid_statement();
        let failure = match self.tables_state(session).await {
            Ok(TablesState::ColumnMissing { table, column }) => {
                return CqlError::ColumnMissing { table, column }.into();
            }
            Ok(TablesState::Lost(_)) => Failure::TableMissing,
            Ok(TablesState::Complete) if is_invalid && is_about_rows => {
                failure_of_complete_tables(has_one_schema(session).await)
            }
            Ok(TablesState::Complete) => Failure::Transient,
            Err(unknown) => return unknown.into(),
        };
        error.with_failure(failure)
    }

    /// The state of the build's tables and of the table of checkpoints. A table that the store lists but can't use yet
    /// counts as lost: opening the build waits for it. All builds share the table of checkpoints, so no new build would
    /// replace it, and a drop in it does not count. The store sets the timestamps of checkpoints, so a column that was
    /// added again shows later writes.
    async fn tables_state(&self, session: &Session) -> Result<TablesState, CqlError> {
        let mut needed = self.needed_tables();
        needed.push((CHECKPOINTS.to_owned(), CHECKPOINT_COLUMNS.to_vec()));
        let schema = Schema::read(session).await?;
        let state = schema.without_drops_of(CHECKPOINTS).state_of(&needed);
        if state != TablesState::Complete {
            return Ok(state);
        }
        match check_known(session, &needed).await {
            Ok(()) => Ok(TablesState::Complete),
            Err(error) if error.is_invalid_statement() => {
                let tables = needed.into_iter().map(|(table, _)| table);
                Ok(TablesState::Lost(tables.collect()))
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_checkpoints(&self, session: &Session) -> Result<(), CqlError> {
        let Build { view, number } = self.build;
        for topic in V::Event::TOPICS {
            delete_checkpoints(session, view, number, topic).await?;
        }
        Ok(())
    }

    async fn record_parked(&self, step: &Step<'_, V::Event>) -> Result<(), StoreError> {
        if step.parked.is_empty() {
            return Ok(());
        }
        let partition = (&*step.checkpoint.topic, step.checkpoint.partition);
        let (build, mut transaction) = (self.build, self.postgres.begin().await?);
        // Locks the build, so that it can't be dropped meanwhile: nothing would remove entries that are added after the
        // drop.
        if registry::has_tables(build, &mut transaction)
            .await?
            .is_none()
        {
            return Err(StoreError::Dropped { build });
        }
        let inserted = parked::insert(self.build, partition, step.parked, &mut transaction).await;
        match inserted {
            Ok(()) => Ok(transaction.commit().await?),
            // Another projector has applied the key's commits, so the parked keys of this one are outdated.
            Err(error) if postgres::is_reference_missing(&error) => Err(self.stale(step)),
            Err(error) => Err(error.into()),
        }
    }

    fn stale(&self, step: &Step<'_, V::Event>) -> StoreError {
        StoreError::StaleCheckpoint {
            build: self.build,
            topic: step.checkpoint.topic.clone(),
            partition: step.checkpoint.partition,
            expected: step.from,
        }
    }

    /// Stores the missing checkpoints, so that each can be moved.
    async fn insert_checkpoints(
        &self,
        session: &Session,
        checkpoints: &[&Checkpoint],
    ) -> Result<(), StoreError> {
        for checkpoint in checkpoints {
            let values = (
                self.build.view,
                self.build.number,
                &checkpoint.topic,
                checkpoint.partition,
                checkpoint.next_offset,
                self.text(checkpoint)?,
            );
            session.execute(INSERT_CHECKPOINT, values).await?;
        }
        Ok(())
    }

    /// Moves the checkpoint; `false` if the stored checkpoint is not at the beginning of the step. A retry after a lost
    /// answer also gets `false`; the projector then continues from the stored checkpoint.
    async fn move_checkpoint(
        &self,
        session: &Session,
        step: &Step<'_, V::Event>,
    ) -> Result<bool, StoreError> {
        let checkpoint = step.checkpoint;
        let values = (
            checkpoint.next_offset,
            self.text(checkpoint)?,
            self.build.view,
            self.build.number,
            &checkpoint.topic,
            checkpoint.partition,
            step.from,
        );
        // The answer has more columns if the condition did not hold.
        let answer: Vec<Row> = session.fetch(MOVE_CHECKPOINT, values).await?;
        let applied = answer.first().and_then(|row| row.columns.first());
        Ok(matches!(applied, Some(Some(CqlValue::Boolean(true)))))
    }

    fn text(&self, checkpoint: &Checkpoint) -> Result<String, StoreError> {
        serde_json::to_string(checkpoint).map_err(|error| self.unreadable(&error))
    }
}

impl<V: CqlView> Store for CqlStore<V> {
    type Event = V::Event;

    fn build(&self) -> Build {
        self.build
    }

    async fn open(&self, partitions: &[Partition]) -> Result<Opened, StoreError> {
        let session = self.cql.session()?;
        let mut transaction = begin_with_tables(&self.postgres).await?;
        match self.create_tables(&session, &mut transaction).await {
            Ok(()) => {}
            Err(error @ StoreError::Dropped { .. }) => {
                // The transaction may have replaced the build. No projector uses the remaining tables of the old build.
                transaction.commit().await?;
                self.drop_tables().await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        transaction.commit().await?;
        let mut stored: Vec<Checkpoint> = Vec::new();
        for topic in V::Event::TOPICS {
            let of_topic = (self.build.view, self.build.number, *topic);
            let texts: Vec<(String,)> = session.fetch(READ_CHECKPOINTS, of_topic).await?;
            for (text,) in texts {
                stored.push(serde_json::from_str(&text).map_err(|error| self.unreadable(&error))?);
            }
        }
        let checkpoints = complete_checkpoints(&stored, partitions);
        let missing: Vec<_> = checkpoints
            .iter()
            .filter(|checkpoint| !stored.contains(checkpoint))
            .collect();
        self.insert_checkpoints(&session, &missing).await?;
        // Read after the checkpoints: an aggregate is recorded as parked before the checkpoint that covers it.
        let mut connection = self.postgres.acquire().await?;
        let parked = parked::keys(self.build, partitions, &mut connection).await?;
        Ok(Opened {
            checkpoints,
            parked,
        })
    }

    async fn apply(&self, step: &Step<'_, V::Event>) -> Result<(), StoreError> {
        let session = self.cql.session()?;
        self.apply_rows(&session, step.events).await?;
        self.record_parked(step).await?;
        // Written last, because a checkpoint covers only rows that were acknowledged.
        match self.move_checkpoint(&session, step).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.stale(step)),
            Err(error) => Err(self.explain(&session, error, false).await),
        }
    }

    /// Writes the rows, because the store has no transactions to roll back. A later [`Store::apply`] repeats each of
    /// these writes.
    async fn try_apply(&self, events: &[Recorded<'_, V::Event>]) -> Result<(), StoreError> {
        let session = self.cql.session()?;
        self.apply_rows(&session, events).await
    }

    async fn release(
        &self,
        key: &ParkedKey,
        commits: &[i64],
        events: &[Recorded<'_, V::Event>],
    ) -> Result<(), StoreError> {
        self.try_apply(events).await?;
        let mut transaction = self.postgres.begin().await?;
        parked::remove(self.build, key, commits, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

impl<V> CqlStore<V> {
    fn unreadable(&self, error: &serde_json::Error) -> StoreError {
        StoreError::Checkpoint {
            build: self.build,
            reason: error.to_string(),
        }
    }
}

/// Fails with an error for which [`CqlError::is_invalid_statement`] is true if a statement about the columns of a table
/// can't be prepared. Cassandra lists tables and columns in `system_schema` before it can use them, so a table that
/// another node or a timed-out request has just created, or a column that has just been renamed, may be listed but not
/// usable yet.
async fn check_known(session: &Session, needed: &NeededTables) -> Result<(), CqlError> {
    for (table, columns) in needed {
        let select = format!("SELECT {} FROM {{keyspace}}.{table} LIMIT 1", list(columns));
        let statement = session.statement(&select);
        let prepared = session.driver().get_session().prepare(statement).await;
        prepared.map_err(ExecutionError::from)?;
    }
    Ok(())
}

/// The position up to which a build has applied a topic. Rows that are read afterwards include all events before this
/// position.
///
/// # Errors
/// The store's error.
pub async fn read_position(
    session: &Session,
    build: Build,
    topic: &str,
) -> Result<Position, CqlError> {
    let of_topic = (build.view, build.number, topic);
    let checkpoints: Vec<(i32, i64)> = session.fetch(READ_POSITION, of_topic).await?;
    Ok(checkpoints.into_iter().collect())
}

/// Deletes the checkpoints of a build in a topic. Reads only their keys: stored checkpoints have no offset after the
/// column was dropped and added again.
///
/// # Errors
/// The store's error.
pub(super) async fn delete_checkpoints(
    session: &Session,
    view: &str,
    build: i32,
    topic: &str,
) -> Result<(), CqlError> {
    let partitions: Vec<(i32,)> = session.fetch(READ_PARTITIONS, (view, build, topic)).await?;
    for (partition,) in partitions {
        let checkpoint = (view, build, topic, partition);
        session.execute(DELETE_CHECKPOINT, checkpoint).await?;
    }
    Ok(())
}

impl From<CqlError> for StoreError {
    fn from(error: CqlError) -> Self {
        Self::Database {
            database: "cql",
            failure: error.failure(),
            source: Box::new(error),
        }
    }
}
