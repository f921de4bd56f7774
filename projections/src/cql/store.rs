//! A view in the CQL store: idempotent upserts of absolute values, then the checkpoint.
//!
//! Every statement carries `USING TIMESTAMP` made of the journal's offset, so that posting a batch
//! again, or late, changes nothing: the later offset wins whenever it is written. A row is fed by
//! one aggregate, hence by one partition, so its offsets compare.

use super::{Cql, CqlError, Session};
use crate::{
    facts,
    store::{PostError, Projection, Store, complete},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use journal::{Batch, Checkpoint};
use schemas::ContextEvent;
use scylla::{
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch as CqlBatch, BatchType},
        prepared::PreparedStatement,
    },
};
use std::{collections::BTreeMap, marker::PhantomData};

/// Most rows in one request; all of one request are of one partition.
const ROWS_PER_REQUEST_MAX: usize = 100;
/// Most requests under way at once.
const REQUESTS_MAX: usize = 32;

const READ_CHECKPOINTS: &str =
    "SELECT checkpoint FROM {keyspace}.view_checkpoints WHERE view_name = ? AND topic = ?";
const WRITE_CHECKPOINT: &str = "INSERT INTO {keyspace}.view_checkpoints \
    (view_name, topic, partition, next_offset, checkpoint) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";

/// A view whose rows are in the CQL store. Its changes are its rows.
pub trait CqlView: Projection<Changes = Vec<Self::Row>> {
    /// One row, as the newest fact about it left it.
    type Row: Send + Sync;
    /// Its tables; each statement does nothing where they are.
    const SCHEMA: &'static str;
    /// Writes one row; takes what [`CqlView::values`] gives, and the timestamp.
    const UPSERT: &'static str;

    /// The partition key of a row.
    fn partition(row: &Self::Row) -> &str;

    /// The values of a row, and the timestamp last of all.
    fn values(row: &Self::Row) -> impl SerializeRow + Send + Sync;
}

/// A view in the CQL store.
pub struct CqlStore<V> {
    cql: Cql,
    view: PhantomData<V>,
}

/// What a write at a journal's offset carries as its timestamp. A delete has `2 * offset`: at equal
/// timestamps it would win over the write.
pub fn write_timestamp(offset: i64) -> i64 {
    2 * offset + 1
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

    async fn open(&self) -> Result<Vec<Checkpoint>, PostError> {
        let session = self.cql.session()?;
        for schema in [include_str!("checkpoints.cql"), V::SCHEMA] {
            session.run_all(schema).await?;
        }
        let key = (V::NAME, V::Event::CONTEXT.topic);
        let stored = session.fetch::<(String,)>(READ_CHECKPOINTS, key).await?;
        let stored: Result<Vec<Checkpoint>, _> = stored
            .iter()
            .map(|(checkpoint,)| serde_json::from_str(checkpoint))
            .collect();
        let stored = stored.map_err(|error| PostError::Checkpoint {
            view: V::NAME,
            reason: error.to_string(),
        })?;
        Ok(complete::<V::Event>(stored))
    }

    async fn post(&self, batch: &Batch<V::Event>) -> Result<(), PostError> {
        let rows = V::fold(&facts::of_commits(&batch.commits)?)?;
        let session = self.cql.session()?;
        write_rows::<V>(&session, &rows).await?;
        // Only now: a checkpoint covers what was acknowledged.
        let checkpoint = &batch.checkpoint;
        let text = serde_json::to_string(checkpoint).map_err(|error| PostError::Checkpoint {
            view: V::NAME,
            reason: error.to_string(),
        })?;
        let values = (
            V::NAME,
            &checkpoint.topic,
            batch.partition,
            checkpoint.next_offset,
            text,
            write_timestamp(checkpoint.next_offset - 1),
        );
        session.execute(WRITE_CHECKPOINT, values).await?;
        Ok(())
    }
}

async fn write_rows<V: CqlView>(session: &Session, rows: &[V::Row]) -> Result<(), CqlError> {
    let mut by_partition: BTreeMap<&str, Vec<&V::Row>> = BTreeMap::new();
    for row in rows {
        by_partition.entry(V::partition(row)).or_default().push(row);
    }
    let upsert = session.prepare(V::UPSERT).await?;
    let chunks = by_partition
        .values()
        .flat_map(|rows| rows.chunks(ROWS_PER_REQUEST_MAX));
    let requests: Vec<_> = chunks
        .map(|rows| write_chunk::<V>(session, &upsert, rows))
        .collect();
    stream::iter(requests)
        .buffer_unordered(REQUESTS_MAX)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

/// Writes rows of one partition, in one request.
async fn write_chunk<V: CqlView>(
    session: &Session,
    upsert: &PreparedStatement,
    rows: &[&V::Row],
) -> Result<(), CqlError> {
    let mut batch = CqlBatch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    for _ in rows {
        batch.append_statement(upsert.clone());
    }
    let values: Vec<_> = rows.iter().map(|row| V::values(row)).collect();
    session.driver().batch(&batch, values).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_offset_always_wins() {
        assert!(write_timestamp(0) > 0);
        assert!(write_timestamp(8) > write_timestamp(7) + 1);
    }
}
