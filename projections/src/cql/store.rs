//! A view in the CQL store: rows, whose writes may be repeated or late, then the checkpoint.
//!
//! The store has no transactions; [`super::writes`] explains why the view needs none. Rows are read and
//! written at a quorum, and the checkpoint is written after they are acknowledged.

use super::{Cql, CqlError, Session, rows::CqlTables, writes::write_timestamp};
use crate::{
    recorded::recorded_events,
    store::{Store, StoreError, complete_checkpoints},
    view::{View, ViewEvent},
};
use journal::{Batch, Checkpoint};
use schemas::{Position, topics::PartitionCounts};
use scylla::errors::ExecutionError;
use std::marker::PhantomData;

/// The tables that all views share, each with the statement that creates it.
const SHARED_TABLES: [(&str, &str); 2] = [
    ("view_checkpoints", include_str!("checkpoints.cql")),
    ("view_deletions", include_str!("deletions.cql")),
];
const READ_CHECKPOINTS: &str =
    "SELECT checkpoint FROM {keyspace}.view_checkpoints WHERE view_name = ? AND topic = ?";
const READ_POSITION: &str = "SELECT partition, next_offset FROM {keyspace}.view_checkpoints WHERE view_name = ? AND topic = ?";
const READ_CHECKPOINT_TIMES: &str = "SELECT partition, WRITETIME(checkpoint) FROM {keyspace}.view_checkpoints \
    WHERE view_name = ? AND topic = ?";
const DELETE_CHECKPOINT: &str = "DELETE FROM {keyspace}.view_checkpoints USING TIMESTAMP ? \
    WHERE view_name = ? AND topic = ? AND partition = ?";
const WRITE_CHECKPOINT: &str = "INSERT INTO {keyspace}.view_checkpoints \
    (view_name, topic, partition, next_offset, checkpoint) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";

/// A view whose rows are in the CQL store.
pub trait CqlView: View {
    /// Statements that create its tables; each does nothing if its table exists.
    const SCHEMA: &'static str;
    /// Its tables, as a tuple.
    type Tables: CqlTables<Self::Event>;
}

/// A view in the CQL store.
pub struct CqlStore<V> {
    cql: Cql,
    view: PhantomData<V>,
}

impl<V: CqlView> CqlStore<V> {
    /// The view in the store's keyspace.
    pub fn new(cql: Cql) -> Self {
        Self {
            cql,
            view: PhantomData,
        }
    }
}

impl<V: CqlView> Store for CqlStore<V> {
    type Event = V::Event;

    fn name(&self) -> &'static str {
        V::NAME
    }

    async fn open(&self, partitions: &PartitionCounts) -> Result<Vec<Checkpoint>, StoreError> {
        let session = self.cql.session()?;
        create_tables::<V>(&session).await?;
        let mut stored = Vec::new();
        for topic in V::Event::TOPICS {
            let of_topic = session
                .fetch::<(String,)>(READ_CHECKPOINTS, (V::NAME, *topic))
                .await?;
            for (checkpoint,) in of_topic {
                let checkpoint = serde_json::from_str(&checkpoint).map_err(unreadable::<V>)?;
                stored.push(checkpoint);
            }
        }
        Ok(complete_checkpoints::<V::Event>(&stored, partitions))
    }

    async fn apply(&self, batch: &Batch<V::Event>) -> Result<(), StoreError> {
        let events = recorded_events(&batch.commits)?;
        let session = self.cql.session()?;
        V::Tables::apply(V::NAME, &session, &events).await?;
        // Written last, because a checkpoint covers only rows that were acknowledged.
        let checkpoint = &batch.checkpoint;
        let values = (
            V::NAME,
            &checkpoint.topic,
            batch.partition,
            checkpoint.next_offset,
            serde_json::to_string(checkpoint).map_err(unreadable::<V>)?,
            write_timestamp(checkpoint.next_offset - 1),
        );
        session.execute(WRITE_CHECKPOINT, values).await?;
        Ok(())
    }
}

/// Creates the tables that are missing. The check comes first, because a role that may read and write need not
/// be allowed to create.
async fn create_tables<V: CqlView>(session: &Session) -> Result<(), CqlError> {
    let found = session.tables().await?;
    for (table, schema) in SHARED_TABLES {
        if !found.contains(table) {
            session.run_all(schema).await?;
        }
    }
    let missing: Vec<&str> = V::Tables::NAMES
        .iter()
        .copied()
        .filter(|table| !found.contains(*table))
        .collect();
    if !missing.is_empty() {
        // Deleted before the tables are created: if the process ends in between, the tables are still missing at
        // the next start.
        if delete_checkpoints::<V>(session).await? {
            for table in missing {
                let view = V::NAME;
                tracing::warn!(
                    view,
                    table,
                    "table is missing, projecting the view from the start"
                );
            }
        }
        session.run_all(V::SCHEMA).await?;
    }
    check_known(session, V::Tables::NAMES).await
}

/// Fails with [`CqlError::is_schema_missing`] if statements about a table can't be prepared. Cassandra lists a
/// table in `system_schema` before it can use it, so a table that another node or a timed-out request has just
/// created may be listed but not usable yet.
async fn check_known(session: &Session, tables: &[&str]) -> Result<(), CqlError> {
    for table in tables {
        let statement = session.statement(&format!("SELECT * FROM {{keyspace}}.{table} LIMIT 1"));
        let prepared = session.driver().get_session().prepare(statement).await;
        prepared.map_err(ExecutionError::from)?;
    }
    Ok(())
}

/// Deletes a view's checkpoints, which would skip the rows of a missing table; `false` if it had none. Rows of the
/// view's other tables stay, because each stores the version of the last event that was applied to it.
///
/// A deletion hides writes with its timestamp or an earlier one, and a checkpoint's timestamp grows with its
/// offset. So a checkpoint of the second projection is visible only after it has passed the deleted one; a
/// restart before that projects the view from the start again.
async fn delete_checkpoints<V: CqlView>(session: &Session) -> Result<bool, CqlError> {
    let mut deleted = false;
    for topic in V::Event::TOPICS {
        let stored: Vec<(i32, i64)> = session
            .fetch(READ_CHECKPOINT_TIMES, (V::NAME, *topic))
            .await?;
        for (partition, timestamp) in stored {
            let values = (timestamp, V::NAME, *topic, partition);
            session.execute(DELETE_CHECKPOINT, values).await?;
            deleted = true;
        }
    }
    Ok(deleted)
}

/// The position up to which a view has applied a topic. Rows that are read afterwards include all events before it.
///
/// # Errors
/// The store's error.
pub async fn read_position(
    session: &Session,
    view: &str,
    topic: &str,
) -> Result<Position, CqlError> {
    let checkpoints: Vec<(i32, i64)> = session.fetch(READ_POSITION, (view, topic)).await?;
    Ok(checkpoints.into_iter().collect())
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

fn unreadable<V: View>(error: serde_json::Error) -> StoreError {
    StoreError::Checkpoint {
        view: V::NAME,
        reason: error.to_string(),
    }
}
