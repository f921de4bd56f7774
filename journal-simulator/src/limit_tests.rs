//! Owners at the limits of their process: no thread for a reader, no slot for a take-over, no room in the producer's
//! queue. No limit ends an owner or a term.

use crate::harness::{Harness, every_task_waits, is_serving};
use journal::{
    owner::{ProcessLimits, Status},
    store::Memory,
};
use std::sync::{Arc, atomic::Ordering};

const KEY: &str = "counter_A";
/// Number of readers that fail to start: more than the owner's back-off has steps.
const UNSTARTED: u64 = 20;

#[tokio::test(start_paused = true)]
async fn an_owner_without_a_thread_retries_and_reports_the_reason() {
    let harness = Harness::new();
    let node = harness.start_with(0, Arc::new(Memory::default()), |_| ());
    node.serves().await;
    node.assigned.send_replace(false);
    node.is(Status::Standby).await;
    let unstarted = &node.link.unstarted_readers;
    unstarted.store(UNSTARTED, Ordering::Relaxed);
    node.assigned.send_replace(true);
    let says_why = |status: &Status| match status {
        Status::TakingOver(reason) => reason.contains("can't be started now"),
        _ => false,
    };
    node.reaches_status(says_why).await;
    let mut status = node.handle.status();
    status.wait_for(is_serving).await.unwrap();
    assert_eq!(unstarted.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_owner_waits_for_a_slot_before_it_reads_the_log() {
    let limits = ProcessLimits::new(1, 1);
    let slot = limits.free_slot(false);
    assert!(slot.is_some());
    let harness = Harness::new();
    let node = harness.start_with(0, Arc::new(Memory::default()), |settings| {
        settings.limits = limits.clone();
    });
    let waits = |status: &Status| match status {
        Status::TakingOver(reason) => reason.contains("other take-overs"),
        _ => false,
    };
    node.reaches_status(waits).await;
    node.does_not_serve_for_long().await;
    assert_eq!(
        harness.environment.broker.end(),
        0,
        "the owner must not announce itself without a slot"
    );
    drop(slot);
    node.serves().await;
    assert!(
        limits.free_slot(false).is_some(),
        "a serving owner must not keep its slot"
    );
}

#[tokio::test(start_paused = true)]
async fn records_wait_within_their_term_while_the_producers_queue_is_full() {
    let mut harness = Harness::new();
    let node = harness.start_with(0, Arc::new(Memory::default()), |_| ());
    harness.set(&node, KEY, 1, 0).await;
    let serving = node.handle.status().borrow().clone();
    assert!(is_serving(&serving), "{serving:?} instead of Serving");
    let end = harness.environment.broker.end();
    node.link.is_queue_full.store(true, Ordering::Relaxed);
    let answers = [
        harness.submit(&node, KEY, 2, 1).await,
        harness.submit(&node, KEY, 3, 2).await,
    ];
    every_task_waits().await;
    assert_eq!(harness.environment.broker.end(), end);
    node.link.is_queue_full.store(false, Ordering::Relaxed);
    for (answer, version) in answers.into_iter().zip(2..) {
        assert_eq!(answer.await.unwrap().unwrap().version, version);
    }
    let status = node.handle.status().borrow().clone();
    assert_eq!(status, serving, "a full queue must not cause a barrier");
    assert_eq!(harness.environment.broker.end(), end + 2);
}
