//! A projector: applies batches, moves the checkpoint, crashes, and begins again from the stored checkpoints.

use super::{
    protocol::WriteProtocol,
    requests::{AttemptError, Requests},
    store::SimStore,
    table::Counters,
};
use crate::{coverage::CoveragePoint, faulty_log::FaultyLog};
use journal::{Batch, SharedReader, Update, probe::Event};
use projections::{
    cql::apply::apply,
    recorded::{Recorded, recorded_events},
};
use std::{sync::Arc, time::Duration};

/// Longest time until a projector that crashed runs again.
const DOWN_MS_MAX: u64 = 3_000;
/// Longest time of an attempt before a crash.
const CRASH_MS_MAX: u64 = 500;
/// Longest wait before another attempt.
const RETRY_MS_MAX: u64 = 500;

/// A projector.
pub(super) struct Projector {
    pub name: String,
    pub store: Arc<SimStore>,
    pub log: FaultyLog,
}

/// The reason why a projector begins again.
#[derive(Debug)]
enum Ended {
    Crash,
    /// Another projector has moved the checkpoint.
    StaleCheckpoint,
    /// A violation.
    Failed,
}

impl Projector {
    /// Runs until it is aborted.
    pub async fn run<P: WriteProtocol>(self) {
        loop {
            let ended = self.project::<P>().await;
            let sim = &self.store.sim;
            sim.note(|| format!("{} begins again: {ended:?}", self.name));
            sim.count(match ended {
                Ended::Crash | Ended::Failed => CoveragePoint::ProjectorCrash,
                Ended::StaleCheckpoint => CoveragePoint::CheckpointStale,
            });
            let down_ms = sim.rng().between(0, DOWN_MS_MAX);
            tokio::time::sleep(Duration::from_millis(down_ms)).await;
        }
    }

    async fn project<P: WriteProtocol>(&self) -> Ended {
        let starts = self.store.checkpoints().values().cloned().collect();
        let shared =
            SharedReader::<Event, _>::with_limits(self.log.clone(), self.store.plan.limits);
        let mut subscription = shared.subscribe(&self.name, starts);
        loop {
            match subscription.next().await {
                Ok(Update::Batch(batch)) => {
                    if let Err(ended) = self.apply::<P>(&batch).await {
                        return ended;
                    }
                }
                Ok(Update::Failing(_) | Update::Recovered) => {}
                Ok(Update::Halted {
                    partition, error, ..
                }) => {
                    return self.violate(format!("partition {partition} is halted: {error}"));
                }
                Err(error) => return self.violate(format!("it can't read: {error}")),
            }
        }
    }

    /// Attempts to apply a batch until it is applied.
    async fn apply<P: WriteProtocol>(&self, batch: &Batch<Event>) -> Result<(), Ended> {
        let sim = &self.store.sim;
        let events = recorded_events(&batch.commits);
        let events = events.map_err(|error| self.violate(error.to_string()))?;
        loop {
            let attempt = self.attempt::<P>(batch, &events);
            let outcome = match sim.fault(self.store.plan.crash) {
                true => {
                    let ms = sim.rng().between(0, CRASH_MS_MAX);
                    let attempt = tokio::time::timeout(Duration::from_millis(ms), attempt);
                    attempt.await.map_err(|_| Ended::Crash)?
                }
                false => attempt.await,
            };
            match outcome {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Ended::StaleCheckpoint),
                Err(AttemptError::Fold(error)) => return Err(self.violate(error.to_string())),
                Err(AttemptError::NoAnswer) => sim.note(|| format!("{} repeats", self.name)),
            }
            let wait_ms = sim.rng().between(0, RETRY_MS_MAX);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    async fn attempt<P: WriteProtocol>(
        &self,
        batch: &Batch<Event>,
        events: &[Recorded<'_, Event>],
    ) -> Result<bool, AttemptError> {
        let requests = Requests::<P>::new(self.store.clone());
        if !P::moves_checkpoint_first() {
            apply::<Counters, _>(&requests, events).await?;
        }
        let checkpoint = &batch.checkpoint;
        let is_moved = self
            .store
            .move_checkpoint::<P>(batch.from, checkpoint)
            .await?;
        if is_moved && P::moves_checkpoint_first() {
            apply::<Counters, _>(&requests, events).await?;
        }
        Ok(is_moved)
    }

    fn violate(&self, text: String) -> Ended {
        self.store.sim.violate(format!("{}: {text}", self.name));
        Ended::Failed
    }
}
