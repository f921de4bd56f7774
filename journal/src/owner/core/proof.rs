//! Delivery reports: which commits they prove, and which commands are answered then.

use super::state::{Core, Decided, HeldAnswer, PendingCommand, Refusals, UnprovedCommit};
use crate::{
    owner::{
        entries::StoredAnswer,
        request::{Answer, Machine, Refusal},
    },
    protocol::{Barrier, OwnerProtocol, ReportSteps},
};
use kafka::{BrokerRule, Report, appender::AppendError};
use schemas::Timestamp;

impl<M: Machine, R, P: OwnerProtocol> Core<M, R, P> {
    /// Takes a delivery report.
    ///
    /// # Errors
    /// The outcome of this append is unknown: [`Core::stop_serving`], then take over again.
    pub fn delivered(&mut self, report: &Report) -> Result<(), Barrier> {
        // A report of an earlier term adds nothing to what the barrier found in the log.
        let is_of_this_term = self
            .unproved
            .front()
            .is_some_and(|first| report.number >= first.number);
        match is_of_this_term {
            true => P::take_report(self, report),
            false => Ok(()),
        }
    }

    /// Counts a definite refusal of the first unproved commit.
    fn count_refusal(&mut self, error: &AppendError) {
        let AppendError::Refused {
            rule: BrokerRule::Access,
            reason,
            ..
        } = error
        else {
            return;
        };
        let first = self.unproved.front_mut();
        if let Some(decided) = first.and_then(|first| first.decided.as_mut()) {
            let before = decided.command.refusals.take();
            decided.command.refusals = Some(Refusals {
                count: 1 + before.map_or(0, |before| before.count),
                reason: reason.clone(),
            });
        }
    }

    /// The first unproved commit is valid and has this offset.
    fn prove(&mut self, offset: i64) {
        let Some(proved_commit) = self.unproved.pop_front() else {
            return;
        };
        let UnprovedCommit {
            seq, recorded_at, ..
        } = proved_commit;
        let proved = &mut self.proved;
        proved.prev_hash = std::mem::replace(&mut proved.hash, proved_commit.hash);
        proved.seq = seq;
        proved.probe_offset = Some(offset);
        proved.next_offset = offset + 1;
        proved.log_time = recorded_at;
        self.unproved_bytes.remove(proved_commit.bytes);
        if let Some(decided) = proved_commit.decided {
            self.answer(decided, seq, recorded_at, offset);
        }
        self.release_answers(seq, offset);
    }

    /// Folds a proved decision, and answers its command.
    fn answer(&mut self, decided: Decided<M, R>, seq: i64, recorded_at: Timestamp, offset: i64) {
        let Decided {
            command,
            version,
            events,
            outcome,
            after,
        } = decided;
        self.in_flight.remove(&command.request.id);
        if let Some(after) = after {
            self.tables.put(command.key.clone(), after, offset);
        }
        let stored = StoredAnswer {
            hash: command.request.hash,
            recorded_at,
            origin: command.request.origin,
            offset,
            version,
            events,
            outcome: outcome.map(Box::new),
        };
        let answer = stored.answer(self.proved.partition);
        self.tables.put_answer(command.request.id, stored);
        let overlaid = self.overlay.get(&command.key);
        if overlaid.is_some_and(|(last, _)| *last == seq) {
            self.overlay.remove(&command.key);
        }
        self.reply(command, Ok(answer));
    }

    /// Sends the answers that wait for the record `seq`, proved at `offset`.
    fn release_answers(&mut self, seq: i64, offset: i64) {
        let is_due = |held: &mut HeldAnswer<M, R>| held.seq <= seq;
        while let Some(mut held) = self.held_answers.pop_front_if(is_due) {
            // The answer depends on commits that were in flight, which all come before this record.
            if let Ok(answer) = &mut held.answer
                && !held.is_recorded
            {
                answer.offset = answer.offset.max(offset);
            }
            self.reply(held.command, held.answer);
        }
    }

    pub(super) fn reply(&mut self, command: PendingCommand<M, R>, answer: Result<Answer, Refusal>) {
        if let Err(refusal) = &answer {
            let partition = self.proved.partition;
            command.request.log_refusal(self.topic, partition, refusal);
        }
        let count = 1 + command.joined.len();
        self.unanswered -= count;
        if let Some(of_aggregate) = self.of_aggregate.get_mut(&command.key) {
            *of_aggregate -= count;
            if *of_aggregate == 0 {
                self.of_aggregate.remove(&command.key);
            }
        }
        for reply in command.joined {
            // The first command's answer again.
            let again = answer.clone().map(|answer| Answer {
                replayed: true,
                ..answer
            });
            self.replies.push((reply, again));
        }
        self.replies.push((command.reply, answer));
    }
}

impl<M: Machine, R, P: OwnerProtocol> ReportSteps for Core<M, R, P> {
    fn prove_or_raise_barrier(&mut self, report: &Report) -> Result<(), Barrier> {
        let Some(first) = self.unproved.front() else {
            return Ok(());
        };
        let (found, first, expected) = (report.number, first.number, self.expected_offset());
        let reason = match &report.result {
            _ if found != first => format!("report {found} came before report {first}"),
            Ok(offset) if *offset == expected => {
                self.prove(expected);
                return Ok(());
            }
            Ok(offset) => format!("reported offset {offset} instead of {expected}"),
            Err(error) => {
                self.count_refusal(error);
                error.to_string()
            }
        };
        Err(Barrier { reason })
    }

    fn is_of_first_unproved(&self, report: &Report) -> bool {
        let first = self.unproved.front();
        first.is_some_and(|first| first.number == report.number)
    }

    fn expected_offset(&self) -> i64 {
        self.proved.next_offset
    }

    fn prove_first(&mut self, offset: i64) {
        self.prove(offset);
    }

    fn set_first_aside(&mut self, offset: i64) {
        if let Some(first) = self.unproved.pop_front() {
            self.unproved_bytes.remove(first.bytes);
            self.proved.next_offset = offset + 1;
            let command = first.decided.map(|decided| decided.command);
            self.to_redecide.extend(command);
        }
    }

    fn decide_first_again(&mut self) {
        let Some(first) = self.unproved.pop_front() else {
            return;
        };
        if let Some(Decided { mut command, .. }) = first.decided {
            self.in_flight.remove(&command.request.id);
            command.attempts += 1;
            self.decide(command, first.recorded_at);
        }
    }
}
