//! Owners that decline their partition, because its log lacks records, or because this node must not own it.

use super::B;
use crate::harness::{Harness, LONG_ENOUGH, TestNode};
use journal::{
    owner::Status,
    store::{Change, Memory, STAMP_KEY, StateStore, Table},
};
use schemas::owners::ProvedRecord;
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn an_owner_with_the_store_of_another_log_does_not_announce_itself() {
    let (mut harness, store) = (Harness::new(), Arc::new(Memory::default()));
    let first = harness.start(0, store.clone());
    harness.set(&first, B, 1, 0).await;
    first.stop().await;
    let stamp = store.clone().stamp().await.unwrap().unwrap();
    let mut stamp: serde_json::Value = serde_json::from_slice(&stamp).unwrap();
    stamp["checkpoint"]["hash"] = "5a".repeat(32).into();
    store.apply(vec![Change {
        table: Table::Meta,
        key: STAMP_KEY.to_vec(),
        value: Some(stamp.to_string().into_bytes()),
    }]);
    let end = harness.environment.broker.end();
    let next = harness.start(1, store);
    next.reaches_status(|status| matches!(status, Status::Declined { .. }))
        .await;
    assert_eq!(harness.environment.broker.end(), end);
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_a_store_ahead_of_the_log_waits_until_the_log_is_whole() {
    let (mut harness, store) = (Harness::new(), Arc::new(Memory::default()));
    let first = harness.start(0, store.clone());
    harness.set(&first, B, 1, 0).await;
    first.stop().await;
    let stamp = store.clone().stamp().await.unwrap().unwrap();
    let mut ahead: serde_json::Value = serde_json::from_slice(&stamp).unwrap();
    let end = harness.environment.broker.end();
    ahead["checkpoint"]["next_offset"] = (end + 1).into();
    store.apply(vec![Change {
        table: Table::Meta,
        key: STAMP_KEY.to_vec(),
        value: Some(ahead.to_string().into_bytes()),
    }]);
    let next = harness.start(1, store);
    next.reaches_status(
        |status| matches!(status, Status::Declined { reason, .. } if reason.contains("before the checkpoint")),
    )
    .await;
    next.does_not_serve_for_long().await;
    assert_eq!(harness.environment.broker.end(), end);
    harness.append_foreign_record();
    next.serves().await;
    harness.set(&next, B, 2, 1).await;
}

/// Starts an owner without a store over a log of two commits, after another owner has published a record of
/// that log. Returns its status, and whether it has appended anything.
async fn status_after(publish: impl FnOnce(ProvedRecord) -> ProvedRecord) -> (Status, bool) {
    let mut harness = Harness::new();
    let first = harness.start(0, Arc::new(Memory::default()));
    harness.set(&first, B, 1, 0).await;
    harness.set(&first, B, 2, 1).await;
    // Time is virtual in these tests. No event marks the owner's last proof, or that an owner will not append.
    tokio::time::sleep(LONG_ENOUGH).await;
    let published = publish(first.handle.proved_record().unwrap());
    first.stop().await;
    let end = harness.environment.broker.end();
    let next = harness.start_with(1, Arc::new(Memory::default()), |settings| {
        settings.published = Arc::new(move || Some(published));
    });
    tokio::time::sleep(LONG_ENOUGH).await;
    let status = next.handle.status().borrow().clone();
    next.stop().await;
    (status, harness.environment.broker.end() > end)
}

#[tokio::test(start_paused = true)]
async fn an_owner_serves_a_log_with_the_record_that_another_one_published() {
    let (status, has_appended) = status_after(|published| published).await;
    assert!(
        matches!(status, Status::Serving { .. }),
        "{status:?} instead of Status::Serving"
    );
    assert!(has_appended);
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_a_store_declines_a_log_that_lacks_a_published_record() {
    type Change = fn(ProvedRecord) -> ProvedRecord;
    let changes: [(&str, Change); 3] = [
        ("but the log ends at", |published| ProvedRecord {
            offset: published.offset + 1,
            ..published
        }),
        ("but the log has the log id", |published| ProvedRecord {
            log_id: [9; 32],
            ..published
        }),
        ("but the log has another record", |published| ProvedRecord {
            hash: [9; 32],
            ..published
        }),
    ];
    for (expected, change) in changes {
        let (status, has_appended) = status_after(change).await;
        let Status::Declined { reason, .. } = &status else {
            panic!("{status:?} instead of Declined");
        };
        assert!(reason.contains(expected), "no {expected:?} in: {reason}");
        assert!(!reason.suspects_this_node(), "suspects this node: {reason}");
        assert!(!has_appended, "it announced itself: {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_with_an_objection_announces_nothing_and_refuses_commands() {
    let harness = Harness::new();
    let node = harness.start_with(0, Arc::new(Memory::default()), |settings| {
        settings.objection = Arc::new(|| Some("another hash key".into()));
    });
    // In this virtual time, an owner without an objection would announce itself.
    tokio::time::sleep(LONG_ENOUGH).await;
    let status = node.handle.status().borrow().clone();
    let Status::Declined { reason, .. } = &status else {
        panic!("{status:?} instead of Declined");
    };
    assert!(
        reason.suspects_this_node(),
        "does not suspect this node: {reason}"
    );
    assert_eq!(harness.environment.broker.end(), 0);
}

/// Starts an owner with this fingerprint of its hash key.
fn start_with_key(
    harness: &Harness,
    store: &Arc<Memory>,
    node: usize,
    key: &'static str,
) -> TestNode {
    harness.start_with(node, store.clone(), |settings| {
        settings.hash_key = Some(key.into());
    })
}

async fn stamp_of(store: &Arc<Memory>) -> serde_json::Value {
    let stamp = store.clone().stamp().await.unwrap().unwrap();
    serde_json::from_slice(&stamp).unwrap()
}

/// Commands that were hashed with another key would look like other commands under the same idempotency keys.
#[tokio::test(start_paused = true)]
async fn an_owner_with_another_hash_key_than_its_store_declines_and_announces_nothing() {
    let (mut harness, store) = (Harness::new(), Arc::new(Memory::default()));
    let first = start_with_key(&harness, &store, 0, "8899aabbccddeeff");
    harness.set(&first, B, 1, 0).await;
    first.stop().await;
    let end = harness.environment.broker.end();
    let next = start_with_key(&harness, &store, 1, "0011223344556677");
    next.reaches_status(|status| {
        matches!(status, Status::Declined { reason, .. }
            if reason.suspects_this_node() && reason.contains("commands.hash_key_file"))
    })
    .await;
    next.stop().await;
    assert_eq!(harness.environment.broker.end(), end);
    let right = start_with_key(&harness, &store, 0, "8899aabbccddeeff");
    harness.set(&right, B, 2, 1).await;
}

/// Stores of earlier releases have no fingerprint.
#[tokio::test(start_paused = true)]
async fn a_store_without_a_hash_key_is_used_and_gets_one() {
    let (mut harness, store) = (Harness::new(), Arc::new(Memory::default()));
    let earlier = harness.start(0, store.clone());
    harness.set(&earlier, B, 1, 0).await;
    earlier.stop().await;
    assert_eq!(stamp_of(&store).await.get("hash_key"), None);
    let next = start_with_key(&harness, &store, 0, "8899aabbccddeeff");
    harness.set(&next, B, 2, 1).await;
    next.stop().await;
    assert_eq!(stamp_of(&store).await["hash_key"], "8899aabbccddeeff");
}
