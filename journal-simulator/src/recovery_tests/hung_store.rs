//! Owners of a store that can't be read while one of its writes hangs.

use super::{B, C, with_hung_write};
use crate::harness::{ControlledStore, Harness, LONG_ENOUGH, TestNode};
use journal::{owner::Status, store::Memory};
use std::sync::Arc;

/// Returns a node whose owner is taking over again, because its store failed to read while a write hung.
async fn serving_until_the_store_failed() -> (Harness, Arc<ControlledStore>, TestNode) {
    let (mut harness, store, node) = with_hung_write(&[B, C]).await;
    store.set_unreadable(Some(C));
    let unanswered = harness.submit(&node, C, 2, 1).await;
    node.reaches_status(|status| matches!(status, Status::TakingOver(_)))
        .await;
    drop(unanswered);
    (harness, store, node)
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_store_hangs_leaves_its_partition_to_another() {
    let (mut harness, store, node) = serving_until_the_store_failed().await;
    node.assigned.send_replace(false);
    node.is(Status::Standby).await;
    let other = harness.start(2, Arc::new(Memory::default()));
    harness.set(&other, B, 3, 2).await;
    // The disk answers again.
    store.set_unreadable(None);
    store.is_open.send_replace(true);
    other.stop().await;
    node.assigned.send_replace(true);
    node.serves().await;
    harness.set(&node, B, 4, 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_store_hangs_ends_when_it_is_stopped() {
    let (_harness, _store, node) = serving_until_the_store_failed().await;
    let ended = tokio::time::timeout(LONG_ENOUGH, node.stop()).await;
    ended.expect("the owner still waits for its store");
}
