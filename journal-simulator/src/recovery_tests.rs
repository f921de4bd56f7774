//! Scenarios that random faults produce too rarely: a state store that can't be read while it is being
//! written or that belongs to another log, an owner that steps down with a command in flight, a clock
//! that is wrong for a while. No other faults happen.

use crate::harness::{ControlledStore, Harness, TestNode, every_task_waits};
use journal::owner::{Answer, Refusal, Status};
use std::sync::Arc;
use tokio::sync::oneshot;

mod clocks;
mod declines;
mod hung_store;
mod short_ends;

const B: &str = "counter_B";
const C: &str = "counter_C";
const D: &str = "counter_D";
/// More records than a batch has.
const MANY: usize = 45;

/// A node whose write of B hangs. The log has `counters`, and B is one of them; the owner has no other in memory.
async fn with_hung_write(counters: &[&str]) -> (Harness, Arc<ControlledStore>, TestNode) {
    let (mut harness, store) = (Harness::new(), ControlledStore::new());
    let first = harness.start(0, store.clone());
    for key in counters {
        harness.set(&first, key, 1, 0).await;
    }
    first.stop().await;
    let node = harness.start(1, store.clone());
    store.is_open.send_replace(false);
    harness.set(&node, B, 2, 1).await;
    store.has_waiting_write().await;
    (harness, store, node)
}

/// A node whose owner reads the end of the log: the last batch is partly folded, because the store has
/// an entry that can't be read; and a write of earlier changes is still in progress.
async fn in_mid_recovery() -> (Harness, Arc<ControlledStore>, TestNode) {
    let (mut harness, store, node) = with_hung_write(&[B, C, D]).await;
    node.assigned.send_replace(false);
    let other = harness.start(2, Arc::new(journal::store::Memory::default()));
    for version in 1..=MANY {
        let value = i64::try_from(2 + version % 2).unwrap();
        let version = i64::try_from(version).unwrap();
        harness.set(&other, D, value, version).await;
    }
    for version in 2..5 {
        harness.set(&other, B, version + 1, version).await;
    }
    harness.set(&other, C, 2, 1).await;
    other.stop().await;
    store.set_unreadable(Some(C));
    node.assigned.send_replace(true);
    node.does_not_serve_for_long().await;
    store.set_unreadable(None);
    (harness, store, node)
}

#[tokio::test(start_paused = true)]
async fn a_late_write_does_not_land_on_an_emptied_store() {
    let (mut harness, store, node) = in_mid_recovery().await;
    store.is_open.send_replace(true);
    harness.set(&node, B, 9, 5).await;
    node.stop().await;
    let next = harness.start(3, store);
    harness.set(&next, B, 8, 6).await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_recovery_starts_again() {
    let (mut harness, store, node) = in_mid_recovery().await;
    node.assigned.send_replace(false);
    // The write is still in progress.
    node.is(Status::Standby).await;
    store.is_open.send_replace(true);
    node.assigned.send_replace(true);
    node.serves().await;
    harness.set(&node, B, 9, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_partly_folded_batch_is_never_saved() {
    let (mut harness, store, node) = in_mid_recovery().await;
    node.stop.cancel();
    store.is_open.send_replace(true);
    node.task.await.unwrap();
    let next = harness.start(3, store);
    harness.set(&next, B, 9, 5).await;
}

/// An owner that steps down with a command in flight, and the receiver of that command's answer.
async fn stepping_down(
    harness: &mut Harness,
) -> (TestNode, oneshot::Receiver<Result<Answer, Refusal>>) {
    let node = harness.start(0, ControlledStore::new());
    harness.set(&node, B, 1, 0).await;
    let mut answer = harness.submit(&node, B, 2, 1).await;
    every_task_waits().await;
    node.assigned.send_replace(false);
    node.is(Status::SteppingDown).await;
    let early = answer.try_recv();
    assert!(
        early.is_err(),
        "no command is in flight any longer: {early:?}"
    );
    (node, answer)
}

#[tokio::test(start_paused = true)]
async fn an_owner_answers_all_commands_in_flight_before_it_stands_by() {
    let (node, mut answer) = stepping_down(&mut Harness::new()).await;
    node.is(Status::Standby).await;
    assert_eq!(answer.try_recv().unwrap().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_gets_the_partition_back_while_stepping_down_serves_again() {
    let mut harness = Harness::new();
    let (node, answer) = stepping_down(&mut harness).await;
    node.assigned.send_replace(true);
    assert_eq!(answer.await.unwrap().unwrap().version, 2);
    node.serves().await;
    harness.set(&node, B, 3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_stopped_while_stepping_down_answers_first() {
    let (node, answer) = stepping_down(&mut Harness::new()).await;
    node.stop().await;
    assert_eq!(answer.await.unwrap().unwrap().version, 2);
}
