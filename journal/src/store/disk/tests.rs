//! The store on disk after a restart, beside other partitions, and after it was closed.

use super::*;
use crate::store::Change;

fn change(table: Table, key: &[u8], value: Option<&[u8]>) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

fn stamped(stamp: &'static [u8], change: Change) -> MakeChanges {
    Box::new(move || vec![change, self::change(Table::Meta, STAMP_KEY, Some(stamp))])
}

async fn write(store: &Arc<dyn StateStore>, stamp: &'static [u8], key: &'static [u8]) {
    let entry = change(Table::Answers, key, Some(b"value"));
    store.clone().write(stamped(stamp, entry)).await.unwrap();
}

/// As after a failed write, but with all earlier writes.
fn reopen(disk: &Disk) {
    disk.close();
}

#[tokio::test]
async fn entries_survive_a_restart_and_belong_to_their_partition() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let (store, other) = (
        disk.partition("journal.x", 0),
        disk.partition("journal.x", 1),
    );
    write(&store, b"1", b"a").await;
    assert_eq!(other.stamp().unwrap(), None);
    assert_eq!(other.get(Table::Answers, b"a").unwrap(), None);
    let taken = Disk::open(folder.path()).err().unwrap();
    assert!(matches!(taken, StoreError::InUse { .. }), "{taken}");
    drop((disk, store, other));
    let store = Disk::open(folder.path()).unwrap().partition("journal.x", 0);
    assert_eq!(store.stamp().unwrap(), Some(b"1".to_vec()));
    assert_eq!(
        store.get(Table::Answers, b"a").unwrap(),
        Some(b"value".to_vec())
    );
    store.clear().unwrap();
    assert_eq!(store.stamp().unwrap(), None);
    assert_eq!(store.get(Table::Answers, b"a").unwrap(), None);
}

#[tokio::test]
async fn the_first_entries_come_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Disk::open(folder.path()).unwrap().partition("journal.x", 0);
    for key in [b"c", b"a", b"b", b"d"] {
        let entry = change(Table::Expiry, key, Some(b""));
        store.clone().write(stamped(b"1", entry)).await.unwrap();
    }
    let keys = |start: &[u8], end: &[u8], count| -> Vec<Vec<u8>> {
        let found = store.first(Table::Expiry, start, end, count).unwrap();
        found.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(b"", b"d", 9), [b"a", b"b", b"c"]);
    assert_eq!(keys(b"b", b"z", 2), [b"b", b"c"]);
}

/// An owner keeps only part of the entries in memory: it must not treat the others as absent.
#[tokio::test]
async fn a_user_of_a_store_that_lost_its_last_writes_gets_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let (store, other) = (
        disk.partition("journal.x", 0),
        disk.partition("journal.x", 0),
    );
    write(&store, b"1", b"a").await;
    reopen(&disk);
    assert!(
        store.get(Table::Answers, b"a").unwrap().is_some(),
        "all entries are there"
    );
    other.clear().unwrap();
    reopen(&disk);
    for error in [
        store.get(Table::Answers, b"a").err(),
        store
            .clone()
            .write(stamped(b"2", change(Table::Answers, b"b", Some(b""))))
            .await
            .err(),
    ] {
        assert!(
            matches!(error, Some(StoreError::Reopened { .. })),
            "{error:?}"
        );
    }
    assert_eq!(store.stamp().unwrap(), None);
    assert_eq!(
        store.get(Table::Answers, b"a").unwrap(),
        None,
        "the stamp was read since"
    );
}

/// Building a write reads the store; opening another partition meanwhile must not cause a deadlock.
#[tokio::test]
async fn a_partition_is_opened_while_another_builds_its_write() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let (reader, other) = (store.clone(), disk.partition("journal.x", 1));
    let changes: MakeChanges = Box::new(move || {
        let opening = std::thread::spawn(move || other.stamp());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !opening.is_finished() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(opening.is_finished(), "opening waits for the write");
        assert!(reader.get(Table::Answers, b"a").unwrap().is_some());
        vec![change(Table::Meta, STAMP_KEY, Some(b"2"))]
    });
    store.clone().write(changes).await.unwrap();
    assert_eq!(store.stamp().unwrap(), Some(b"2".to_vec()));
}

#[tokio::test]
async fn a_write_to_a_store_that_lost_its_entries_meanwhile_fails() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let (other, meanwhile) = (disk.partition("journal.x", 0), disk.clone());
    let changes: MakeChanges = Box::new(move || {
        other.clear().unwrap();
        reopen(&meanwhile);
        vec![change(Table::Meta, STAMP_KEY, Some(b"2"))]
    });
    let error = store.clone().write(changes).await.unwrap_err();
    assert!(matches!(error, StoreError::Reopened { .. }), "{error}");
    assert_eq!(store.stamp().unwrap(), None);
}

#[test]
fn a_database_that_can_not_be_opened_is_recreated() {
    let folder = tempfile::tempdir().unwrap();
    drop(Disk::open(folder.path()).unwrap());
    let marker = folder.path().join("version");
    assert!(marker.exists(), "the library's format marker");
    std::fs::write(&marker, b"torn").unwrap();
    let store = Disk::open(folder.path()).unwrap().partition("journal.x", 0);
    assert_eq!(store.stamp().unwrap(), None);
}

/// One partition's failed write closes the database for all; the others have lost no write.
#[tokio::test]
async fn a_write_succeeds_if_the_database_was_reopened_with_all_writes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let (other, meanwhile) = (disk.partition("journal.x", 1), disk.clone());
    let changes: MakeChanges = Box::new(move || {
        reopen(&meanwhile);
        assert_eq!(other.stamp().unwrap(), None, "reopened");
        vec![
            change(Table::Answers, b"b", Some(b"value")),
            change(Table::Meta, STAMP_KEY, Some(b"2")),
        ]
    });
    store.clone().write(changes).await.unwrap();
    assert_eq!(store.stamp().unwrap(), Some(b"2".to_vec()));
    for key in [b"a", b"b"] {
        assert!(store.get(Table::Answers, key).unwrap().is_some());
    }
}
