//! What clients sent and heard, and who said to be in office: everything that a run is judged by,
//! beside its log.

use super::machine::Ask;
use crate::owner::{Answer, Refusal};
use schemas::{Origin, Timestamp};
use std::sync::{Mutex, MutexGuard};

/// One sending of a command to a node.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub order: Order,
    pub node: usize,
    /// The log's end when it was sent.
    pub sent_end: i64,
    pub heard: Option<Heard>,
}

/// A command as a client keeps it, to send it again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub id: [u8; 16],
    pub key: String,
    pub ask: Ask,
    pub origin: Origin,
    pub expected_version: Option<i64>,
    /// When it was made; a client that tries again is received anew, but only with a key of its own.
    pub made_at: Timestamp,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// The log's end when it came.
    pub end: i64,
    /// `None`: the node died, or the client went away.
    pub answer: Option<Result<Answer, Refusal>>,
}

/// A node said to be in office.
#[derive(Debug, Clone)]
pub(super) struct Office {
    pub node: usize,
    pub epoch: i64,
    pub term: [u8; 16],
    pub since_ms: u64,
    /// How far the node's clock was off then.
    pub clock_offset_us: i64,
}

/// All of it.
#[derive(Default)]
pub(super) struct Book {
    attempts: Mutex<Vec<Attempt>>,
    offices: Mutex<Vec<Office>>,
}

impl Order {
    /// What a server would make of the request's canonical form.
    pub fn hash(&self) -> [u8; 16] {
        let text = format!("{} {:?} {:?}", self.key, self.ask, self.expected_version);
        let hash = blake3::hash(text.as_bytes());
        *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}

impl Book {
    /// An attempt begins; gives its place.
    pub fn send(&self, order: Order, node: usize, sent_end: i64) -> usize {
        let mut attempts = self.attempts();
        attempts.push(Attempt {
            order,
            node,
            sent_end,
            heard: None,
        });
        attempts.len() - 1
    }

    pub fn hear(&self, attempt: usize, heard: Heard) {
        self.attempts()[attempt].heard = Some(heard);
    }

    pub fn take_office(&self, office: Office) {
        self.offices.lock().expect("no holder panics").push(office);
    }

    pub fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().expect("no holder panics")
    }

    pub fn offices(&self) -> Vec<Office> {
        self.offices.lock().expect("no holder panics").clone()
    }
}
