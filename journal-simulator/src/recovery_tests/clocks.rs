//! Wrong clocks: the clock of a node, or the clock of one of several brokers.

use super::B;
use crate::harness::{ControlledStore, Harness};
use journal::{
    owner::{BrokerClocks, Reason, Status},
    store::Memory,
};
use std::sync::{Arc, atomic::Ordering};

/// A larger difference between two clocks than an owner tolerates.
const CLOCK_OFFSET_MS: i64 = 20_000;

#[tokio::test(start_paused = true)]
async fn an_owner_whose_clock_was_wrong_is_not_fenced_by_its_own_announcement() {
    let mut harness = Harness::new();
    let node = harness.start(0, ControlledStore::new());
    harness.set(&node, B, 1, 0).await;
    let mut status = node.handle.status();
    node.link
        .clock_offset_us
        .store(20_000_000, Ordering::Relaxed);
    status
        .wait_for(
            |status| matches!(status, Status::Declined { reason, .. } if reason.contains("broker's")),
        )
        .await
        .unwrap();
    node.link.clock_offset_us.store(0, Ordering::Relaxed);
    loop {
        status.changed().await.unwrap();
        match &*status.borrow_and_update() {
            Status::Serving { .. } => break,
            Status::TakingOver(reason) | Status::Declined { reason, .. } => {
                assert!(
                    !reason.starts_with("fenced"),
                    "\"fenced\" at the start of: {reason}"
                );
            }
            other => panic!("{other:?} instead of Serving, TakingOver or Declined"),
        }
    }
    harness.set(&node, B, 2, 1).await;
}

/// Starts an owner on a node that knows these broker clocks. The clock of the broker that leads the owner's partition
/// is wrong. Returns the reason for which the owner declines the partition.
async fn reason_of_owner(skewed: &Harness, clocks: BrokerClocks) -> Reason {
    let clock_offset_ms = &skewed.environment.broker.clock_offset_ms;
    clock_offset_ms.store(CLOCK_OFFSET_MS, Ordering::Relaxed);
    let node = skewed.start_with(0, Arc::new(Memory::default()), |settings| {
        settings.clocks = clocks;
    });
    node.reaches_status(|status| {
        matches!(status, Status::Declined { .. } | Status::Serving { .. })
    })
    .await;
    match &*node.handle.status().borrow() {
        Status::Declined { reason, .. } => reason.clone(),
        other => panic!("{other:?} instead of Declined"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_whose_clock_differs_from_that_of_another_broker_and_the_node_is_named() {
    let (harness, clocks) = (Harness::new(), BrokerClocks::default());
    let node = harness.start_with(0, Arc::new(Memory::default()), |settings| {
        settings.clocks = clocks.clone();
    });
    node.serves().await;
    let reason = reason_of_owner(&harness.beside(1), clocks).await;
    assert!(!reason.suspects_this_node(), "suspects this node: {reason}");
    let named = "broker 100 agrees with this machine, so the clock of broker 101 must be set";
    assert!(reason.contains(named), "no {named:?} in: {reason}");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_no_broker_confirms_may_be_wrong_itself() {
    let reason = reason_of_owner(&Harness::new().beside(1), BrokerClocks::default()).await;
    assert!(
        reason.suspects_this_node(),
        "does not suspect this node: {reason}"
    );
}
