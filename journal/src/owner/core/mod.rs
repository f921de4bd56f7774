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
#[cfg(test)]
mod tests;

use super::{
    request::{Answer, Machine, Refusal, Request},
    tables::{Aggregate, Tables},
};
use crate::{
    checkpoint::Checkpoint,
    reader::{Batch, Valid},
    rule::{Hash, RULE_VERSION},
};
use kafka::{Encoder, Report};
use schemas::{Announcement, Body, Commit, Decision, NoOp, Timestamp, ids::CommandId};
use std::collections::{HashMap, VecDeque};

/// How often a command is decided again after a barrier before its client is told to come back.
pub const TRIES_MAX: u32 = 3;

/// A record to append.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its report will bear this number.
    pub number: u64,
    /// The record's key.
    pub key: String,
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

/// One partition's owner. `R` is where an answer goes.
pub struct Core<M: Machine, R> {
    topic: &'static str,
    encoder: Encoder,
    tables: Tables<M>,
    /// The rule's state after the last record that is read or proved.
    proved: Checkpoint,
    /// The own term, once its announcement was read; `None` while out of office.
    office: Option<Head>,
    /// The announcement under way and its epoch: kept, for it is sent again as it is.
    announced: Option<(i64, Outgoing)>,
    pending: VecDeque<Pending<M, R>>,
    /// Seqs of the commits under way, by command.
    under_way: HashMap<CommandId, i64>,
    overlay: HashMap<String, (i64, Aggregate<M::State>)>,
    /// Answers that wait for a proof that this owner is still in office.
    waiting: VecDeque<Waiting<M, R>>,
    /// What a barrier left to be decided again, in order.
    again: VecDeque<Asked<M, R>>,
    appends: Vec<Outgoing>,
    replies: Vec<(R, Result<Answer, Refusal>)>,
    next_number: u64,
}

/// The end of the own term as appended, proved or not.
struct Head {
    term: [u8; 16],
    epoch: i64,
    seq: i64,
    hash: Hash,
    log_time: Timestamp,
}

/// A command, and who waits for its answer.
struct Asked<M: Machine, R> {
    request: Request<M::Command>,
    replies: Vec<R>,
    tries: u32,
}

/// A command with what it came to.
type Decided<M, R> = (Asked<M, R>, Decision<<M as Machine>::Event>);

/// An appended commit without proof.
struct Pending<M: Machine, R> {
    number: u64,
    seq: i64,
    /// The chain's hash after it.
    hash: Hash,
    recorded_at: Timestamp,
    /// `None`: a no-op.
    decided: Option<Decided<M, R>>,
}

/// An answer without a commit of its own.
struct Waiting<M: Machine, R> {
    /// Given once this record of the term is proved.
    seq: i64,
    asked: Asked<M, R>,
    answer: Result<Answer, Refusal>,
}

impl<M: Machine, R> Core<M, R> {
    /// An owner out of office that has read nothing.
    pub fn new(machine: M, topic: &'static str, partition: i32, encoder: Encoder) -> Self {
        Self {
            topic,
            encoder,
            tables: Tables::new(machine, partition),
            proved: Checkpoint::start(topic, partition),
            office: None,
            announced: None,
            pending: VecDeque::new(),
            under_way: HashMap::new(),
            overlay: HashMap::new(),
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            appends: Vec::new(),
            replies: Vec::new(),
            next_number: 0,
        }
    }

    /// Where reading goes on.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.proved
    }

    /// Commits appended but not yet proved.
    pub fn unproved(&self) -> usize {
        self.pending.len()
    }

    /// Commands that have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.pending.len() + self.waiting.len() + self.again.len()
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

    /// Takes in what was read of the log. Not in office: an owner does not read its own commits.
    pub fn read(&mut self, batch: &Batch<M::Event>) {
        for valid in &batch.commits {
            self.read_one(valid);
        }
        self.proved = batch.checkpoint.clone();
    }

    fn read_one(&mut self, valid: &Valid<M::Event>) {
        if let Some(decision) = valid.decision() {
            let key = valid.key_text();
            self.tables
                .take(&key, valid.offset, valid.commit.recorded_at, decision);
        }
    }

    /// The announcement of a new term after everything read; again the same until it was read as
    /// valid or the log went on without it. `term` must be fresh.
    pub fn announce(
        &mut self,
        owner_url: &str,
        partitions: i32,
        term: [u8; 16],
        now: Timestamp,
    ) -> Result<Outgoing, Refusal> {
        if let Some((_, announced)) = &self.announced {
            return Ok(announced.clone());
        }
        let epoch = self.proved.epoch + 1;
        let commit = Commit::<M::Event> {
            prev: [0; 32],
            term,
            epoch,
            seq: 0,
            recorded_at: now.max(self.proved.log_time),
            body: Body::Announcement(Announcement {
                rule_version: RULE_VERSION,
                partitions,
                owner_url: owner_url.to_owned(),
            }),
        };
        let outgoing = self.outgoing(String::new(), &commit, None)?;
        self.announced = Some((epoch, outgoing.clone()));
        Ok(outgoing)
    }

    /// Whether the last announcement read is the own one.
    pub fn announced_is_read(&self) -> bool {
        self.announced
            .as_ref()
            .is_some_and(|(_, own)| own.term == self.proved.term)
    }

    /// Forgets the announcement under way if it can't become valid any more, for another one took
    /// its epoch. The next one gets a new epoch and needs a fresh term.
    pub fn announcement_is_lost(&mut self) -> bool {
        let lost = self.announced.as_ref().is_some_and(|(epoch, own)| {
            *epoch <= self.proved.epoch && own.term != self.proved.term
        });
        if lost {
            self.announced = None;
        }
        lost
    }

    /// Takes office: the own announcement was read. What a barrier left is decided again.
    ///
    /// # Panics
    /// If the own announcement was not the last record read.
    pub fn take_office(&mut self, now: Timestamp) {
        assert!(
            self.announced_is_read() && self.proved.seq == 0,
            "no announcement of ours was read"
        );
        self.announced = None;
        self.office = Some(Head {
            term: self.proved.term,
            epoch: self.proved.epoch,
            seq: 0,
            hash: self.proved.hash,
            log_time: self.proved.log_time,
        });
        for asked in std::mem::take(&mut self.again) {
            self.decide(asked, now);
        }
        self.settle(now);
    }

    /// Leaves office: nothing is appended any more, and all that is unanswered is kept to be decided
    /// again. The overlay goes.
    pub fn leave_office(&mut self) {
        self.office = None;
        self.overlay.clear();
        self.under_way.clear();
        let pending = self.pending.drain(..).filter_map(|pending| pending.decided);
        let waiting = self.waiting.drain(..).map(|waiting| waiting.asked);
        // Those of `waiting` were decided on the pending ones, so they come after them.
        let unanswered: Vec<_> = pending.map(|(asked, _)| asked).chain(waiting).collect();
        for mut asked in unanswered {
            asked.tries += 1;
            if asked.tries > TRIES_MAX {
                let reason = format!("no proof after {TRIES_MAX} tries");
                self.reply(asked.replies, &Err(Refusal::Unavailable(reason)));
            } else {
                self.again.push_back(asked);
            }
        }
    }

    /// Turns everyone away who waits.
    pub fn refuse_all(&mut self, reason: &str) {
        self.leave_office();
        for asked in std::mem::take(&mut self.again) {
            self.reply(asked.replies, &Err(Refusal::Unavailable(reason.to_owned())));
        }
    }

    /// Takes a command. Out of office it waits to be decided.
    pub fn submit(&mut self, request: Request<M::Command>, reply: R, now: Timestamp) {
        let asked = Asked {
            request,
            replies: vec![reply],
            tries: 0,
        };
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
            self.append(String::new(), Body::NoOp(NoOp {}), None, now, None);
        }
    }

    /// Takes a delivery report.
    ///
    /// # Errors
    /// The outcome of this append is unknown: [`Core::leave_office`], and take over again.
    pub fn delivered(&mut self, report: &Report) -> Result<(), Barrier> {
        // Reports of an earlier term say nothing that the barrier did not settle.
        let Some(first) = self.pending.front() else {
            return Ok(());
        };
        if report.number < first.number {
            return Ok(());
        }
        let expected = self.proved.next_offset;
        let barrier = |reason| Err(Barrier { reason });
        match &report.result {
            _ if report.number != first.number => {
                let (found, first) = (report.number, first.number);
                barrier(format!("report {found} came before report {first}"))
            }
            Ok(offset) if *offset == expected => {
                self.prove(expected);
                Ok(())
            }
            Ok(offset) => barrier(format!("offset {offset} where {expected} would prove it")),
            Err(error) => barrier(error.to_string()),
        }
    }

    /// The first pending commit is valid and stands at `offset`.
    fn prove(&mut self, offset: i64) {
        let Some(pending) = self.pending.pop_front() else {
            return;
        };
        let proved = &mut self.proved;
        proved.prev_hash = std::mem::replace(&mut proved.hash, pending.hash);
        proved.seq = pending.seq;
        proved.probe_offset = Some(offset);
        proved.next_offset = offset + 1;
        proved.log_time = pending.recorded_at;
        if let Some((asked, decision)) = pending.decided {
            self.under_way.remove(&asked.request.id);
            let key = &asked.request.key;
            let answer = self
                .tables
                .take(key, offset, pending.recorded_at, &decision);
            if self
                .overlay
                .get(key)
                .is_some_and(|(seq, _)| *seq == pending.seq)
            {
                self.overlay.remove(key);
            }
            self.reply(asked.replies, &Ok(answer));
        }
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.seq <= pending.seq)
        {
            if let Some(mut waiting) = self.waiting.pop_front() {
                // Decided on commits that were under way: all of them stand before this record.
                if let Ok(answer) = &mut waiting.answer
                    && !answer.replayed
                    && answer.outcome.is_some()
                {
                    answer.offset = answer.offset.max(offset);
                }
                self.reply(waiting.asked.replies, &waiting.answer);
            }
        }
    }

    fn reply(&mut self, replies: Vec<R>, answer: &Result<Answer, Refusal>) {
        self.replies
            .extend(replies.into_iter().map(|reply| (reply, answer.clone())));
    }
}
