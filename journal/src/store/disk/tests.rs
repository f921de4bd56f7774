//! The store on disk after a restart, beside other partitions, and when the disk or the library fails.

mod damage;

use super::{database::FORMAT, *};
use crate::store::{Change, MakeChanges, STAMP_KEY, StateStore, Table};
use std::{
    fs,
    io::{self, Read, Write},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

fn change(table: Table, key: &[u8], value: Option<&[u8]>) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

fn stamped(stamp: &'static [u8], change: Change) -> MakeChanges {
    Box::new(move |_| vec![change, self::change(Table::Meta, STAMP_KEY, Some(stamp))])
}

async fn write(store: &Arc<dyn StateStore>, stamp: &'static [u8], key: &'static [u8]) {
    let entry = change(Table::Answers, key, Some(b"value"));
    store.clone().write(stamped(stamp, entry)).await.unwrap();
}

async fn get(
    store: &Arc<dyn StateStore>,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut values = store.clone().read(vec![(table, key.to_vec())]).await?;
    Ok(values.remove(0))
}

async fn has(store: &Arc<dyn StateStore>, key: &[u8]) -> bool {
    get(store, Table::Answers, key).await.unwrap().is_some()
}

async fn stamp(store: &Arc<dyn StateStore>) -> Option<Vec<u8>> {
    store.clone().stamp().await.unwrap()
}

/// Closes the database as a failed write does, but keeps all earlier writes.
fn reopen(disk: &Disk) {
    let open = disk.shared.current().unwrap();
    disk.shared.close(&open, None);
}

/// Writes all new entries into the library's tables.
fn flush(disk: &Disk) {
    disk.shared.current().unwrap().flush();
}

/// The directories that were set aside.
fn aside(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains(".aside-"))
        .collect()
}

fn database(state_dir: &Path) -> PathBuf {
    state_dir.join("daybook-store").join("database")
}

#[tokio::test]
async fn entries_survive_a_restart_and_belong_to_their_partition() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    let other = disk.partition("journal.x", 1);
    write(&store, b"1", b"a").await;
    assert_eq!(stamp(&other).await, None);
    assert!(!has(&other, b"a").await);
    let second = Disk::new(folder.path()).unwrap();
    let taken = second.open().await.unwrap_err();
    assert!(
        matches!(taken, StoreError::InUse { .. }),
        "{taken:?} instead of StoreError::InUse"
    );
    write(&other, b"2", b"b").await;
    drop((disk, store, other));
    let disk = Disk::new(folder.path()).unwrap();
    disk.open().await.unwrap();
    let store = disk.partition("journal.x", 0);
    let other = disk.partition("journal.x", 1);
    assert_eq!(stamp(&store).await, Some(b"1".to_vec()));
    assert!(has(&store, b"a").await);
    store.clone().clear().await.unwrap();
    assert_eq!(stamp(&store).await, None);
    assert!(!has(&store, b"a").await);
    assert_eq!(stamp(&other).await, Some(b"2".to_vec()));
    assert!(has(&other, b"b").await);
}

#[tokio::test]
async fn all_partitions_share_one_keyspace() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    for partition in 0..56 {
        let store = disk.partition("journal.x", partition);
        write(&store, b"1", b"a").await;
    }
    // The library's own, and ours.
    let keyspaces = fs::read_dir(database(folder.path()).join("keyspaces"));
    assert_eq!(keyspaces.unwrap().count(), 2);
}

/// An owner keeps only part of the entries in memory: it must not treat the others as absent.
#[tokio::test]
async fn a_user_of_a_store_that_lost_its_last_writes_gets_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    let second_user = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    reopen(&disk);
    assert!(has(&store, b"a").await, "all entries are there");
    second_user.clear().await.unwrap();
    reopen(&disk);
    let entry = change(Table::Answers, b"b", Some(b""));
    for error in [
        get(&store, Table::Answers, b"a").await.err(),
        store.clone().write(stamped(b"2", entry)).await.err(),
    ] {
        assert!(
            matches!(error, Some(StoreError::Reopened { .. })),
            "{error:?} instead of Some(StoreError::Reopened)"
        );
    }
    assert_eq!(stamp(&store).await, None);
    assert!(!has(&store, b"a").await, "the stamp was read since");
}

/// One partition's failed write closes the database for all; the others have lost no write.
#[tokio::test]
async fn a_write_succeeds_after_the_database_was_reopened_with_all_writes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    reopen(&disk);
    write(&store, b"2", b"b").await;
    assert_eq!(stamp(&store).await, Some(b"2".to_vec()));
    let found = [has(&store, b"a").await, has(&store, b"b").await];
    assert_eq!(found, [true, true]);
}

/// A write that waits for the test.
fn held(stamp: &'static [u8]) -> (MakeChanges, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((begin, begun), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let changes: MakeChanges = Box::new(move |_| {
        begin.send(()).unwrap();
        // Fails once the test has dropped its end.
        let _ = released.recv();
        vec![change(Table::Meta, STAMP_KEY, Some(stamp))]
    });
    (changes, begun, release)
}

#[tokio::test]
async fn a_write_that_hangs_holds_up_no_other_partition() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let (store, other) = (
        disk.partition("journal.x", 0),
        disk.partition("journal.x", 1),
    );
    assert_eq!(disk.pulse().unanswered_for(), None);
    let (changes, begun, release) = held(b"1");
    let hanging = tokio::spawn(store.clone().write(changes));
    tokio::task::spawn_blocking(move || begun.recv().unwrap())
        .await
        .unwrap();
    write(&other, b"2", b"b").await;
    assert!(has(&other, b"b").await);
    assert!(disk.pulse().unanswered_for().is_some(), "no answer yet");
    drop(release);
    hanging.await.unwrap().unwrap();
    assert_eq!(stamp(&store).await, Some(b"1".to_vec()));
}

#[tokio::test]
async fn a_write_that_was_given_up_does_not_land_behind_the_next_read_of_the_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let (changes, begun, release) = held(b"2");
    let given_up = tokio::spawn(store.clone().write(changes));
    tokio::task::spawn_blocking(move || begun.recv().unwrap())
        .await
        .unwrap();
    given_up.abort();
    let ended = given_up.await.unwrap_err();
    assert!(ended.is_cancelled(), "not cancelled: {ended:?}");
    let early = store.clone().stamp().await.unwrap_err();
    assert!(
        matches!(early, StoreError::Unavailable { .. }),
        "{early:?} instead of StoreError::Unavailable"
    );
    drop(release);
    // It has begun, so it ends.
    while store.clone().stamp().await.is_err() {}
    assert_eq!(stamp(&store).await, Some(b"2".to_vec()));

    // All threads are busy, so this write does not begin.
    let others: Vec<_> = (1..)
        .take(WRITERS)
        .map(|partition| {
            let (changes, begun, release) = held(b"1");
            let other = disk.partition("journal.x", partition);
            (tokio::spawn(other.write(changes)), begun, release)
        })
        .collect();
    let mut releases = Vec::new();
    for (task, begun, release) in others {
        let begun = tokio::task::spawn_blocking(move || begun.recv().unwrap());
        begun.await.unwrap();
        releases.push((task, release));
    }
    let entry = change(Table::Answers, b"late", Some(b""));
    let mut late = store.clone().write(stamped(b"3", entry));
    tokio::select! {
        biased;
        written = &mut late => panic!("{written:?} although no thread is free"),
        () = std::future::ready(()) => drop(late),
    }
    for (task, release) in releases {
        drop(release);
        task.await.unwrap().unwrap();
    }
    assert_eq!(stamp(&store).await, Some(b"2".to_vec()));
    write(&store, b"4", b"b").await;
    assert!(!has(&store, b"late").await);
}

/// Closes the database without opening it before.
fn reopen_failed(disk: &Disk) {
    let open = disk.shared.connection().open.clone();
    disk.shared.close(&open.unwrap(), None);
}

/// Errors of the operating system that time or an operator can remove.
fn refusals() -> Vec<io::Error> {
    const NO_DESCRIPTOR: i32 = 24;
    const INPUT_OUTPUT: i32 = 5;
    let kinds = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::OutOfMemory,
    ];
    let numbers = [NO_DESCRIPTOR, INPUT_OUTPUT].map(io::Error::from_raw_os_error);
    kinds
        .into_iter()
        .map(io::Error::from)
        .chain(numbers)
        .collect()
}

#[tokio::test]
async fn a_refusal_of_the_operating_system_sets_nothing_aside() {
    static REFUSALS: AtomicUsize = AtomicUsize::new(usize::MAX);
    fn refusing(path: &Path, number: u64) -> Result<Open, Failure> {
        let index = REFUSALS.fetch_add(1, Ordering::SeqCst);
        let refusal = refusals().into_iter().nth(index);
        match refusal {
            // As the library or the tree below it reports it.
            Some(error) if index.is_multiple_of(2) => Err(fjall::Error::Io(error).into()),
            Some(error) => Err(fjall::Error::Storage(fjall::LsmError::Io(error)).into()),
            None => Open::open(path, number),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    REFUSALS.store(usize::MAX - 1, Ordering::SeqCst);
    let disk = Disk::with_library(folder.path(), refusing).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    REFUSALS.store(0, Ordering::SeqCst);
    reopen_failed(&disk);
    for refusal in refusals() {
        let refused = get(&store, Table::Answers, b"a").await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Unavailable { .. }),
            "{refusal}: {refused:?} instead of StoreError::Unavailable"
        );
    }
    assert!(has(&store, b"a").await, "another attempt succeeds");
    assert_eq!(aside(folder.path()), [] as [PathBuf; 0]);
}

/// The library waits forever for memtables to be flushed, even if its worker has died.
#[tokio::test]
async fn a_write_fails_if_the_worker_of_the_library_has_died() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let tables = database(folder.path())
        .join("keyspaces")
        .join("1")
        .join("tables");
    fs::rename(&tables, folder.path().join("away")).unwrap();
    fs::write(&tables, "no directory").unwrap();
    let open = disk.shared.current().unwrap();
    open.fill_with_sealed_memtables();
    let entry = change(Table::Answers, b"b", Some(b""));
    let failed = store.clone().write(stamped(b"2", entry)).await.unwrap_err();
    assert!(
        matches!(failed, StoreError::Unwritable { .. }),
        "{failed:?} instead of StoreError::Unwritable"
    );
    drop(open);
    fs::remove_file(&tables).unwrap();
    fs::rename(folder.path().join("away"), &tables).unwrap();
    let entry = change(Table::Answers, b"b", Some(b""));
    store.clone().write(stamped(b"2", entry)).await.unwrap();
    let found = [has(&store, b"a").await, has(&store, b"b").await];
    assert_eq!(found, [true, true]);
}

#[tokio::test]
async fn the_entries_of_an_emptied_partition_leave_the_disk_with_later_writes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let (store, other) = (
        disk.partition("journal.x", 0),
        disk.partition("journal.x", 1),
    );
    let many: MakeChanges = Box::new(|_| {
        let entry = |number: u32| change(Table::Answers, &number.to_be_bytes(), Some(b"value"));
        let stamp = change(Table::Meta, STAMP_KEY, Some(b"1"));
        (0..25_000).map(entry).chain([stamp]).collect()
    });
    store.clone().write(many).await.unwrap();
    store.clone().clear().await.unwrap();
    // The store still knows after a restart that it must remove these entries.
    reopen(&disk);
    let entries = disk.shared.current().unwrap().len();
    assert!(
        entries > 25_000,
        "{entries} entries instead of more than 25,000"
    );
    for _ in 0..5 {
        write(&other, b"1", b"a").await;
    }
    // One entry and the stamp, the two names, and the next number.
    assert_eq!(disk.shared.current().unwrap().len(), 5);
}

/// Copies a store, with zeros in the library's write-ahead log after `kept` bytes.
fn copy_cut_off(from: &Path, to: &Path, kept: usize) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_cut_off(&path, &target, kept);
        } else if path.extension().is_some_and(|extension| extension == "jnl") {
            let written = log_bytes_of(&path);
            let log = fs::File::create(&target).unwrap();
            (&log)
                .write_all(&written[..kept.min(written.len())])
                .unwrap();
            log.set_len(path.metadata().unwrap().len()).unwrap();
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The bytes of the library's write-ahead log that were written; it is as long as it may become.
fn log_bytes_of(log: &Path) -> Vec<u8> {
    const MORE_THAN_THE_TEST_WRITES: u64 = 1 << 16;
    let mut bytes = Vec::new();
    let log = fs::File::open(log).unwrap();
    log.take(MORE_THAN_THE_TEST_WRITES)
        .read_to_end(&mut bytes)
        .unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0);
    bytes.truncate(end.map_or(0, |last| last + 1));
    bytes
}

fn log_bytes(state_dir: &Path) -> usize {
    log_bytes_of(&database(state_dir).join("0.jnl")).len()
}

/// Writes are not synced, so a power cut loses the end of the library's log. Its tables are durable.
#[tokio::test]
async fn after_a_power_cut_within_clear_the_store_has_all_entries_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    flush(&disk);
    write(&store, b"2", b"b").await;
    let before = log_bytes(folder.path());
    store.clone().clear().await.unwrap();
    let after = log_bytes(folder.path());
    assert!(before < after, "{after} instead of more than {before}");
    let mut seen = [0; 2];
    for kept in before..=after {
        let copy = tempfile::tempdir().unwrap();
        copy_cut_off(folder.path(), copy.path(), kept);
        let store = Disk::new(copy.path()).unwrap().partition("journal.x", 0);
        let stamp = stamp(&store).await;
        let entries = [has(&store, b"a").await, has(&store, b"b").await];
        match &stamp {
            Some(stamp) => assert_eq!((&stamp[..], entries), (&b"2"[..], [true; 2]), "{kept}"),
            None => assert_eq!(entries, [false; 2], "{kept}"),
        }
        seen[usize::from(stamp.is_none())] += 1;
    }
    assert!(
        seen[0] > 0 && seen[1] > 0,
        "{seen:?} instead of above 0 each"
    );
}

#[test]
fn a_changed_key_needs_another_format() {
    let folder = tempfile::tempdir().unwrap();
    let open = Open::open(folder.path(), 1).unwrap();
    let changes = vec![
        change(Table::Meta, b"m", Some(b"1")),
        change(Table::Aggregates, b"g", Some(b"2")),
        change(Table::Answers, b"a", Some(b"3")),
        change(Table::Expiry, b"e", Some(b"4")),
        change(Table::Meta, STAMP_KEY, Some(b"5")),
    ];
    open.write("journal.x-0", None, changes).unwrap();
    open.clear("journal.x-0").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("golden/state_store_keys/v{FORMAT}/entries.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, open.text()).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert_eq!(
        golden,
        open.text(),
        "{path:?} differs: raise FORMAT, then UPDATE_GOLDEN=1 writes the new version's file"
    );
}
