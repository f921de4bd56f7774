//! The owner's protocol without I/O: what to append, and when an answer is proved.
//!
//! **Proved.** Kafka has no conditional append; contiguity is its place-holder. A commit is proved
//! iff its predecessor in this term is proved (or is the announcement) and its offset is exactly the
//! predecessor's + 1: then nothing came between, so no other owner's announcement did, and by the
//! void rule the commit is valid. Anything else that a delivery report may say is an unknown outcome
//! and ends in a [`Barrier`].
//!
//! **Barrier.** Stop, announce the next epoch, read the log up to that announcement. Whatever stands
//! before it by the rule is valid, everything else of the old term is void for ever: so each pending
//! command is either answered from the log or decided again.
//!
//! **Speculation.** Commands are decided on an overlay of appended but unproved commits; a barrier
//! drops it whole.

mod decide;
mod office;
mod proof;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod time_tests;

use super::{
    request::{Answer, Machine, Refusal, Request},
    tables::{Aggregate, Tables, UNSAVED_MAX},
};
use crate::{
    checkpoint::Checkpoint,
    protocol::{Protocol, Sound},
    reader::{Batch, Valid},
    rule::Hash,
    store::{MakeChanges, StateStore, StoreError},
};
use foldhash::HashMap;
use kafka::Encoder;
use schemas::{Outcome, Timestamp, ids::CommandId};
use std::{collections::VecDeque, marker::PhantomData, sync::Arc};

/// How often a command is decided again after a barrier before its client is told to come back.
pub const TRIES_MAX: u32 = 3;
/// Most commands of one aggregate without an answer: half of a partition's, so that one that
/// everybody wants leaves room for the others.
pub const UNANSWERED_OF_AGGREGATE_MAX: usize = 2_048;
/// Most bytes of records without a report.
const UNPROVED_BYTES_MAX: usize = 24 << 20;

/// A record to append.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its report will bear this number.
    pub number: u64,
    /// The record's key.
    pub key: Arc<str>,
    /// The record's value, in wire form.
    pub value: Vec<u8>,
    /// For other tools: the term.
    pub term: [u8; 16],
    /// For other tools: the place in the term.
    pub seq: i64,
    /// For other tools: log time.
    pub recorded_at: Timestamp,
    /// For other tools: W3C trace context.
    pub traceparent: Option<String>,
}

/// The outcome of an append is unknown: take over again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("barrier: {reason}")]
pub struct Barrier {
    /// What the delivery report said.
    pub reason: String,
}

/// What a partition's owner did that nobody sees from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// No-ops appended.
    pub no_ops: u64,
    /// Commands decided again behind a barrier.
    pub decided_again: u64,
    /// Commands that joined the same one under way.
    pub joined: u64,
}

/// One partition's owner. `R` is where an answer goes.
pub struct Core<M: Machine, R, P: Protocol = Sound> {
    topic: &'static str,
    encoder: Encoder,
    tables: Tables<M>,
    /// Why the state store can't be used any more.
    broken: Option<StoreError>,
    /// The rule's state after the last record that is read or proved.
    proved: Checkpoint,
    /// The own term, once its announcement was read; `None` while out of office.
    office: Option<Head>,
    /// The announcement under way and its epoch: kept, for it is sent again as it is.
    announced: Option<(i64, Outgoing)>,
    pending: VecDeque<Pending<M, R>>,
    /// Seqs of the commits under way, by command.
    under_way: HashMap<CommandId, i64>,
    /// The last commit under way of an aggregate, by seq, and what it comes to.
    overlay: HashMap<Arc<str>, (i64, Shared<M>)>,
    /// Commands without an answer, by aggregate.
    of_aggregate: HashMap<Arc<str>, usize>,
    unanswered: usize,
    unproved_bytes: usize,
    /// Answers that wait for a proof that this owner is still in office.
    waiting: VecDeque<Waiting<M, R>>,
    /// What a barrier left to be decided again, in order.
    again: VecDeque<Asked<M, R>>,
    appends: Vec<Outgoing>,
    replies: Vec<(R, Result<Answer, Refusal>)>,
    next_number: u64,
    counts: Counts,
    protocol: PhantomData<P>,
}

/// An aggregate that several have hold of.
type Shared<M> = Arc<Aggregate<<M as Machine>::State>>;

/// The end of the own term as appended, proved or not.
struct Head {
    term: [u8; 16],
    epoch: i64,
    seq: i64,
    hash: Hash,
    log_time: Timestamp,
    /// When the term began.
    since: Timestamp,
}

/// A command, and who waits for its answer.
struct Asked<M: Machine, R> {
    key: Arc<str>,
    request: Request<M::Command>,
    reply: R,
    /// Those who asked the same while it was under way.
    joined: Vec<R>,
    tries: u32,
    /// Whether this owner appended a decision of it that a barrier left without proof.
    was_appended: bool,
}

/// A command with what it came to.
struct Decided<M: Machine, R> {
    asked: Asked<M, R>,
    /// The aggregate's version after it.
    version: i64,
    /// How many events were recorded.
    events: usize,
    outcome: Option<Outcome>,
    /// The aggregate after it; `None` if it did not change.
    after: Option<Shared<M>>,
}

/// An appended commit without proof.
struct Pending<M: Machine, R> {
    number: u64,
    seq: i64,
    /// The chain's hash after it.
    hash: Hash,
    recorded_at: Timestamp,
    bytes: usize,
    /// `None`: a no-op.
    decided: Option<Decided<M, R>>,
}

/// An answer without a commit of its own.
struct Waiting<M: Machine, R> {
    /// Given once this record of the term is proved.
    seq: i64,
    asked: Asked<M, R>,
    answer: Result<Answer, Refusal>,
    /// Whether it is the answer of a commit that the log has.
    is_recorded: bool,
}

impl<M: Machine, R, P: Protocol> Core<M, R, P> {
    /// An owner out of office that has read nothing, and has not looked into its store.
    pub fn new(
        machine: M,
        topic: &'static str,
        partition: i32,
        encoder: Encoder,
        store: Arc<dyn StateStore>,
    ) -> Self {
        Self {
            topic,
            encoder,
            tables: Tables::new(machine, partition, store),
            broken: None,
            proved: Checkpoint::start(topic, partition),
            office: None,
            announced: None,
            pending: VecDeque::new(),
            under_way: HashMap::default(),
            overlay: HashMap::default(),
            of_aggregate: HashMap::default(),
            unanswered: 0,
            unproved_bytes: 0,
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            appends: Vec::new(),
            replies: Vec::new(),
            next_number: 0,
            counts: Counts::default(),
            protocol: PhantomData,
        }
    }

    /// Out of office: goes on from what the store has. Whether the log still is the one that the
    /// store was made from, reading shows.
    pub fn restore(&mut self) -> Result<(), StoreError> {
        let partition = self.proved.partition;
        self.broken = None;
        let restored = self.tables.restore(self.topic)?;
        self.proved = restored.unwrap_or_else(|| Checkpoint::start(self.topic, partition));
        if P::CHECKPOINT_WITHOUT_EPOCH {
            (self.proved.epoch, self.proved.term, self.proved.seq) = (0, [0; 16], 0);
        }
        Ok(())
    }

    /// Out of office: begins with nothing, and empties the store.
    pub fn start_over(&mut self) -> Result<(), StoreError> {
        self.tables.clear()?;
        self.broken = None;
        self.proved = Checkpoint::start(self.topic, self.proved.partition);
        Ok(())
    }

    /// Why the state store can't be read any more, if so: [`Core::leave_office`], then
    /// [`Core::start_over`].
    pub fn broken(&self) -> Option<&StoreError> {
        self.broken.as_ref()
    }

    /// The store does not have what it should.
    pub fn lose_store(&mut self, error: StoreError) {
        self.broken = Some(error);
    }

    /// What is to be written to [`Core::store`] now; the outcome goes to [`Core::is_saved`]. `None` if
    /// there is nothing, or an earlier write is under way.
    pub fn save(&mut self) -> Option<MakeChanges> {
        self.tables.save(&self.proved)
    }

    /// Hears what became of the last write.
    pub fn is_saved(&mut self, written: bool) {
        self.tables.is_saved(written);
    }

    /// The state store.
    pub fn store(&self) -> Arc<dyn StateStore> {
        self.tables.store()
    }

    /// Commits that are not in the state store.
    pub fn unsaved(&self) -> usize {
        self.tables.unsaved()
    }

    /// Whether so many commits are not in the state store that no command should come on top.
    pub fn is_behind_with_saving(&self) -> bool {
        self.tables.unsaved() >= UNSAVED_MAX
    }

    /// Whether a command may be submitted.
    pub fn has_room(&self, unanswered_max: usize) -> bool {
        self.unanswered < unanswered_max
            && self.unproved_bytes < UNPROVED_BYTES_MAX
            && !self.is_behind_with_saving()
    }

    /// Where reading goes on.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.proved
    }

    /// Commits appended but not yet proved.
    pub fn unproved(&self) -> usize {
        self.pending.len()
    }

    /// The id of the trace that the first commit without a proof is of.
    pub fn first_unproved_trace(&self) -> Option<&str> {
        let mut decided = self
            .pending
            .iter()
            .filter_map(|pending| pending.decided.as_ref());
        decided.next()?.asked.request.trace_id()
    }

    /// Commands that have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether it may append.
    pub fn in_office(&self) -> bool {
        self.office.is_some()
    }

    /// The records to append since the last call, in order.
    pub fn take_appends(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.appends)
    }

    /// The answers since the last call.
    pub fn take_replies(&mut self) -> Vec<(R, Result<Answer, Refusal>)> {
        std::mem::take(&mut self.replies)
    }

    /// What it did since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Takes in what was read of the log. Not in office: an owner does not read its own commits.
    ///
    /// # Errors
    /// The state store can't be read; [`Core::start_over`].
    pub fn read(&mut self, batch: &Batch<M::Event>) -> Result<(), StoreError> {
        let before = (self.proved.epoch, self.proved.term);
        for valid in &batch.commits {
            let is_foreign = (valid.commit.epoch, valid.commit.term) != before;
            if P::BARRIER_ABOVE_FOREIGN_TERM && is_foreign && !self.again.is_empty() {
                continue;
            }
            self.read_one(valid)?;
        }
        self.proved = batch.checkpoint.clone();
        Ok(())
    }

    fn read_one(&mut self, valid: &Valid<M::Event>) -> Result<(), StoreError> {
        let Some(decision) = valid.decision() else {
            return Ok(());
        };
        let (key, recorded_at) = (valid.key_text(), valid.commit.recorded_at);
        let folded = self
            .tables
            .fold::<P>(&key, valid.offset, recorded_at, decision);
        folded.inspect_err(|error| self.broken = Some(error.clone()))
    }

    /// Turns everyone away who waits.
    pub fn refuse_all(&mut self, refusal: &Refusal) {
        self.leave_office();
        for asked in std::mem::take(&mut self.again) {
            self.reply(asked, Err(refusal.clone()));
        }
    }

    /// Takes a command. Out of office it waits to be decided.
    pub fn submit(&mut self, request: Request<M::Command>, reply: R, now: Timestamp) {
        let key: Arc<str> = request.key.as_str().into();
        let of_aggregate = self.of_aggregate.entry(key.clone()).or_default();
        *of_aggregate += 1;
        self.unanswered += 1;
        let is_busy = *of_aggregate > UNANSWERED_OF_AGGREGATE_MAX;
        let asked = Asked {
            key,
            request,
            reply,
            joined: Vec::new(),
            tries: 0,
            was_appended: false,
        };
        if is_busy {
            let reason = format!("{UNANSWERED_OF_AGGREGATE_MAX} commands of one aggregate wait");
            return self.reply(asked, Err(Refusal::Busy(reason)));
        }
        match self.office {
            Some(_) => self.decide(asked, now),
            None => self.again.push_back(asked),
        }
    }

    /// Makes sure that whoever waits for a proof gets one: appends a no-op that they share, unless a
    /// commit that came after them is under way already. Call it after each run of
    /// [`Core::submit`].
    pub fn settle(&mut self, now: Timestamp) {
        let Some(head) = &self.office else { return };
        let head_seq = head.seq;
        if self
            .waiting
            .back()
            .is_some_and(|waiting| waiting.seq > head_seq)
        {
            // A no-op is some 80 bytes of our own making.
            self.append_no_op(now).expect("a no-op can be encoded");
        }
    }
}
