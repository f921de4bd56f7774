//! The conformance suite of [`StateStore`].

use crate::store::{Change, MakeChanges, STAMP_KEY, StateStore, Table};
use std::sync::Arc;

/// The tables besides [`Table::Meta`].
const TABLES: [Table; 3] = [Table::Aggregates, Table::Answers, Table::Expiry];

/// Runs every check, each on a fresh store that `empty_store` makes.
///
/// # Panics
/// The store breaks its contract.
pub async fn check(empty_store: impl Fn() -> Arc<dyn StateStore>) {
    an_empty_store_has_no_entry(&*empty_store());
    a_write_sets_and_removes_entries(empty_store()).await;
    the_last_change_of_an_entry_wins(empty_store()).await;
    tables_are_separate(empty_store()).await;
    the_first_entries_come_in_order(empty_store()).await;
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
    let changes: MakeChanges = Box::new(move || changes);
    let written = store.clone().write(changes).await;
    written.expect("a healthy store takes writes");
}

#[track_caller]
fn get(store: &dyn StateStore, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    store.get(table, key).expect("a healthy store can be read")
}

#[track_caller]
fn first_keys(
    store: &dyn StateStore,
    table: Table,
    start: &[u8],
    end: &[u8],
    count: usize,
) -> Vec<Vec<u8>> {
    let entries = store.first(table, start, end, count);
    let entries = entries.expect("a healthy store can be read");
    entries.into_iter().map(|(key, _)| key).collect()
}

#[track_caller]
fn assert_empty(store: &dyn StateStore) {
    assert_eq!(store.stamp(), Ok(None), "an empty store has no stamp");
    for table in TABLES {
        assert_eq!(get(store, table, b"a"), None, "{table:?}");
        let keys = first_keys(store, table, b"", &[u8::MAX], 9);
        assert!(keys.is_empty(), "{table:?} has {keys:?}");
    }
}

fn an_empty_store_has_no_entry(store: &dyn StateStore) {
    assert_empty(store);
}

async fn a_write_sets_and_removes_entries(store: Arc<dyn StateStore>) {
    for table in TABLES {
        let changes = vec![
            change(table, b"a", Some(b"1")),
            change(table, b"b", Some(b"")),
        ];
        write(&store, b"stamp 1", changes).await;
        assert_eq!(store.stamp(), Ok(Some(b"stamp 1".to_vec())));
        assert_eq!(get(&*store, table, b"a"), Some(b"1".to_vec()), "{table:?}");
        assert_eq!(get(&*store, table, b"b"), Some(Vec::new()), "{table:?}");
        let changes = vec![
            change(table, b"a", Some(b"2")),
            change(table, b"b", None),
            change(table, b"absent", None),
        ];
        write(&store, b"stamp 2", changes).await;
        assert_eq!(store.stamp(), Ok(Some(b"stamp 2".to_vec())));
        assert_eq!(get(&*store, table, b"a"), Some(b"2".to_vec()), "{table:?}");
        assert_eq!(get(&*store, table, b"b"), None, "{table:?}");
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
    assert_eq!(get(&*store, Table::Answers, b"set"), Some(b"2".to_vec()));
    assert_eq!(get(&*store, Table::Answers, b"removed"), None);
}

async fn tables_are_separate(store: Arc<dyn StateStore>) {
    for (table, value) in TABLES.into_iter().zip([b"1", b"2", b"3"]) {
        write(&store, b"stamp", vec![change(table, b"a", Some(value))]).await;
    }
    for (table, value) in TABLES.into_iter().zip([b"1", b"2", b"3"]) {
        assert_eq!(get(&*store, table, b"a"), Some(value.to_vec()), "{table:?}");
        assert_eq!(
            first_keys(&*store, table, b"", b"z", 9),
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
    let keys = |start: &str, end: &str, count| {
        first_keys(
            &*store,
            Table::Expiry,
            start.as_bytes(),
            end.as_bytes(),
            count,
        )
    };
    let expected = |keys: &[&str]| -> Vec<Vec<u8>> {
        keys.iter().map(|key| key.as_bytes().to_vec()).collect()
    };
    assert_eq!(
        keys("", "d", 9),
        expected(&["a", "ab", "b", "c"]),
        "end is exclusive"
    );
    assert_eq!(
        keys("b", "z", 2),
        expected(&["b", "c"]),
        "start is inclusive"
    );
    assert_eq!(keys("a\0", "c", 9), expected(&["ab", "b"]));
    assert_eq!(keys("e", "z", 9), expected(&[]));
    let entries = store.first(Table::Expiry, b"d", b"e", 1);
    assert_eq!(entries, Ok(vec![(b"d".to_vec(), b"d".to_vec())]));
}

async fn changes_are_built_from_the_earlier_writes(store: Arc<dyn StateStore>) {
    let answer = |value: &[u8]| vec![change(Table::Answers, b"a", Some(value))];
    write(&store, b"1", answer(b"old")).await;
    let reader = store.clone();
    let changes: MakeChanges = Box::new(move || {
        let found = get(&*reader, Table::Answers, b"a").expect("it was written before");
        vec![
            change(Table::Answers, b"copy", Some(&found)),
            change(Table::Meta, STAMP_KEY, Some(b"2")),
        ]
    });
    let written = store.clone().write(changes).await;
    written.expect("building the changes may read the store");
    let copy = get(&*store, Table::Answers, b"copy");
    assert_eq!(copy, Some(b"old".to_vec()));
}

async fn a_cleared_store_is_empty_and_takes_writes(store: Arc<dyn StateStore>) {
    for table in TABLES {
        write(&store, b"1", vec![change(table, b"a", Some(b"1"))]).await;
    }
    store.clear().expect("a healthy store can be cleared");
    assert_empty(&*store);
    write(&store, b"2", vec![change(Table::Answers, b"b", Some(b"2"))]).await;
    assert_eq!(store.stamp(), Ok(Some(b"2".to_vec())));
    assert_eq!(get(&*store, Table::Answers, b"b"), Some(b"2".to_vec()));
    assert_eq!(get(&*store, Table::Answers, b"a"), None);
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
        let disk = Disk::open(folder.path()).expect("an empty folder");
        let partition = Cell::new(0);
        super::check(|| {
            partition.set(partition.get() + 1);
            disk.partition("journal.probe", partition.get())
        })
        .await;
    }
}
