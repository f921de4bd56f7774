//! Drives an owner's protocol over a log: stands by, takes over, serves, and takes over again after a
//! barrier.

use super::{
    handle::{Reason, Status},
    partition_owner::{Owner, next_answer, topic},
    request::{Machine, Refusal},
    serve::Served,
};
use crate::{log::Log, protocol::OwnerProtocol};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest time for the last writes when an owner ends; an incomplete save only makes the next start
/// slower.
const LAST_SAVE_TIMEOUT: Duration = Duration::from_secs(2);

impl<M: Machine, L: Log, P: OwnerProtocol> Owner<M, L, P> {
    /// Serves while `assigned`, until `stop` or until a permanent failure. Commands in flight at `stop` still get
    /// their answers.
    pub async fn run(mut self, stop: CancellationToken, mut assigned: watch::Receiver<bool>) {
        loop {
            if !self.stand_by(&stop, &mut assigned).await {
                return self.end("shutting down".into()).await;
            }
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => Err(Reason::from("shutting down")),
                // Without a sender the partition stays assigned.
                true = becomes(&mut assigned, false) => continue,
                taken = self.take_over() => taken,
            };
            if let Err(reason) = taken {
                return self.end(reason).await;
            }
            let served = self.serve(&stop, &mut assigned).await;
            match served {
                Served::Stopped => return self.end("shutting down".into()).await,
                Served::Unassigned => {}
                Served::Barrier(barrier) => {
                    tracing::warn!(
                        topic = topic::<M>(),
                        partition = self.partition,
                        unproved = self.core.unproved(),
                        trace_id = self.core.first_unproved_trace(),
                        %barrier,
                        "append outcome unknown, taking over again"
                    );
                    self.meters.barriers.increment(1);
                    self.set_status(Status::TakingOver(barrier.to_string().into()));
                    self.core.stop_serving();
                    self.send_replies();
                }
                Served::StoreFailed(error) => {
                    tracing::error!(
                        topic = topic::<M>(),
                        partition = self.partition,
                        %error,
                        "state store failed, taking over again"
                    );
                    self.set_status(Status::TakingOver(error.to_string().into()));
                    self.core.stop_serving();
                    self.send_replies();
                    // The recovery may wait for a hung disk, so it ends when the owner stops or loses the partition.
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        _ = becomes(&mut assigned, false) => {}
                        () = self.recover_store(&error) => {}
                    }
                }
            }
            self.publish();
        }
    }

    /// Waits for the partition; `false` if the node shuts down first. Refuses commands meanwhile.
    async fn stand_by(
        &mut self,
        stop: &CancellationToken,
        assigned: &mut watch::Receiver<bool>,
    ) -> bool {
        if *assigned.borrow_and_update() {
            let was_away = matches!(
                *self.status.borrow(),
                Status::Standby | Status::SteppingDown
            );
            if was_away {
                self.set_status(Status::TakingOver("the partition was assigned".into()));
            }
            return !stop.is_cancelled();
        }
        self.set_status(Status::Standby);
        let refusal = Refusal::NotOwner("the partition is assigned to another node".into());
        self.core.refuse_all(&refusal);
        self.send_replies();
        self.publish();
        self.held = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                is_assigned = becomes(assigned, true) => {
                    // Without a sender the partition can't be assigned.
                    if !is_assigned {
                        stop.cancelled().await;
                        return false;
                    }
                    self.set_status(Status::TakingOver("the partition was assigned".into()));
                    return true;
                }
                Some((_, reply)) = self.queue.recv() => {
                    let _ = reply.send(Err(refusal.clone()));
                }
                outcome = next_answer(&mut self.saving) => self.finish_save(outcome),
            }
        }
    }

    async fn end(mut self, reason: Reason) {
        self.set_status(Status::Ended(reason.clone()));
        self.core.refuse_all(&Refusal::NotOwner(reason.to_string()));
        self.send_replies();
        self.publish();
        self.queue.close();
        while let Ok((_, reply)) = self.queue.try_recv() {
            let _ = reply.send(Err(Refusal::NotOwner(reason.to_string())));
        }
        let last_writes = tokio::time::timeout(LAST_SAVE_TIMEOUT, async {
            // The write in progress, then one with all later changes.
            for _ in 0..2 {
                self.start_saving(1);
                if self.saving.is_some() {
                    let outcome = next_answer(&mut self.saving).await;
                    self.finish_save(outcome);
                }
            }
        });
        if last_writes.await.is_err() {
            tracing::warn!(
                topic = topic::<M>(),
                partition = self.partition,
                "state store lacks the last commits at shutdown"
            );
        }
    }
}

/// Waits until `assigned` has this value; returns `false` if the sender is gone.
async fn becomes(assigned: &mut watch::Receiver<bool>, value: bool) -> bool {
    assigned
        .wait_for(|assigned| *assigned == value)
        .await
        .is_ok()
}
