//! One partition's store in the database of all partitions.

use super::{
    Disk,
    database::{Failure, Open},
    directory::unavailable,
    threads::{Caller, Threads},
};
use crate::store::state_store::{
    Answered, Entries, Entry, EntryKey, MakeChanges, STAMP_KEY, StateStore, StoreError, Table,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Longest wait for a read.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a write; the library may merge files first.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

impl Disk {
    /// One partition's store.
    pub fn partition(&self, topic: &str, partition: i32) -> Arc<dyn StateStore> {
        Arc::new(DiskPartition::new(
            self.clone(),
            format!("{topic}-{partition}"),
        ))
    }
}

/// One partition's store.
struct DiskPartition {
    disk: Disk,
    name: String,
    state: Mutex<State>,
}

/// The known state of a partition.
#[derive(Default)]
struct State {
    known: Known,
    /// Whether a write is in progress, even if its caller is gone.
    is_writing: bool,
}

/// The state that a partition's user relies on.
#[derive(Clone, Default)]
struct Known {
    /// [`Open::number`] at the last check.
    opened: u64,
    /// The partition's number in the database.
    id: Option<u32>,
    /// The stamp that was last read or written.
    stamp: Option<Vec<u8>>,
}

/// A partition's entries in an open database.
struct View<'a> {
    partition: &'a DiskPartition,
    open: Arc<Open>,
    id: Option<u32>,
}

impl View<'_> {
    fn read<T: Default>(
        &self,
        read: impl FnOnce(&Open, u32) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        match self.id {
            Some(id) => read(&self.open, id)
                .map_err(|failure| self.partition.unreadable(&self.open, &failure)),
            None => Ok(T::default()),
        }
    }
}

impl Entries for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|open, id| open.get(id, table, key))
    }

    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(|open, id| open.first(id, table, start, end, count))
    }
}

/// A write that is in progress until this is dropped.
struct Writing<'a>(&'a DiskPartition);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.state().is_writing = false;
    }
}

impl DiskPartition {
    fn new(disk: Disk, name: String) -> Self {
        Self {
            disk,
            name,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn reopened(&self) -> StoreError {
        StoreError::Reopened {
            partition: self.name.clone(),
        }
    }

    fn unreadable(&self, open: &Arc<Open>, failure: &Failure) -> StoreError {
        let shared = &self.disk.shared;
        match failure {
            Failure::Unavailable(reason) | Failure::Behind(reason) => {
                unavailable(&shared.path, reason)
            }
            Failure::Damaged(reason) => {
                shared.close(open, Some(reason.clone()));
                StoreError::Unreadable {
                    partition: self.name.clone(),
                    reason: reason.clone(),
                }
            }
        }
    }

    fn unwritable(&self, open: &Arc<Open>, failure: Failure) -> StoreError {
        let failure = self.disk.shared.write_failed(open, failure);
        StoreError::Unwritable {
            partition: self.name.clone(),
            reason: failure.to_string(),
        }
    }

    /// Reads this partition's state from an open database.
    fn stored(&self, open: &Arc<Open>) -> Result<Known, StoreError> {
        let unreadable = |failure| self.unreadable(open, &failure);
        let id = open.id(&self.name).map_err(unreadable)?;
        let view = View {
            partition: self,
            open: open.clone(),
            id,
        };
        Ok(Known {
            opened: open.number,
            id,
            stamp: view.get(Table::Meta, STAMP_KEY)?,
        })
    }

    /// The entries in the open database, after a check that it still has its user's writes if it was reopened.
    fn view(&self) -> Result<View<'_>, StoreError> {
        let open = self.disk.shared.current()?;
        let view = |open, id| View {
            partition: self,
            open,
            id,
        };
        let known = self.state().known.clone();
        if known.opened == open.number {
            return Ok(view(open, known.id));
        }
        let stored = self.stored(&open)?;
        let mut state = self.state();
        // Otherwise another call has just checked it, and may have written since.
        if state.known.opened != open.number {
            if stored.stamp != state.known.stamp {
                return Err(self.reopened());
            }
            state.known = stored;
        }
        let id = state.known.id;
        drop(state);
        Ok(view(open, id))
    }

    /// Calls `work`, unless its caller is gone or an earlier write of this partition is still in progress.
    fn alone<T>(
        &self,
        caller: &Caller<Result<T, StoreError>>,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state();
        if caller.is_gone() || state.is_writing {
            let reason = "an earlier write is still in progress";
            return Err(unavailable(&self.disk.shared.path, &reason));
        }
        state.is_writing = true;
        drop(state);
        let _writing = Writing(self);
        work()
    }

    fn stamp_now(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.stored(&self.disk.shared.current()?)?;
        let stamp = stored.stamp.clone();
        self.state().known = stored;
        Ok(stamp)
    }

    fn write_now(&self, changes: MakeChanges) -> Result<(), StoreError> {
        let view = self.view()?;
        let mut changes = changes(&view);
        let View { open, id, .. } = view;
        // Sorted keys reuse the cached path of the previous search. The sort is stable: of two changes
        // of one entry the last one wins.
        changes.sort_by(|one, other| (one.table, &one.key).cmp(&(other.table, &other.key)));
        let stamp = changes.iter().rfind(|change| change.table == Table::Meta);
        let stamp = stamp.and_then(|change| change.value.clone());
        let written = open.write(&self.name, id, changes);
        let id = written.map_err(|failure| self.unwritable(&open, failure))?;
        self.state().known = Known {
            opened: open.number,
            id: Some(id),
            stamp,
        };
        if let Err(failure) = open.remove_dead() {
            self.disk.shared.write_failed(&open, failure);
        }
        Ok(())
    }

    fn clear_now(&self) -> Result<(), StoreError> {
        let open = self.disk.shared.current()?;
        let cleared = open.clear(&self.name);
        let id = cleared.map_err(|failure| self.unwritable(&open, failure))?;
        self.state().known = Known {
            opened: open.number,
            id,
            stamp: None,
        };
        Ok(())
    }

    /// Calls `work` on threads of the store, and returns its answer.
    fn call<T: Send + 'static>(
        self: Arc<Self>,
        threads: &Threads,
        timeout: Duration,
        work: impl FnOnce(&Self, &Caller<Result<T, StoreError>>) -> Result<T, StoreError>
        + Send
        + 'static,
    ) -> Answered<T> {
        let threads = threads.clone();
        Box::pin(async move {
            let partition = self.clone();
            let answer = threads.run(timeout, move |caller| {
                let answer = catch_unwind(AssertUnwindSafe(|| work(&partition, caller)));
                answer.unwrap_or_else(|_| Err(partition.disk.shared.close_after_panic()))
            });
            answer.await.map_err(|error| self.disk.no_answer(error))?
        })
    }
}

impl StateStore for DiskPartition {
    fn stamp(self: Arc<Self>) -> Answered<Option<Vec<u8>>> {
        let threads = self.disk.readers.clone();
        self.call(&threads, READ_TIMEOUT, |partition, caller| {
            partition.alone(caller, || partition.stamp_now())
        })
    }

    fn read(self: Arc<Self>, keys: Vec<EntryKey>) -> Answered<Vec<Option<Vec<u8>>>> {
        let threads = self.disk.readers.clone();
        self.call(&threads, READ_TIMEOUT, move |partition, _| {
            let view = partition.view()?;
            keys.iter()
                .map(|(table, key)| view.get(*table, key))
                .collect()
        })
    }

    fn scan(
        self: Arc<Self>,
        table: Table,
        start: Vec<u8>,
        end: Vec<u8>,
        count: usize,
    ) -> Answered<Vec<Entry>> {
        let threads = self.disk.readers.clone();
        self.call(&threads, READ_TIMEOUT, move |partition, _| {
            partition.view()?.first(table, &start, &end, count)
        })
    }

    fn write(self: Arc<Self>, changes: MakeChanges) -> Answered<()> {
        let threads = self.disk.writers.clone();
        self.call(&threads, WRITE_TIMEOUT, |partition, caller| {
            partition.alone(caller, || partition.write_now(changes))
        })
    }

    fn clear(self: Arc<Self>) -> Answered<()> {
        let threads = self.disk.writers.clone();
        self.call(&threads, WRITE_TIMEOUT, |partition, caller| {
            partition.alone(caller, || partition.clear_now())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Change;
    use futures_util::future::join_all;
    use std::{
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };
    use tokio::sync::Notify;

    /// Opening the database hangs and holds the connection's lock, which every call needs.
    #[tokio::test]
    async fn calls_time_out_while_the_disk_hangs_and_succeed_after_it_recovers() {
        static HANGS: AtomicBool = AtomicBool::new(true);
        static OPENS: Notify = Notify::const_new();
        fn open(path: &Path, number: u64) -> Result<Open, Failure> {
            OPENS.notify_one();
            while HANGS.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            Open::open(path, number)
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::with_library(folder.path(), open).unwrap();
        // Each gets only one call that other calls of its partition must not overtake: such calls are refused at once.
        let [store, other, third] = [0, 1, 2].map(|number| disk.partition("journal.x", number));
        let key = (Table::Meta, STAMP_KEY.to_vec());
        let stamped = |stamp: &'static [u8]| -> MakeChanges {
            Box::new(move |_| {
                vec![Change {
                    table: Table::Meta,
                    key: STAMP_KEY.to_vec(),
                    value: Some(stamp.to_vec()),
                }]
            })
        };
        let (hung, ()) = tokio::join!(store.clone().read(vec![key.clone()]), async {
            OPENS.notified().await;
            // A paused clock jumps to the time-out. It is paused only now, after the call has begun.
            tokio::time::pause();
        });
        for error in [
            hung.err(),
            store
                .clone()
                .scan(Table::Answers, vec![], vec![0xff], 1)
                .await
                .err(),
            third.stamp().await.err(),
            other.clone().read(vec![key.clone()]).await.err(),
            store.clone().write(stamped(b"late")).await.err(),
            other.clone().clear().await.err(),
        ] {
            let Some(StoreError::Unavailable { reason, .. }) = error else {
                panic!("{error:?} instead of Unavailable");
            };
            assert!(
                reason.starts_with("no answer from the disk within"),
                "no \"no answer from the disk within\" at the start of: {reason}"
            );
        }
        assert!(disk.pulse().unanswered_for().is_some());

        HANGS.store(false, Ordering::SeqCst);
        tokio::time::resume();
        while disk.pulse().unanswered_for().is_some() {
            std::thread::yield_now();
        }
        store.clone().write(stamped(b"1")).await.unwrap();
        assert_eq!(store.clone().stamp().await, Ok(Some(b"1".to_vec())));
        assert_eq!(other.read(vec![key]).await, Ok(vec![None]));
    }

    #[tokio::test]
    async fn partitions_that_are_written_first_at_the_same_time_share_no_entries() {
        const PARTITIONS: i32 = 64;
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path()).unwrap();
        disk.open().await.unwrap();
        let change = |table, key: &[u8]| Change {
            table,
            key: key.to_vec(),
            value: Some(b"value".to_vec()),
        };
        let stores: Vec<_> = (0..PARTITIONS)
            .map(|number| disk.partition("journal.x", number))
            .collect();
        let writes = (0..PARTITIONS).zip(&stores).map(|(number, store)| {
            let entry = change(Table::Answers, &number.to_be_bytes());
            let stamp = change(Table::Meta, STAMP_KEY);
            store.clone().write(Box::new(move |_| vec![entry, stamp]))
        });
        for written in join_all(writes).await {
            written.unwrap();
        }
        for (number, store) in (0..PARTITIONS).zip(&stores) {
            let all = store.clone().scan(Table::Answers, vec![], vec![0xff], 99);
            let keys: Vec<_> = all.await.unwrap().into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [number.to_be_bytes().to_vec()], "partition {number}");
        }
    }
}
