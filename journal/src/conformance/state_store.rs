//! The conformance suite of [`StateStore`].

use crate::store::{Change, EntryKey, MakeChanges, SCAN_BYTES_MAX, STAMP_KEY, StateStore, Table};
use std::sync::Arc;

/// The tables besides [`Table::Meta`].
const TABLES: [Table; 3] = [Table::Aggregates, Table::Answers, Table::Expiry];

/// Runs every check, each on a fresh store from `empty_store`.
///
/// # Panics
/// The store breaks its contract.
pub async fn check(empty_store: impl Fn() -> Arc<dyn StateStore>) {
    assert_empty(&empty_store()).await;
    a_write_sets_and_removes_entries(empty_store()).await;
    the_last_change_of_an_entry_wins(empty_store()).await;
    tables_are_separate(empty_store()).await;
    the_first_entries_come_in_order(empty_store()).await;
    a_read_of_large_entries_is_bounded_in_bytes(empty_store()).await;
    entries_are_read_in_the_order_of_their_keys(empty_store()).await;
    changes_are_built_from_the_earlier_writes(empty_store()).await;
    a_cleared_store_is_empty_and_takes_writes(empty_store()).await;
}

fn change(table: Table, key: &[u8], value: Option<&[u8]>) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

/// A write of these changes, with its stamp.
async fn write(store: &Arc<dyn StateStore>, stamp: &[u8], mut changes: Vec<Change>) {
    changes.push(change(Table::Meta, STAMP_KEY, Some(stamp)));
    let changes: MakeChanges = Box::new(move |_| changes);
    let written = store.clone().write(changes).await;
    written.expect("a healthy store takes writes");
}

async fn get(store: &Arc<dyn StateStore>, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let read = store.clone().read(vec![(table, key.to_vec())]).await;
    let mut values = read.expect("a healthy store can be read");
    assert_eq!(values.len(), 1, "one value for one key: {values:?}");
    values.remove(0)
}

async fn first_keys(
    store: &Arc<dyn StateStore>,
    table: Table,
    start: &[u8],
    end: &[u8],
    count: usize,
) -> Vec<Vec<u8>> {
    let entries = store
        .clone()
        .scan(table, start.to_vec(), end.to_vec(), count);
    let entries = entries.await.expect("a healthy store can be read");
    entries.into_iter().map(|(key, _)| key).collect()
}

async fn assert_empty(store: &Arc<dyn StateStore>) {
    let stamp = store.clone().stamp().await;
    assert_eq!(stamp, Ok(None), "an empty store has no stamp");
    for table in TABLES {
        assert_eq!(get(store, table, b"a").await, None, "{table:?}");
        let keys = first_keys(store, table, b"", &[u8::MAX], 9).await;
        assert!(keys.is_empty(), "{table:?} has {keys:?} instead of no keys");
    }
}

async fn assert_stamp(store: &Arc<dyn StateStore>, stamp: &[u8]) {
    assert_eq!(store.clone().stamp().await, Ok(Some(stamp.to_vec())));
}

async fn a_write_sets_and_removes_entries(store: Arc<dyn StateStore>) {
    for table in TABLES {
        let changes = vec![
            change(table, b"a", Some(b"1")),
            change(table, b"b", Some(b"")),
        ];
        write(&store, b"stamp 1", changes).await;
        assert_stamp(&store, b"stamp 1").await;
        assert_eq!(
            get(&store, table, b"a").await,
            Some(b"1".to_vec()),
            "{table:?}"
        );
        assert_eq!(
            get(&store, table, b"b").await,
            Some(Vec::new()),
            "{table:?}"
        );
        let changes = vec![
            change(table, b"a", Some(b"2")),
            change(table, b"b", None),
            change(table, b"absent", None),
        ];
        write(&store, b"stamp 2", changes).await;
        assert_stamp(&store, b"stamp 2").await;
        assert_eq!(
            get(&store, table, b"a").await,
            Some(b"2".to_vec()),
            "{table:?}"
        );
        assert_eq!(get(&store, table, b"b").await, None, "{table:?}");
    }
}

async fn the_last_change_of_an_entry_wins(store: Arc<dyn StateStore>) {
    let changes = vec![
        change(Table::Answers, b"set", None),
        change(Table::Answers, b"removed", Some(b"1")),
        change(Table::Answers, b"a", Some(b"1")),
        change(Table::Answers, b"set", Some(b"2")),
        change(Table::Answers, b"removed", None),
    ];
    write(&store, b"stamp", changes).await;
    assert_eq!(
        get(&store, Table::Answers, b"set").await,
        Some(b"2".to_vec())
    );
    assert_eq!(get(&store, Table::Answers, b"removed").await, None);
}

async fn tables_are_separate(store: Arc<dyn StateStore>) {
    for (table, value) in TABLES.into_iter().zip([b"1", b"2", b"3"]) {
        write(&store, b"stamp", vec![change(table, b"a", Some(value))]).await;
    }
    for (table, value) in TABLES.into_iter().zip([b"1", b"2", b"3"]) {
        assert_eq!(
            get(&store, table, b"a").await,
            Some(value.to_vec()),
            "{table:?}"
        );
        assert_eq!(
            first_keys(&store, table, b"", b"z", 9).await,
            [b"a"],
            "{table:?}"
        );
    }
}

async fn the_first_entries_come_in_order(store: Arc<dyn StateStore>) {
    for key in ["c", "a", "ab", "b", "d"] {
        let entry = change(Table::Expiry, key.as_bytes(), Some(key.as_bytes()));
        write(&store, b"stamp", vec![entry]).await;
    }
    for (start, end, count, expected, reason) in [
        ("", "d", 9, &["a", "ab", "b", "c"][..], "end is exclusive"),
        ("b", "z", 2, &["b", "c"], "start is inclusive"),
        ("a\0", "c", 9, &["ab", "b"], "keys are bytes"),
        ("e", "z", 9, &[], "the range is empty"),
    ] {
        let (start, end) = (start.as_bytes(), end.as_bytes());
        let keys = first_keys(&store, Table::Expiry, start, end, count).await;
        let expected: Vec<_> = expected.iter().map(|key| key.as_bytes()).collect();
        assert_eq!(keys, expected, "{reason}");
    }
    let entries = store.scan(Table::Expiry, b"d".to_vec(), b"e".to_vec(), 1);
    assert_eq!(entries.await, Ok(vec![(b"d".to_vec(), b"d".to_vec())]));
}

async fn a_read_of_large_entries_is_bounded_in_bytes(store: Arc<dyn StateStore>) {
    let large = vec![7; SCAN_BYTES_MAX / 2];
    let entries = [b"a", b"b", b"c"].map(|key| change(Table::Expiry, key, Some(&large)));
    write(&store, b"stamp", entries.into()).await;
    let first = first_keys(&store, Table::Expiry, b"a", b"z", 9).await;
    assert_eq!(first, [b"a", b"b"]);
    let rest = first_keys(&store, Table::Expiry, b"b\0", b"z", 9).await;
    assert_eq!(rest, [b"c"]);
}

async fn entries_are_read_in_the_order_of_their_keys(store: Arc<dyn StateStore>) {
    let entries = vec![
        change(Table::Answers, b"a", Some(b"answer")),
        change(Table::Aggregates, b"a", Some(b"aggregate")),
    ];
    write(&store, b"stamp", entries).await;
    let keys: Vec<EntryKey> = vec![
        (Table::Aggregates, b"b".to_vec()),
        (Table::Answers, b"a".to_vec()),
        (Table::Aggregates, b"a".to_vec()),
    ];
    let expected = vec![None, Some(b"answer".to_vec()), Some(b"aggregate".to_vec())];
    assert_eq!(store.clone().read(keys).await, Ok(expected));
    assert_eq!(store.read(Vec::new()).await, Ok(Vec::new()));
}

async fn changes_are_built_from_the_earlier_writes(store: Arc<dyn StateStore>) {
    let answer = |value: &[u8]| vec![change(Table::Answers, b"a", Some(value))];
    write(&store, b"1", answer(b"old")).await;
    let changes: MakeChanges = Box::new(|entries| {
        let found = entries.get(Table::Answers, b"a");
        let found = found.expect("a healthy store can be read");
        let found = found.expect("it was written before");
        let first = entries.first(Table::Answers, b"", b"b", 9);
        assert_eq!(first, Ok(vec![(b"a".to_vec(), found.clone())]));
        vec![
            change(Table::Answers, b"copy", Some(&found)),
            change(Table::Meta, STAMP_KEY, Some(b"2")),
        ]
    });
    let written = store.clone().write(changes).await;
    written.expect("building the changes may read the store");
    let copy = get(&store, Table::Answers, b"copy").await;
    assert_eq!(copy, Some(b"old".to_vec()));
}

async fn a_cleared_store_is_empty_and_takes_writes(store: Arc<dyn StateStore>) {
    for table in TABLES {
        write(&store, b"1", vec![change(table, b"a", Some(b"1"))]).await;
    }
    let cleared = store.clone().clear().await;
    cleared.expect("a healthy store can be cleared");
    assert_empty(&store).await;
    write(&store, b"2", vec![change(Table::Answers, b"b", Some(b"2"))]).await;
    assert_stamp(&store, b"2").await;
    assert_eq!(get(&store, Table::Answers, b"b").await, Some(b"2".to_vec()));
    assert_eq!(get(&store, Table::Answers, b"a").await, None);
}

#[cfg(test)]
mod tests {
    use crate::store::{Disk, Memory};
    use std::{cell::Cell, sync::Arc};

    #[tokio::test]
    async fn the_store_in_memory_conforms() {
        super::check(|| Arc::new(Memory::default())).await;
    }

    #[tokio::test]
    async fn the_store_on_disk_conforms() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Disk::new(folder.path()).expect("threads");
        let partition = Cell::new(0);
        super::check(|| {
            partition.set(partition.get() + 1);
            disk.partition("journal.probe", partition.get())
        })
        .await;
    }
}
