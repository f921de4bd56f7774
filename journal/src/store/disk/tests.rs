//! The store on disk: what it has after a restart, beside others, and after it was closed.

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

/// As after a write that failed, but with all that was written before.
fn reopen(disk: &Disk) {
    disk.close();
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart_and_apart_from_other_partitions() {
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

/// An owner keeps only part of it in memory: it must not take the rest for absent.
#[tokio::test]
async fn who_used_a_store_that_lost_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let (store, thief) = (
        disk.partition("journal.x", 0),
        disk.partition("journal.x", 0),
    );
    write(&store, b"1", b"a").await;
    reopen(&disk);
    assert!(
        store.get(Table::Answers, b"a").unwrap().is_some(),
        "all is there"
    );
    thief.clear().unwrap();
    reopen(&disk);
    for told in [
        store.get(Table::Answers, b"a").err(),
        store
            .clone()
            .write(stamped(b"2", change(Table::Answers, b"b", Some(b""))))
            .await
            .err(),
    ] {
        assert!(
            matches!(told, Some(StoreError::Reopened { .. })),
            "{told:?}"
        );
    }
    assert_eq!(store.stamp().unwrap(), None);
    assert_eq!(
        store.get(Table::Answers, b"a").unwrap(),
        None,
        "it knows now"
    );
}

/// What a write is made of is read from the store; a partition that is opened meanwhile must not
/// stand between.
#[tokio::test]
async fn a_partition_is_opened_while_another_makes_its_write() {
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
        assert!(opening.is_finished(), "it waits for the write");
        assert!(reader.get(Table::Answers, b"a").unwrap().is_some());
        vec![change(Table::Meta, STAMP_KEY, Some(b"2"))]
    });
    store.clone().write(changes).await.unwrap();
    assert_eq!(store.stamp().unwrap(), Some(b"2".to_vec()));
}

#[tokio::test]
async fn nothing_is_written_on_top_of_a_store_that_lost_everything_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let (thief, meanwhile) = (disk.partition("journal.x", 0), disk.clone());
    let changes: MakeChanges = Box::new(move || {
        thief.clear().unwrap();
        reopen(&meanwhile);
        vec![change(Table::Meta, STAMP_KEY, Some(b"2"))]
    });
    let told = store.clone().write(changes).await.unwrap_err();
    assert!(matches!(told, StoreError::Reopened { .. }), "{told}");
    assert_eq!(store.stamp().unwrap(), None);
}

#[test]
fn what_can_not_be_opened_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(Disk::open(folder.path()).unwrap());
    let marker = folder.path().join("version");
    assert!(marker.exists(), "the library's marker of its format");
    std::fs::write(&marker, b"torn").unwrap();
    let store = Disk::open(folder.path()).unwrap().partition("journal.x", 0);
    assert_eq!(store.stamp().unwrap(), None);
}

/// One partition's write that fails closes the database for all; nobody else has lost anything by it.
#[tokio::test]
async fn a_write_goes_on_if_the_database_was_opened_again_with_all_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let (other, meanwhile) = (disk.partition("journal.x", 1), disk.clone());
    let changes: MakeChanges = Box::new(move || {
        reopen(&meanwhile);
        assert_eq!(other.stamp().unwrap(), None, "it is open again");
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
