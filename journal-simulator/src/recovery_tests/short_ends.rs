//! A broker that just became a partition's leader may report an end that is too low, until it has received
//! fetches from its followers. An owner measures such an end again before it declines the log.

use super::B;
use crate::harness::{Harness, TestNode, is_serving};
use journal::{
    owner::Status,
    store::{Memory, StateStore},
};
use std::sync::{Arc, atomic::Ordering};

/// A log with two commits, and the store of the owner that wrote them and has ended.
async fn written() -> (Harness, Arc<Memory>) {
    let (mut harness, store) = (Harness::new(), Arc::new(Memory::default()));
    let first = harness.start(0, store.clone());
    harness.set(&first, B, 1, 0).await;
    harness.set(&first, B, 2, 1).await;
    harness.environment.publish(first.handle.proved_record());
    first.stop().await;
    (harness, store)
}

/// Asserts that an owner serves without having declined the log first.
async fn serves_at_once(node: &TestNode) {
    node.reaches_status(|status| is_serving(status) || matches!(status, Status::Declined { .. }))
        .await;
    let status = node.handle.status().borrow().clone();
    assert!(is_serving(&status), "{status:?} instead of Serving");
}

/// Starts an owner for which the next `short_ends` measurements of the log's end are too low.
fn start(harness: &Harness, store: Arc<dyn StateStore>, short_ends: u64) -> TestNode {
    let node = harness.start(1, store);
    // The owner's task has not run yet.
    node.link.short_ends.store(short_ends, Ordering::Relaxed);
    node
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_published_record_is_measured_again() {
    let (harness, _) = written().await;
    let node = start(&harness, Arc::new(Memory::default()), 1);
    serves_at_once(&node).await;
    assert_eq!(node.link.short_ends.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_checkpoint_is_measured_again() {
    let (harness, store) = written().await;
    *harness.environment.published.lock().unwrap() = None;
    // The owner measures the end itself first, then the reader does.
    let node = start(&harness, store, 2);
    serves_at_once(&node).await;
    assert_eq!(node.link.short_ends.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_stays_before_the_checkpoint_declines_the_log() {
    let (harness, store) = written().await;
    *harness.environment.published.lock().unwrap() = None;
    let node = start(&harness, store, 3);
    node.reaches_status(|status| {
        matches!(status, Status::Declined { reason, .. } if reason.contains("before the checkpoint"))
    })
    .await;
}
