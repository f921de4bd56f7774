//! What the rest of the process has of an owner: its queue, and how it is doing.

use super::request::{Answer, Refusal, Request};
use crate::rule::Hash;
use schemas::Timestamp;
use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<Answer, Refusal>>;
/// A command, and where its answer goes.
pub(super) type Submission<C> = (Request<C>, Reply);

/// How an owner is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The partition is assigned to somebody else. Commands are turned away.
    Standby,
    /// It does not serve yet, or not at the moment; it goes on trying. Commands wait.
    TakingOver(Reason),
    /// It serves.
    InOffice {
        /// The term's number.
        epoch: i64,
        /// The term.
        term: [u8; 16],
    },
    /// It leaves office: what is under way still gets its answers, and commands are turned away.
    Leaving,
    /// It serves no more: the process stops, or the log can't be read on.
    Ended(Reason),
}

/// Why an owner does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    text: String,
    is_of_this_process: bool,
}

impl Reason {
    /// One that lies with this process (its clock, its state store, its version): another one could
    /// serve.
    pub fn of_this_process(text: String) -> Self {
        Self {
            text,
            is_of_this_process: true,
        }
    }

    /// Whether another process could serve.
    pub fn is_of_this_process(&self) -> bool {
        self.is_of_this_process
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self {
            text,
            is_of_this_process: false,
        }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the log was when an owner looked at it last, some moments ago. It can only have grown since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved {
    /// h(1), which names the log.
    pub log_id: Hash,
    /// Right behind the last record that was read or proved.
    pub next_offset: i64,
}

/// What an owner needs to know of its process.
#[derive(Clone)]
pub struct OwnerSettings {
    /// Where this process takes commands, as others reach it.
    pub owner_url: String,
    /// The process's clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A clock that nobody sets, from any beginning.
    pub uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// Gives a fresh random id.
    pub fresh_term: Arc<dyn Fn() -> [u8; 16] + Send + Sync>,
}

/// Takes commands for one partition.
pub struct OwnerHandle<C> {
    queue: mpsc::Sender<Submission<C>>,
    status: watch::Receiver<Status>,
    proved: watch::Receiver<Option<Proved>>,
}

impl OwnerSettings {
    /// With the machine's clock and randomness.
    pub fn new(owner_url: String) -> Self {
        let started = Instant::now();
        Self {
            owner_url,
            clock: Arc::new(machine_clock),
            uptime: Arc::new(move || started.elapsed()),
            fresh_term: Arc::new(|| uuid::Uuid::new_v4().into_bytes()),
        }
    }
}

impl<C> OwnerHandle<C> {
    pub(super) fn new(
        queue: mpsc::Sender<Submission<C>>,
        status: watch::Receiver<Status>,
        proved: watch::Receiver<Option<Proved>>,
    ) -> Self {
        Self {
            queue,
            status,
            proved,
        }
    }

    /// Hands a command in, and waits while the queue is full. The answer comes through the receiver;
    /// if that closes without one, the owner has ended.
    pub async fn submit(
        &self,
        request: Request<C>,
    ) -> Result<oneshot::Receiver<Result<Answer, Refusal>>, Refusal> {
        match &*self.status.borrow() {
            Status::Ended(reason) => return Err(Refusal::Unavailable(reason.to_string())),
            Status::Standby => return Err(Refusal::NotOwner("it stands by".into())),
            Status::Leaving => return Err(Refusal::NotOwner("it leaves office".into())),
            Status::TakingOver(_) | Status::InOffice { .. } => {}
        }
        let (reply, answer) = oneshot::channel();
        match self.queue.send((request, reply)).await {
            Ok(()) => Ok(answer),
            Err(_) => Err(Refusal::Unavailable("the owner has ended".into())),
        }
    }

    /// What the owner knows of its log; nothing, before it has read a valid record.
    pub fn proved(&self) -> watch::Receiver<Option<Proved>> {
        self.proved.clone()
    }

    /// How the owner is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// What the machine's clock shows, right or wrong.
pub fn machine_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
