//! The stores of one node in an LSM tree on disk: one database for all partitions.
//!
//! Writes are not synced: a killed process loses none, a power failure loses the last ones, and the rest is
//! still consistent. The library closes itself after a failed write, for example on a full disk; then the
//! database is reopened before its next use. A user of a store that was reopened without some of its writes
//! gets an error: an owner keeps only part of the entries in memory, and must not treat the others as absent.
//!
//! The database is a cache of the log, but rebuilding it takes long. So it is replaced only if it is damaged or
//! has another format, and even then it is only set aside. An error that time or an operator can remove is
//! returned, and the next call makes another attempt.
//!
//! Only the store's few threads touch the disk. While one of them writes, it holds no lock that a reader or a caller
//! takes. So a disk that hangs delays only the calls that need the disk, and those calls time out.

mod database;
mod directory;
mod partition;
mod threads;

use self::{
    database::{Failure, Open},
    directory::{Directory, unavailable},
    threads::{NoAnswer, Threads},
};
use super::state_store::StoreError;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, Weak, mpsc},
    time::{Duration, Instant},
};

/// Threads that read, and threads that write, for all partitions together.
const READERS: usize = 2;
const WRITERS: usize = 2;
/// Longest wait for the database to be opened: the library reads its write-ahead log then.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for the database to be closed when the process ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for calls that use a database that was closed, and the interval of the check.
const FORMER_TIMEOUT: Duration = Duration::from_secs(1);
const FORMER_POLL: Duration = Duration::from_millis(1);
/// Failed writes before the whole database is read to find damage; the number doubles each time.
const FAILED_WRITES: u32 = 3;

/// Opens the library's database. A test may let this fail as a disk does.
type OpenDatabase = fn(&Path, u64) -> Result<Open, Failure>;

/// The stores of one node.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
    readers: Threads,
    writers: Threads,
}

/// Shows how long the store has not answered.
#[derive(Clone)]
pub struct Pulse([Threads; 2]);

struct Shared {
    /// The directory that the settings name.
    path: PathBuf,
    open_database: OpenDatabase,
    connection: Mutex<Connection>,
}

/// The database, while it is open. Only threads of the store lock it, and only opening holds it for long.
#[derive(Default)]
struct Connection {
    /// Our directory, locked from the first opening on.
    directory: Option<Directory>,
    open: Option<Arc<Open>>,
    /// The database that was closed last: calls in progress may still use it.
    former: Weak<Open>,
    /// Number of times that it was opened.
    opened: u64,
    /// Why the directory must be set aside before the next opening.
    damage: Option<String>,
    failed_writes: u32,
    failed_writes_max: u32,
}

impl Disk {
    /// The store in this directory. It is opened at its first use, or by [`Disk::open`].
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        Self::with_library(path, Open::open)
    }

    fn with_library(path: &Path, open_database: OpenDatabase) -> std::io::Result<Self> {
        let shared = Shared {
            path: path.to_owned(),
            open_database,
            connection: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            readers: Threads::start("store-read", READERS)?,
            writers: Threads::start("store-write", WRITERS)?,
        })
    }

    /// Opens the store, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if another attempt may succeed; [`StoreError::InUse`] if another process
    /// has it open; [`StoreError::ForeignDirectory`] if the directory has files of others.
    pub async fn open(&self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let opened = self
            .writers
            .run(OPEN_TIMEOUT, move |_| shared.current().map(drop));
        opened.await.map_err(|error| self.no_answer(error))?
    }

    /// Returns a handle that shows whether the store answers.
    pub fn pulse(&self) -> Pulse {
        Pulse([self.readers.clone(), self.writers.clone()])
    }

    fn no_answer(&self, error: NoAnswer) -> StoreError {
        unavailable(&self.shared.path, &error)
    }
}

impl Pulse {
    /// How long the oldest call without an answer has waited; `None` if no call waits. This does not access the
    /// disk.
    pub fn unanswered_for(&self) -> Option<Duration> {
        let Self(threads) = self;
        threads.iter().filter_map(Threads::unanswered_for).max()
    }
}

impl Drop for Shared {
    /// The library waits for its worker when it is closed, and that would block while the disk hangs.
    fn drop(&mut self) {
        let connection = std::mem::take(&mut *self.connection());
        let (close, closed) = mpsc::channel::<()>();
        let closing = std::thread::Builder::new().name("store-close".to_owned());
        let closing = closing.spawn(move || {
            drop(connection.open);
            drop(connection.directory);
            drop(close);
        });
        if closing.is_ok() {
            // An error either way: the sender is dropped, or it is too late.
            let _ = closed.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

impl Shared {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("no holder panics")
    }

    /// The open database; opened now if it is closed.
    fn current(&self) -> Result<Arc<Open>, StoreError> {
        let mut connection = self.connection();
        if let Some(open) = &connection.open {
            return Ok(open.clone());
        }
        self.await_former(&connection.former)?;
        let mut directory = match connection.directory.take() {
            Some(directory) => directory,
            None => Directory::open(&self.path)?,
        };
        if let Some(damage) = &connection.damage {
            directory = directory.set_aside(damage)?;
            connection.damage = None;
        }
        let number = connection.opened + 1;
        let opened = match self.try_open(&directory, number) {
            Err(Failure::Damaged(reason)) => {
                directory = directory.set_aside(&reason)?;
                self.try_open(&directory, number)
            }
            opened => opened,
        };
        connection.directory = Some(directory);
        let open = Arc::new(opened.map_err(|failure| unavailable(&self.path, &failure))?);
        connection.opened = number;
        connection.open = Some(open.clone());
        Ok(open)
    }

    /// Waits until no call uses the database that was closed last.
    fn await_former(&self, former: &Weak<Open>) -> Result<(), StoreError> {
        let started = Instant::now();
        while former.strong_count() > 0 {
            if started.elapsed() >= FORMER_TIMEOUT {
                let reason = "a call still uses the database that was closed";
                return Err(unavailable(&self.path, &reason));
            }
            std::thread::park_timeout(FORMER_POLL);
        }
        Ok(())
    }

    /// After a panic within the library its locks may be poisoned.
    fn close_after_panic(&self) -> StoreError {
        let open = self.connection().open.clone();
        if let Some(open) = open {
            self.close(&open, None);
        }
        unavailable(&self.path, &"the library panicked")
    }

    fn try_open(&self, directory: &Directory, number: u64) -> Result<Open, Failure> {
        let path = directory.database();
        // The library's own checks of its files panic in places.
        let opened = catch_unwind(AssertUnwindSafe(|| (self.open_database)(&path, number)));
        opened.unwrap_or_else(|_| Err(Failure::Damaged("the library panicked".to_owned())))
    }

    /// Closes this database, unless another one was opened since. The next use sets it aside if it is damaged,
    /// and opens it again.
    fn close(&self, open: &Arc<Open>, damage: Option<String>) {
        let mut connection = self.connection();
        let is_current = connection.open.as_ref().map(|current| current.number);
        if is_current == Some(open.number) {
            connection.former = Arc::downgrade(open);
            connection.damage = damage;
            let closed = connection.open.take();
            // It ends the library's threads, so the lock must be free.
            drop(connection);
            drop(closed);
        }
    }

    /// The library takes no write after a failed one. If several fail, all entries are read to find out whether
    /// they are damaged: damage kills the library's worker without an error.
    fn write_failed(&self, open: &Arc<Open>, failure: Failure) -> Failure {
        if let Failure::Behind(_) = failure {
            return failure;
        }
        let is_due = {
            let mut connection = self.connection();
            connection.failed_writes += 1;
            let is_due =
                connection.failed_writes >= FAILED_WRITES.max(connection.failed_writes_max);
            if is_due {
                connection.failed_writes_max = connection.failed_writes.saturating_mul(2);
            }
            is_due
        };
        let failure = match failure {
            Failure::Unavailable(_) if is_due => open.verify().err().unwrap_or(failure),
            failure => failure,
        };
        self.close(open, damage(&failure));
        failure
    }
}

/// The reason to set the database aside.
fn damage(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Damaged(reason) => Some(reason.clone()),
        Failure::Unavailable(_) | Failure::Behind(_) => None,
    }
}

#[cfg(test)]
mod tests;
