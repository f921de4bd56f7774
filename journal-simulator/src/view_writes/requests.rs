//! The requests of one attempt to apply a batch.

use super::{
    protocol::WriteProtocol,
    replica::{Cell, DeletionCell},
    store::{NoAnswer, SimStore},
    table::{Counters, Row},
};
use crate::coverage::CoveragePoint;
use futures_util::future::try_join_all;
use projections::{
    FoldError,
    cql::{
        apply::TableRequests,
        writes::{Deletion, Write, offset_of},
    },
    fold::DeletedAt,
};
use std::{
    collections::BTreeSet,
    marker::PhantomData,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Longest pause of a projector. It is longer than other projectors need for many batches.
pub(super) const STALL_MS_MAX: u64 = 60_000;

/// The reason why an attempt failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The table can't apply an event, which no run should cause.
    Fold(FoldError),
    /// The store gave no answer.
    NoAnswer,
}

impl From<FoldError> for AttemptError {
    fn from(error: FoldError) -> Self {
        Self::Fold(error)
    }
}

impl From<NoAnswer> for AttemptError {
    fn from(_: NoAnswer) -> Self {
        Self::NoAnswer
    }
}

/// The requests of one attempt.
pub(super) struct Requests<P> {
    store: Arc<SimStore>,
    /// Keys of the rows that were found.
    found: Mutex<BTreeSet<String>>,
    /// Deletions that a mutation records last.
    held_back: Mutex<Vec<Deletion<String>>>,
    protocol: PhantomData<P>,
}

impl<P: WriteProtocol> Requests<P> {
    pub fn new(store: Arc<SimStore>) -> Self {
        Self {
            store,
            found: Mutex::default(),
            held_back: Mutex::default(),
            protocol: PhantomData,
        }
    }

    /// The operating system may stop a projector before any of its requests, and let it run again much later.
    async fn stall_sometimes(&self) {
        let sim = &self.store.sim;
        if sim.fault(self.store.plan.stall) {
            sim.count(CoveragePoint::ProjectorStalled);
            let ms = sim.rng().between(1_000, STALL_MS_MAX);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    async fn record(&self, deletions: &[Deletion<String>]) -> Result<(), NoAnswer> {
        let writes = deletions.iter().map(|deletion| {
            let arrival = self.store.next_arrival();
            self.store.write::<P, _>(DeletionCell {
                key: deletion.key.clone(),
                version: deletion.version,
                timestamp: P::timestamp(deletion.timestamp, arrival),
            })
        });
        try_join_all(writes).await.map(|_| ())
    }

    fn cell(&self, write: &Write<String, Row>) -> Option<Cell> {
        let arrival = self.store.next_arrival();
        match write {
            Write::Upsert { row, timestamp } => Some(Cell {
                key: row.key.clone(),
                row: Some(row.clone()),
                timestamp: P::timestamp(*timestamp, arrival),
            }),
            Write::Delete { key, timestamp } => {
                let is_known = self.found.lock().expect("no holder panics").contains(key);
                self.store.sim.count(CoveragePoint::RowDeleted);
                (is_known || P::deletes_unknown_rows()).then(|| Cell {
                    key: key.clone(),
                    row: None,
                    timestamp: P::timestamp(*timestamp, arrival),
                })
            }
        }
    }
}

impl<P: WriteProtocol> TableRequests<Counters> for Requests<P> {
    type Error = AttemptError;

    async fn load_row(&self, key: &String) -> Result<Option<Row>, AttemptError> {
        self.stall_sometimes().await;
        if !P::loads_rows() {
            return Ok(None);
        }
        let cell = self.store.read::<P, Cell>(key).await?;
        let row = cell.and_then(|cell| cell.row);
        if row.is_some() {
            self.found
                .lock()
                .expect("no holder panics")
                .insert(key.clone());
        }
        Ok(row)
    }

    async fn load_deletion(&self, key: &String) -> Result<Option<DeletedAt>, AttemptError> {
        self.stall_sometimes().await;
        let deletion = self.store.read::<P, DeletionCell>(key).await?;
        Ok(deletion.map(|deletion| DeletedAt {
            version: deletion.version,
            offset: offset_of(deletion.timestamp),
        }))
    }

    async fn write_deletions(&self, deletions: &[Deletion<String>]) -> Result<(), AttemptError> {
        self.stall_sometimes().await;
        match (P::records_deletions(), P::records_deletions_last()) {
            (false, _) => Ok(()),
            (true, true) => {
                let mut held_back = self.held_back.lock().expect("no holder panics");
                held_back.extend_from_slice(deletions);
                Ok(())
            }
            (true, false) => Ok(self.record(deletions).await?),
        }
    }

    async fn write_rows(&self, rows: &[Write<String, Row>]) -> Result<(), AttemptError> {
        self.stall_sometimes().await;
        let cells = rows.iter().filter_map(|write| self.cell(write));
        let writes: Vec<_> = cells.map(|cell| self.store.write::<P, _>(cell)).collect();
        try_join_all(writes).await?;
        let held_back = std::mem::take(&mut *self.held_back.lock().expect("no holder panics"));
        if !held_back.is_empty() {
            self.stall_sometimes().await;
            self.record(&held_back).await?;
        }
        Ok(())
    }
}
