//! The handle to an owner: its queue and its status.

use super::{
    broker_clocks::BrokerClocks,
    process_limits::ProcessLimits,
    request::{Answer, Refusal, Request},
};
use crate::rule::Hash;
use schemas::{Timestamp, owners::ProvedRecord};
use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Receives an answer.
pub type Reply = oneshot::Sender<Result<Answer, Refusal>>;
/// A command, and the receiver of its answer.
pub(super) type Submission<C> = (Request<C>, Reply);

/// The status of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The partition is assigned to another node. Commands are refused.
    Standby,
    /// It does not serve at the moment, and keeps making attempts to take over. Commands wait.
    TakingOver(Reason),
    /// This node can't serve the partition. It refuses commands, and makes another attempt later.
    Declined {
        /// Why it can't.
        reason: Reason,
        /// The epoch of the last valid record that it knows.
        epoch: i64,
    },
    /// It serves.
    Serving {
        /// The term's number.
        epoch: i64,
        /// The term.
        term: [u8; 16],
    },
    /// It steps down: commands in flight still get their answers, and new ones are refused.
    SteppingDown,
    /// It has ended: the node shuts down, or the log can't be read further.
    Ended(Reason),
}

impl Status {
    /// The epoch and the term in which the owner serves; `None` if it does not serve.
    pub fn served_term(&self) -> Option<(i64, [u8; 16])> {
        match self {
            Self::Serving { epoch, term } => Some((*epoch, *term)),
            Self::Standby
            | Self::TakingOver(_)
            | Self::Declined { .. }
            | Self::SteppingDown
            | Self::Ended(_) => None,
        }
    }
}

/// Why an owner does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    text: String,
    suspects_this_node: bool,
}

impl Reason {
    /// A reason that may lie with this node alone: its clock, its version or its hash key. If another node serves the
    /// partition, it does lie with this node.
    pub fn suspecting_this_node(text: String) -> Self {
        Self {
            text,
            suspects_this_node: true,
        }
    }

    /// Whether another node may be able to serve.
    pub fn suspects_this_node(&self) -> bool {
        self.suspects_this_node
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self {
            text,
            suspects_this_node: false,
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

/// The log as its owner last saw it, some moments ago. It can only have grown since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proved {
    /// h(1), which names the log.
    pub log_id: Hash,
    /// The offset after the last record that was read or proved.
    pub next_offset: i64,
}

/// The settings of an owner, and the clocks and randomness of its node.
#[derive(Clone)]
pub struct OwnerSettings {
    /// The URL at which other nodes send commands to this one.
    pub owner_url: String,
    /// The number of partitions that the broker has of the journal's topic; announcements state it.
    pub partitions: i32,
    /// The node's clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A monotonic clock with any origin.
    pub uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// Returns a fresh random id.
    pub fresh_term: Arc<dyn Fn() -> [u8; 16] + Send + Sync>,
    /// The last record that any owner of the partition has published as proved, as far as this node knows. The
    /// owner does not write to a log without it.
    pub published: Arc<dyn Fn() -> Option<ProvedRecord> + Send + Sync>,
    /// Why this node must not take over the partition now, if there is a reason.
    pub objection: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// Fingerprint of the key that hashes the commands of this node; `None` if it is not known. The owner declines a
    /// partition whose state store was written with another key.
    pub hash_key: Option<Arc<str>>,
    /// The brokers' clocks, shared by all owners of the process.
    pub clocks: BrokerClocks,
    /// The limits that all owners of the process share.
    pub limits: ProcessLimits,
}

/// Takes commands for one partition.
pub struct OwnerHandle<C> {
    queue: mpsc::Sender<Submission<C>>,
    status: watch::Receiver<Status>,
    proved: watch::Receiver<Option<Proved>>,
    proved_record: watch::Receiver<Option<ProvedRecord>>,
}

impl OwnerSettings {
    /// Settings with the machine's clocks and randomness, for a node that knows no other node.
    pub fn new(owner_url: String, partitions: i32) -> Self {
        let started = Instant::now();
        Self {
            owner_url,
            partitions,
            clock: Arc::new(machine_clock),
            uptime: Arc::new(move || started.elapsed()),
            fresh_term: Arc::new(|| uuid::Uuid::new_v4().into_bytes()),
            published: Arc::new(|| None),
            objection: Arc::new(|| None),
            hash_key: None,
            clocks: BrokerClocks::default(),
            limits: ProcessLimits::default(),
        }
    }
}

impl<C> OwnerHandle<C> {
    pub(super) fn new(
        queue: mpsc::Sender<Submission<C>>,
        status: watch::Receiver<Status>,
        proved: watch::Receiver<Option<Proved>>,
        proved_record: watch::Receiver<Option<ProvedRecord>>,
    ) -> Self {
        Self {
            queue,
            status,
            proved,
            proved_record,
        }
    }

    /// Submits a command, and waits while the queue is full. The answer comes through the receiver; if the receiver
    /// closes without an answer, the owner has ended.
    ///
    /// # Errors
    /// [`Refusal`]: the owner does not take commands now, or has ended. The command had no effect.
    pub async fn submit(
        &self,
        request: Request<C>,
    ) -> Result<oneshot::Receiver<Result<Answer, Refusal>>, Refusal> {
        match &*self.status.borrow() {
            Status::Ended(reason) => return Err(Refusal::Unavailable(reason.to_string())),
            Status::Standby => {
                return Err(Refusal::NotOwner(
                    "the partition is assigned to another node".into(),
                ));
            }
            Status::Declined { reason, .. } => {
                return Err(Refusal::NotOwner(reason.to_string()));
            }
            Status::SteppingDown => {
                let reason = "this node is handing the partition over";
                return Err(Refusal::NotOwner(reason.into()));
            }
            Status::TakingOver(_) | Status::Serving { .. } => {}
        }
        let (reply, answer) = oneshot::channel();
        match self.queue.send((request, reply)).await {
            Ok(()) => Ok(answer),
            Err(_) => Err(Refusal::Unavailable("the owner has ended".into())),
        }
    }

    /// The log as the owner knows it; `None` before it has read a valid record.
    pub fn proved(&self) -> watch::Receiver<Option<Proved>> {
        self.proved.clone()
    }

    /// The last valid record that the owner knows, some moments ago; `None` before it has read one.
    pub fn proved_record(&self) -> Option<ProvedRecord> {
        *self.proved_record.borrow()
    }

    /// The owner's status, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// The machine's clock, which may be wrong.
pub fn machine_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
