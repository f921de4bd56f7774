//! The store on disk after the library's files were damaged, or after the disk was full.

use super::*;
use std::io::{Seek, SeekFrom};

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_foreign_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    let marker = database(folder.path()).join("version");
    assert!(marker.exists(), "the library's format marker");
    fs::write(&marker, b"torn").unwrap();
    reopen_failed(&disk);
    assert_eq!(stamp(&store).await, None);
    let aside = aside(folder.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = fs::read(aside[0].join("database").join("version")).unwrap();
    assert_eq!(kept, b"torn");
    let letter = fs::read_to_string(folder.path().join("letter.txt")).unwrap();
    assert_eq!(letter, "dear");
}
#[tokio::test]
async fn an_entry_that_is_damaged_makes_the_owners_rebuild_their_stores() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let (store, other) = (
        disk.partition("journal.x", 0),
        disk.partition("journal.x", 1),
    );
    write(&store, b"1", b"a").await;
    write(&other, b"1", b"a").await;
    flush(&disk);
    reopen(&disk);
    damage_tables(&database(folder.path()).join("keyspaces").join("1"));
    let damaged = get(&store, Table::Answers, b"a").await.unwrap_err();
    assert!(
        matches!(damaged, StoreError::Unreadable { .. }),
        "{damaged:?} instead of StoreError::Unreadable"
    );
    let reopened = get(&other, Table::Answers, b"a").await.unwrap_err();
    assert!(
        matches!(reopened, StoreError::Reopened { .. }),
        "{reopened:?} instead of StoreError::Reopened"
    );
    assert_eq!(aside(folder.path()).len(), 1);
    store.clone().clear().await.unwrap();
    write(&store, b"2", b"a").await;
    assert!(has(&store, b"a").await);
    assert_eq!(stamp(&other).await, None);
}

/// Flips all bits in the first 64 bytes of each table file, where the entries are.
fn damage_tables(keyspace: &Path) {
    let mut damaged = 0;
    for entry in fs::read_dir(keyspace.join("tables")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // The end of the file stays intact, because the library finds the file's blocks by it.
        for byte in bytes.iter_mut().take(64) {
            *byte = !*byte;
        }
        fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0, "{keyspace:?} has no table");
}

/// The library reserves space for its write-ahead log, so zeros follow the item that a full disk cut off.
#[tokio::test]
async fn a_batch_that_a_full_disk_cut_off_is_discarded_and_the_earlier_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    write(&store, b"1", b"a").await;
    drop((disk, store));
    begin_batch(&database(folder.path()).join("0.jnl"));
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    assert_eq!(stamp(&store).await, Some(b"1".to_vec()));
    assert!(has(&store, b"a").await);
    assert_eq!(aside(folder.path()), [] as [PathBuf; 0]);
    write(&store, b"2", b"b").await;
    drop((disk, store));
    let disk = Disk::new(folder.path()).unwrap();
    let store = disk.partition("journal.x", 0);
    assert_eq!(stamp(&store).await, Some(b"2".to_vec()));
    let found = [has(&store, b"a").await, has(&store, b"b").await];
    assert_eq!(found, [true, true]);
}

/// Appends the beginning of a batch, in fjall's format, to the library's write-ahead log. The batch is cut off after
/// the length of its item's value.
fn begin_batch(journal: &Path) {
    const START: u8 = 1;
    const ITEM: u8 = 2;
    const BATCH_END: &[u8] = b"FJL\x03";
    let written = fs::read(journal).unwrap();
    let end = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let last = &written[end - BATCH_END.len()..end];
    assert_eq!(last, BATCH_END, "a whole batch");
    let mut batch = vec![START];
    batch.extend(1_u32.to_le_bytes()); // Items.
    batch.extend(1_000_000_u64.to_le_bytes()); // Sequence number.
    batch.extend([ITEM, 0, 0]); // A value, not compressed.
    batch.extend(1_u64.to_le_bytes()); // Keyspace.
    batch.extend(4_u16.to_le_bytes()); // Length of the key.
    batch.extend(17_u32.to_le_bytes()); // Length of the value.
    let mut file = fs::File::options().write(true).open(journal).unwrap();
    file.seek(SeekFrom::Start(end as u64)).unwrap();
    file.write_all(&batch).unwrap();
    let reserved = (end + batch.len() + 1_000).max(written.len());
    file.set_len(reserved as u64).unwrap();
}
