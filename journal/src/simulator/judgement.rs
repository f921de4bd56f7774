//! Judges a run by its log, by what clients heard and by what readers saw. It knows the rule and the
//! business, and none of the owner's code.

use super::{
    book::{Attempt, Book, Heard, Order},
    broker::{Kept, PARTITION},
    chaos::WRONG_CLOCK_US,
    reading::Seen,
    tally::Happening,
    truth::{Decided, Step, Truth, comes_to},
    world::World,
};
use crate::owner::{Answer, Refusal};
use schemas::{Origin, Outcome, catalog::Event};
use std::collections::BTreeMap;

/// How long a keyed command's answer is kept, in log time.
const KEYED_US: i64 = 24 * 60 * 60 * 1_000_000;
/// How quickly an announcement must have landed and been read for the clock behind it to be judged.
const PROMPT_MS: u64 = 4_000;

/// A run, to be judged.
pub(super) struct Judgement<'a> {
    world: &'a World,
    truth: &'a Truth,
    attempts: Vec<Attempt>,
    /// Valid decisions by command id, in order.
    decided: BTreeMap<[u8; 16], Vec<&'a Decided>>,
}

impl<'a> Judgement<'a> {
    pub fn new(world: &'a World, truth: &'a Truth, book: &Book) -> Self {
        let mut decided: BTreeMap<[u8; 16], Vec<&Decided>> = BTreeMap::new();
        for one in &truth.decisions {
            decided
                .entry(one.decision.command_id)
                .or_default()
                .push(one);
        }
        Self {
            world,
            truth,
            attempts: book.attempts().clone(),
            decided,
        }
    }

    /// The log in itself: gapless versions, each decision on the state before it, each command once.
    pub fn judge_log(&self) {
        for fault in &self.truth.faults {
            self.world.violate(fault.clone());
        }
        for one in &self.truth.decisions {
            if let Err(fault) = self.judge_decision(one) {
                let offset = one.offset;
                self.world.violate(format!("@{offset}, valid: {fault}"));
            }
        }
        for decided in self.decided.values() {
            self.judge_repetition(decided);
        }
    }

    fn judge_decision(&self, one: &Decided) -> Result<(), String> {
        let decision = &one.decision;
        let mut sent = self.attempts.iter().filter(|attempt| {
            attempt.order.id == decision.command_id && attempt.order.hash() == decision.command_hash
        });
        let Some(first) = sent.next() else {
            return Err("nobody asked for it".into());
        };
        let order = &first.order;
        if one.offset < first.sent_end {
            return Err("it is older than its command".into());
        }
        if order.key != one.key || order.origin != decision.origin {
            return Err(format!("it is not what was asked: {order:?}"));
        }
        if let Some(expected) = order.expected_version
            && expected != decision.version
        {
            let version = decision.version;
            return Err(format!("version {expected} was expected, it was {version}"));
        }
        let prices = decision.events.iter().filter_map(|event| match event {
            Event::ProductPriceChanged(change) => Some(change.new.amount),
            Event::ProductCreated(_) => None,
        });
        let found: Result<Vec<i64>, &str> = match &decision.outcome {
            None => Ok(prices.collect()),
            Some(outcome) => Err(outcome.code.as_str()),
        };
        let right = comes_to(&order.ask, one.before);
        match found == right {
            true => Ok(()),
            false => Err(format!(
                "{order:?} at price {:?} gave {found:?}",
                one.before
            )),
        }
    }

    /// The same command may be decided again once its answer has expired.
    fn judge_repetition(&self, decided: &[&Decided]) {
        for pair in decided.windows(2) {
            let [first, second] = pair else { continue };
            let age_us = self.truth.log_time(second.offset) - first.recorded_at;
            if first.decision.origin == Origin::Keyed && age_us > KEYED_US {
                self.world.count(Happening::ExpiredId);
                continue;
            }
            let (one, other) = (first.offset, second.offset);
            self.world.violate(format!(
                "@{one} and @{other} are the same command, decided twice"
            ));
        }
    }

    /// Every answer: true, and possible between question and answer.
    pub fn judge_answers(&self) {
        for (number, attempt) in self.attempts.iter().enumerate() {
            let Some(heard) = &attempt.heard else {
                self.world.violate(format!("attempt #{number} has no end"));
                continue;
            };
            let judged = match &heard.answer {
                None => Ok(()),
                Some(Ok(answer)) => self.judge_answer(number, attempt, heard, answer),
                Some(Err(refusal)) => self.judge_refusal(attempt, heard, refusal),
            };
            if let Err(fault) = judged {
                let (order, node) = (&attempt.order, attempt.node);
                self.world.violate(format!(
                    "attempt #{number} at node {node}: {fault}; asked {order:?}, heard {:?}",
                    heard.answer
                ));
            }
        }
    }

    fn judge_answer(
        &self,
        number: usize,
        attempt: &Attempt,
        heard: &Heard,
        answer: &Answer,
    ) -> Result<(), String> {
        let order = &attempt.order;
        let own = self.of(order).find(|one| one.offset == answer.offset);
        if let Some(own) = own {
            if own.offset >= heard.end {
                return Err("it was given before its commit was in the log".into());
            }
            let mut right = answer_of(own);
            right.replayed = answer.replayed;
            if right != *answer {
                return Err(format!("the log gives {right:?}"));
            }
            if answer.replayed && !self.was_sent_twice(number, attempt, heard) {
                return Err("it was called a repetition, and is none".into());
            }
            return Ok(());
        }
        if order.origin != Origin::Server || answer.outcome.is_none() {
            return Err("the answer stands nowhere in the log".into());
        }
        if answer.offset >= heard.end {
            return Err("it names an offset that the log did not have".into());
        }
        let is_right = |step: &Step| {
            let code = comes_to(&order.ask, step.price).err();
            let found = answer.outcome.as_ref().map(|outcome| outcome.code.as_str());
            step.version == answer.version && code == found
        };
        // Whoever has read up to the answer's offset has read all that it rests on.
        let steps = self
            .truth
            .between(&order.key, attempt.sent_end, answer.offset + 1);
        match answer.partition == PARTITION && steps.iter().any(is_right) {
            true => Ok(()),
            false => Err("it was never so between question and answer".into()),
        }
    }

    /// Whether the same command was sent another time before this answer came.
    fn was_sent_twice(&self, number: usize, attempt: &Attempt, heard: &Heard) -> bool {
        let others = self.attempts.iter().enumerate();
        others
            .filter(|(other, _)| *other != number)
            .any(|(_, other)| other.order == attempt.order && other.sent_end <= heard.end)
    }

    fn judge_refusal(
        &self,
        attempt: &Attempt,
        heard: &Heard,
        refusal: &Refusal,
    ) -> Result<(), String> {
        let order = &attempt.order;
        match refusal {
            Refusal::NotOwner(_) | Refusal::Unavailable(_) => Ok(()),
            Refusal::Busy(_) | Refusal::TooLarge { .. } | Refusal::Unencodable(_) => {
                Err("nothing here is so large or so many".into())
            }
            Refusal::KeyReused => {
                let mut decided = self.decided.get(&order.id).into_iter().flatten();
                let is_other = |one: &&&Decided| {
                    one.decision.command_hash != order.hash() && one.offset < heard.end
                };
                match decided.any(|one| is_other(&one)) {
                    true => Ok(()),
                    false => Err("no other command had its id".into()),
                }
            }
            Refusal::VersionMismatch { current, expected } => {
                let steps = self.truth.between(&order.key, attempt.sent_end, heard.end);
                if order.expected_version != Some(*expected) || expected == current {
                    return Err("that was not expected".into());
                }
                if !steps.iter().any(|step| step.version == *current) {
                    return Err("that was never the version between question and answer".into());
                }
                let log_time = self.truth.log_time(heard.end);
                let is_known = |one: &&Decided| {
                    one.offset < attempt.sent_end && log_time - one.recorded_at <= KEYED_US
                };
                match self.of(order).any(|one| is_known(&one)) {
                    true => Err("it was accepted before".into()),
                    false => Ok(()),
                }
            }
        }
    }

    /// The valid decisions of a command.
    fn of(&self, order: &Order) -> impl Iterator<Item = &'a Decided> {
        let hash = order.hash();
        let decided = self.decided.get(&order.id).into_iter().flatten();
        decided
            .copied()
            .filter(move |one| one.decision.command_hash == hash)
    }

    /// Log time is never ahead of the broker's clock, whatever the owners' clocks show: so no answer
    /// expires too early.
    pub fn judge_log_time(&self, records: &[Kept]) {
        for (offset, commit) in &self.truth.valid {
            let kept = &records[usize::try_from(*offset).expect("offsets are not below 0")];
            let ahead_us = commit.recorded_at.0 - (kept.stamp_ms + 1) * 1_000;
            if commit.seq > 0 && ahead_us > 0 {
                self.world.violate(format!(
                    "@{offset} bears a time that is {ahead_us} us ahead of the broker's"
                ));
            }
        }
    }

    /// Who was in office had announced it validly, with a clock that could be trusted.
    pub fn judge_offices(&self, book: &Book, records: &[Kept]) {
        for office in book.offices() {
            let (node, epoch) = (office.node, office.epoch);
            let announcement = self.truth.announcements.get(&epoch);
            let Some((offset, _)) = announcement.filter(|(_, term)| *term == office.term) else {
                self.world.violate(format!(
                    "node {node} served in epoch {epoch} without office"
                ));
                continue;
            };
            let kept = &records[usize::try_from(*offset).expect("offsets are not below 0")];
            let is_prompt = kept.landed_ms - kept.handed_ms < PROMPT_MS
                && office.since_ms.saturating_sub(kept.landed_ms) < PROMPT_MS;
            // A clock that was set meanwhile is judged by what it shows at last.
            let offset_us = office.clock_offset_us;
            if is_prompt && offset_us.abs() >= WRONG_CLOCK_US && offset_us == kept.clock_offset_us {
                self.world.violate(format!(
                    "node {node} serves with its clock off by {offset_us} us"
                ));
            }
        }
    }

    /// A reader saw what is valid, all of it, and nothing else.
    pub fn judge_reader(&self, name: &str, seen: &Seen) {
        if let Some(reason) = &seen.halted {
            self.world.violate(format!("{name} halted: {reason}"));
            return;
        }
        let from = seen.start.next_offset;
        let found = seen
            .commits
            .iter()
            .map(|valid| (valid.offset, &valid.commit));
        let right = self
            .truth
            .valid
            .range(from..)
            .map(|(offset, commit)| (*offset, commit));
        if !found.eq(right) {
            self.world
                .violate(format!("{name} did not see what is valid from {from} on"));
        }
        for checkpoint in &seen.checkpoints {
            let index = usize::try_from(checkpoint.next_offset).unwrap_or(usize::MAX);
            if self.truth.states.get(index) != Some(checkpoint) {
                let offset = checkpoint.next_offset;
                self.world
                    .violate(format!("{name} has another checkpoint at {offset}"));
            }
        }
        let end = seen.checkpoints.last().map(|last| last.next_offset);
        let right = self.truth.states.last().map(|last| last.next_offset);
        if end != right || (from == 0 && seen.void != self.truth.void) {
            self.world
                .violate(format!("{name} did not read to the end"));
        }
    }
}

/// The answer that a decision stands for.
pub(super) fn answer_of(one: &Decided) -> Answer {
    let decision = &one.decision;
    let events = decision.events.len();
    let outcome: Option<Outcome> = decision.outcome.clone();
    Answer {
        partition: PARTITION,
        offset: one.offset,
        version: decision.version + i64::try_from(events).expect("few events"),
        events,
        outcome,
        replayed: false,
    }
}
