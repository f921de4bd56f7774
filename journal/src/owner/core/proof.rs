//! Delivery reports: what they prove, and whom that answers.

use super::{Asked, Barrier, Core, Decided};
use crate::{
    owner::{
        request::{Answer, Machine, Refusal},
        tables::Stored,
    },
    protocol::Protocol,
};
use kafka::Report;

impl<M: Machine, R, P: Protocol> Core<M, R, P> {
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
        if P::NO_BARRIER && report.result.is_err() {
            return self.decide_again_in_term(report);
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
            Ok(offset) if P::ANSWERS_ON_BARE_DELIVERY && *offset > expected => {
                self.prove(*offset);
                Ok(())
            }
            Ok(offset) if P::CONTIGUITY_IS_NOT_INDUCTIVE && *offset > expected => {
                self.pass_over(*offset);
                Ok(())
            }
            Ok(offset) if P::OFFSETS_OF_DUPLICATES_PROVE && *offset < expected => {
                self.prove(expected);
                Ok(())
            }
            Ok(offset) => barrier(format!("offset {offset} where {expected} would prove it")),
            Err(error) => barrier(error.to_string()),
        }
    }

    /// A mistake that the simulator makes on purpose: leaves the first pending commit to the next
    /// barrier, and judges the one after it by where this one stands.
    fn pass_over(&mut self, offset: i64) {
        if let Some(pending) = self.pending.pop_front() {
            self.unproved_bytes -= pending.bytes;
            self.proved.next_offset = offset + 1;
            let asked = pending.decided.map(|decided| decided.asked);
            self.again.extend(asked);
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
        self.unproved_bytes -= pending.bytes;
        if let Some(Decided {
            asked,
            version,
            events,
            outcome,
            after,
        }) = pending.decided
        {
            self.under_way.remove(&asked.request.id);
            if let Some(after) = after {
                self.tables.put(asked.key.clone(), after, offset);
            }
            let stored = Stored {
                hash: asked.request.hash,
                recorded_at: pending.recorded_at,
                origin: asked.request.origin,
                offset,
                version,
                events,
                outcome: outcome.map(Box::new),
            };
            let answer = stored.answer(self.proved.partition);
            self.tables.put_answer(asked.request.id, stored);
            if self
                .overlay
                .get(&asked.key)
                .is_some_and(|(seq, _)| *seq == pending.seq)
            {
                self.overlay.remove(&asked.key);
            }
            self.reply(asked, Ok(answer));
        }
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.seq <= pending.seq)
        {
            if let Some(mut waiting) = self.waiting.pop_front() {
                // Decided on commits that were under way: all of them stand before this record.
                if let Ok(answer) = &mut waiting.answer
                    && !waiting.is_recorded
                {
                    answer.offset = answer.offset.max(offset);
                }
                self.reply(waiting.asked, waiting.answer);
            }
        }
    }

    pub(super) fn reply(&mut self, asked: Asked<M, R>, answer: Result<Answer, Refusal>) {
        if let Err(refusal) = &answer {
            let partition = self.proved.partition;
            asked.request.log_refusal(self.topic, partition, refusal);
        }
        let count = 1 + asked.joined.len();
        self.unanswered -= count;
        if let Some(of_aggregate) = self.of_aggregate.get_mut(&asked.key) {
            *of_aggregate -= count;
            if *of_aggregate == 0 {
                self.of_aggregate.remove(&asked.key);
            }
        }
        for reply in asked.joined {
            self.replies.push((reply, answer.clone()));
        }
        self.replies.push((asked.reply, answer));
    }
}
