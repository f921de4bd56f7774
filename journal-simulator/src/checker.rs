//! Checks a run by its log, by the completions of clients and by the observations of readers. The checker uses
//! the void rule and the counters, but no code of the owner.

use crate::{
    broker::PARTITION,
    coverage::CoveragePoint,
    faults::WRONG_CLOCK_US,
    history::{Attempt, ClientCommand, Completion, History},
    reader_task::Observed,
    record::StoredRecord,
    reference_model::{Decided, ReferenceModel, Step, right_result},
    sim::Sim,
};
use journal::{
    owner::{Answer, Refusal},
    probe::Event,
};
use schemas::{Origin, Outcome};
use std::collections::BTreeMap;

/// How long a keyed command's answer is kept, in microseconds of log time.
const KEYED_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Maximum time until an announcement has landed and was read, for the checker to judge the clock of the
/// announcement's owner.
const PROMPT_MS: u64 = 4_000;

/// A run to check.
pub(super) struct Checker<'a> {
    sim: &'a Sim,
    model: &'a ReferenceModel,
    attempts: Vec<Attempt>,
    /// Valid decisions by command id, in the order of the log.
    decided: BTreeMap<[u8; 16], Vec<&'a Decided>>,
}

impl<'a> Checker<'a> {
    pub fn new(sim: &'a Sim, model: &'a ReferenceModel, history: &History) -> Self {
        let mut decided: BTreeMap<[u8; 16], Vec<&Decided>> = BTreeMap::new();
        for one in &model.decisions {
            decided
                .entry(one.decision.command_id)
                .or_default()
                .push(one);
        }
        Self {
            sim,
            model,
            attempts: history.attempts().clone(),
            decided,
        }
    }

    /// Checks the log itself: versions have no gap, each decision follows from the state before it, and each command
    /// is decided once.
    pub fn check_log(&self) {
        for fault in &self.model.violations {
            self.sim.violate(fault.clone());
        }
        for one in &self.model.decisions {
            if let Err(fault) = self.check_decision(one) {
                let offset = one.offset;
                self.sim.violate(format!("@{offset}, valid: {fault}"));
            }
        }
        for decided in self.decided.values() {
            self.check_repetition(decided);
        }
    }

    fn check_decision(&self, one: &Decided) -> Result<(), String> {
        let decision = &one.decision;
        let mut sent = self.attempts.iter().filter(|attempt| {
            attempt.command.id == decision.command_id
                && attempt.command.hash() == decision.command_hash
        });
        let Some(first) = sent.next() else {
            return Err("no client sent it".into());
        };
        let command = &first.command;
        if one.offset < first.sent_end {
            return Err("it is older than its command".into());
        }
        if command.key != one.key || command.origin != decision.origin {
            return Err(format!("it differs from the command: {command:?}"));
        }
        if let Some(expected) = command.expected_version
            && expected != decision.version
        {
            let version = decision.version;
            return Err(format!(
                "the command expected version {expected}, but was decided on {version}"
            ));
        }
        let values = decision.events.iter().filter_map(|event| match event {
            Event::CounterChanged(change) => Some(change.new),
            Event::Noted(_) => None,
        });
        let found: Result<Vec<i64>, &str> = match &decision.outcome {
            None => Ok(values.collect()),
            Some(outcome) => Err(outcome.code.as_str()),
        };
        let right = right_result(&command.invocation, one.before);
        match found == right {
            true => Ok(()),
            false => Err(format!("{command:?} at {:?} gave {found:?}", one.before)),
        }
    }

    /// The same command may be decided again only once its answer has expired.
    fn check_repetition(&self, decided: &[&Decided]) {
        for pair in decided.windows(2) {
            let [first, second] = pair else { continue };
            let age_us = self.model.log_time(second.offset) - first.recorded_at;
            if first.decision.origin == Origin::Keyed && age_us > KEYED_US {
                self.sim.count(CoveragePoint::ExpiredId);
                continue;
            }
            let (one, other) = (first.offset, second.offset);
            self.sim.violate(format!(
                "@{one} and @{other} are the same command, decided twice"
            ));
        }
    }

    /// Checks that every answer is correct, and was possible between invocation and completion.
    pub fn check_answers(&self) {
        for (number, attempt) in self.attempts.iter().enumerate() {
            let Some(completion) = &attempt.completion else {
                self.sim
                    .violate(format!("attempt #{number} has no completion"));
                continue;
            };
            let checked = match &completion.answer {
                None => Ok(()),
                Some(Ok(answer)) => self.check_answer(number, attempt, completion, answer),
                Some(Err(refusal)) => self.check_refusal(attempt, completion, refusal),
            };
            if let Err(fault) = checked {
                let (command, node) = (&attempt.command, attempt.node);
                self.sim.violate(format!(
                    "attempt #{number} at node {node}: {fault}; command {command:?}, completion {:?}",
                    completion.answer
                ));
            }
        }
    }

    fn check_answer(
        &self,
        number: usize,
        attempt: &Attempt,
        completion: &Completion,
        answer: &Answer,
    ) -> Result<(), String> {
        let command = &attempt.command;
        let own = self.of(command).find(|one| one.offset == answer.offset);
        if let Some(own) = own {
            if own.offset >= completion.end {
                return Err("it was given before its commit was in the log".into());
            }
            let mut right = answer_of(own);
            right.replayed = answer.replayed;
            if right != *answer {
                return Err(format!("the log gives {right:?}"));
            }
            if answer.replayed && !self.was_sent_twice(number, attempt, completion) {
                return Err("it is marked as replayed, but was sent once".into());
            }
            return Ok(());
        }
        if command.origin != Origin::Server || answer.outcome.is_none() {
            return Err("the log does not have the answer".into());
        }
        if answer.offset >= completion.end {
            return Err("it names an offset that the log did not have".into());
        }
        let is_right = |step: &Step| {
            let code = right_result(&command.invocation, step.value).err();
            let found = answer.outcome.as_ref().map(|outcome| outcome.code.as_str());
            step.version == answer.version && code == found
        };
        // A reader at the answer's offset has read all records that the answer depends on.
        let steps = self
            .model
            .between(&command.key, attempt.sent_end, answer.offset + 1);
        match answer.partition == PARTITION && steps.iter().any(is_right) {
            true => Ok(()),
            false => Err(
                "the answer was not correct at any time between invocation and completion".into(),
            ),
        }
    }

    /// Whether the same command was sent another time before this answer came.
    fn was_sent_twice(&self, number: usize, attempt: &Attempt, completion: &Completion) -> bool {
        let others = self.attempts.iter().enumerate();
        others
            .filter(|(other, _)| *other != number)
            .any(|(_, other)| other.command == attempt.command && other.sent_end <= completion.end)
    }

    fn check_refusal(
        &self,
        attempt: &Attempt,
        completion: &Completion,
        refusal: &Refusal,
    ) -> Result<(), String> {
        let command = &attempt.command;
        match refusal {
            Refusal::NotOwner(_) | Refusal::Unavailable(_) => Ok(()),
            Refusal::Busy(_) | Refusal::TooLarge { .. } | Refusal::Unencodable(_) => {
                Err("a run has few commands, and none of them is too large".into())
            }
            Refusal::Forbidden(_) if !self.sim.plan.refuses_access() => {
                Err("the brokers refused no record for access".into())
            }
            Refusal::Forbidden(_) => {
                let sent = self.attempts.iter();
                let times_sent = sent.filter(|other| other.command == *command).count();
                match times_sent == 1 && self.of(command).next().is_some() {
                    true => Err("the refused command had an effect".into()),
                    false => Ok(()),
                }
            }
            Refusal::KeyReused => {
                let mut decided = self.decided.get(&command.id).into_iter().flatten();
                let is_other = |one: &&&Decided| {
                    one.decision.command_hash != command.hash() && one.offset < completion.end
                };
                match decided.any(|one| is_other(&one)) {
                    true => Ok(()),
                    false => Err("no other command had its id".into()),
                }
            }
            Refusal::VersionMismatch { current, expected } => {
                let steps = self
                    .model
                    .between(&command.key, attempt.sent_end, completion.end);
                if command.expected_version != Some(*expected) || expected == current {
                    return Err("the client expected another version".into());
                }
                if !steps.iter().any(|step| step.version == *current) {
                    return Err(
                        "the aggregate did not have this version between invocation and completion"
                            .into(),
                    );
                }
                let log_time = self.model.log_time(completion.end);
                let is_known = |one: &&Decided| {
                    one.offset < attempt.sent_end && log_time - one.recorded_at <= KEYED_US
                };
                match self.of(command).any(|one| is_known(&one)) {
                    true => Err("the command was accepted before".into()),
                    false => Ok(()),
                }
            }
        }
    }

    /// The valid decisions of a command.
    fn of(&self, command: &ClientCommand) -> impl Iterator<Item = &'a Decided> {
        let hash = command.hash();
        let decided = self.decided.get(&command.id).into_iter().flatten();
        decided
            .copied()
            .filter(move |one| one.decision.command_hash == hash)
    }

    /// Checks that log time is never ahead of the broker's clock, even if an owner's clock is wrong. So no
    /// answer expires too early.
    pub fn check_log_time(&self, records: &[StoredRecord]) {
        for (offset, commit) in &self.model.valid {
            let record = &records[usize::try_from(*offset).expect("offsets are not below 0")];
            let ahead_us = commit.recorded_at.0 - (record.stamp_ms + 1) * 1_000;
            if commit.seq > 0 && ahead_us > 0 {
                self.sim.violate(format!(
                    "@{offset} has a time that is {ahead_us} us ahead of the broker's"
                ));
            }
        }
    }

    /// Checks that every serving owner had announced itself validly, and did not have a wrong clock.
    pub fn check_leaderships(&self, history: &History, records: &[StoredRecord]) {
        for leadership in history.leaderships() {
            let (node, epoch) = (leadership.node, leadership.epoch);
            let announcement = self.model.announcements.get(&epoch);
            let Some((offset, _)) = announcement.filter(|(_, term)| *term == leadership.term)
            else {
                self.sim.violate(format!(
                    "node {node} served in epoch {epoch} without a valid announcement"
                ));
                continue;
            };
            let record = &records[usize::try_from(*offset).expect("offsets are not below 0")];
            let is_prompt = record.landed_ms - record.handed_ms < PROMPT_MS
                && leadership.since_ms.saturating_sub(record.landed_ms) < PROMPT_MS;
            // A clock that was set meanwhile is judged by its last reading.
            let offset_us = leadership.clock_offset_us;
            if is_prompt && offset_us.abs() >= WRONG_CLOCK_US && offset_us == record.clock_offset_us
            {
                self.sim.violate(format!(
                    "node {node} serves with its clock off by {offset_us} us"
                ));
            }
        }
    }

    /// Checks that a reader observed all valid records and no other.
    pub fn check_reader(&self, name: &str, observed: &Observed) {
        if let Some(reason) = &observed.halted {
            self.sim.violate(format!("{name} halted: {reason}"));
            return;
        }
        let from = observed.start.next_offset;
        let found = observed
            .commits
            .iter()
            .map(|valid| (valid.offset, &valid.commit));
        let right = self
            .model
            .valid
            .range(from..)
            .map(|(offset, commit)| (*offset, commit));
        if !found.eq(right) {
            self.sim.violate(format!(
                "{name} did not observe exactly the valid records from {from} on"
            ));
        }
        for checkpoint in &observed.checkpoints {
            let index = usize::try_from(checkpoint.next_offset).unwrap_or(usize::MAX);
            if self.model.states.get(index) != Some(checkpoint) {
                let offset = checkpoint.next_offset;
                self.sim
                    .violate(format!("{name} has another checkpoint at {offset}"));
            }
        }
        let end = observed.checkpoints.last().map(|last| last.next_offset);
        let right = self.model.states.last().map(|last| last.next_offset);
        if end != right || (from == 0 && observed.void != self.model.void) {
            self.sim.violate(format!("{name} did not read to the end"));
        }
    }
}

/// The answer of a decision.
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
