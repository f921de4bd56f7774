//! The history of a run: the attempts and completions of clients, and the leaderships that nodes claimed. The
//! checker judges a run by its history and its log.

use crate::machine::Invocation;
use journal::owner::{Answer, Refusal};
use schemas::{Origin, Timestamp};
use std::sync::{Mutex, MutexGuard};

/// One attempt of a client to send a command to a node.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub command: ClientCommand,
    pub node: usize,
    /// The end of the log when it was sent, as an offset.
    pub sent_end: i64,
    pub completion: Option<Completion>,
}

/// A command as its client keeps it, to send it again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClientCommand {
    pub id: [u8; 16],
    pub key: String,
    pub invocation: Invocation,
    pub origin: Origin,
    pub expected_version: Option<i64>,
    /// When the client created it. An attempt without a key has this time as its time of receipt. An attempt with a key
    /// has the time at which it is sent.
    pub created_at: Timestamp,
}

/// The completion of an attempt.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    /// The end of the log when it came, as an offset.
    pub end: i64,
    /// `None`: the node died, or the client stopped waiting.
    pub answer: Option<Result<Answer, Refusal>>,
}

/// A node claimed to serve.
#[derive(Debug, Clone)]
pub(super) struct Leadership {
    pub node: usize,
    pub epoch: i64,
    pub term: [u8; 16],
    pub since_ms: u64,
    /// The error of the node's clock at that time, in microseconds.
    pub clock_offset_us: i64,
}

/// The whole history.
#[derive(Default)]
pub(super) struct History {
    attempts: Mutex<Vec<Attempt>>,
    leaderships: Mutex<Vec<Leadership>>,
}

impl ClientCommand {
    /// The hash that a server would compute of the request's canonical form.
    pub fn hash(&self) -> [u8; 16] {
        let text = format!(
            "{} {:?} {:?}",
            self.key, self.invocation, self.expected_version
        );
        let hash = blake3::hash(text.as_bytes());
        *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}

impl History {
    /// Records the start of an attempt, and returns its index.
    pub fn send(&self, command: ClientCommand, node: usize, sent_end: i64) -> usize {
        let mut attempts = self.attempts();
        attempts.push(Attempt {
            command,
            node,
            sent_end,
            completion: None,
        });
        attempts.len() - 1
    }

    pub fn complete(&self, attempt: usize, completion: Completion) {
        self.attempts()[attempt].completion = Some(completion);
    }

    pub fn record_leadership(&self, leadership: Leadership) {
        self.leaderships
            .lock()
            .expect("no holder panics")
            .push(leadership);
    }

    pub fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().expect("no holder panics")
    }

    pub fn leaderships(&self) -> Vec<Leadership> {
        self.leaderships.lock().expect("no holder panics").clone()
    }
}
