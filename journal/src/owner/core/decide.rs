//! Decides commands on what is proved and what is under way, and puts the outcome into the term.

use super::{Asked, Core, Decided, Head, Outgoing, Pending, Waiting};
use crate::{
    owner::{
        request::{Answer, Machine, Refusal, Request, already_so},
        tables::Aggregate,
    },
    rule::chain_hash,
};
use kafka::appender::RECORD_BYTES_MAX;
use schemas::{Body, Commit, Decision, Origin, Outcome, Timestamp};

impl<M: Machine, R> Core<M, R> {
    /// Decides a command on what is proved and what is under way.
    pub(super) fn decide(&mut self, asked: Asked<M, R>, now: Timestamp) {
        let request = &asked.request;
        if let Some(stored) = self.tables.answer(request.id) {
            let answer = match stored.hash == request.hash {
                // After a barrier it is the command's own first answer.
                true => Ok(Answer {
                    replayed: asked.tries == 0,
                    ..stored.answer.clone()
                }),
                false => Err(Refusal::KeyReused),
            };
            return self.wait_for_proof(asked, answer);
        }
        if let Some(seq) = self.under_way.get(&request.id) {
            return self.join(*seq, asked);
        }
        let base = self.aggregate(&request.key);
        let version = base.as_ref().map_or(0, |aggregate| aggregate.version);
        if let Some(expected) = request.expected_version
            && expected != version
        {
            let refusal = Refusal::VersionMismatch {
                current: version,
                expected,
            };
            return self.wait_for_proof(asked, Err(refusal));
        }
        let base = base.unwrap_or_else(|| self.tables.after(&request.key, None, &[]));
        let (events, outcome) = match self.tables.machine.decide(&base.state, &request.command) {
            Ok(events) if events.is_empty() => (events, Some(already_so())),
            Ok(events) => (events, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        match (&outcome, request.origin) {
            (Some(_), Origin::Server | Origin::Unknown) => {
                let offset = self.proved.next_offset - 1;
                let partition = self.proved.partition;
                let answer = Answer {
                    partition,
                    offset,
                    version,
                    events: 0,
                    outcome,
                    replayed: false,
                };
                self.wait_for_proof(asked, Ok(answer));
            }
            (Some(_), Origin::Keyed | Origin::Policy | Origin::Timer) | (None, _) => {
                let decision = decision(request, version, outcome, events);
                self.commit(asked, base, decision, now);
            }
        }
    }

    /// What is known of an aggregate, the commits under way included.
    fn aggregate(&self, key: &str) -> Option<Aggregate<M::State>> {
        let overlaid = self.overlay.get(key).map(|(_, aggregate)| aggregate);
        overlaid.or_else(|| self.tables.aggregate(key)).cloned()
    }

    /// The same command is under way: both get its answer, if it is the same.
    fn join(&mut self, seq: i64, asked: Asked<M, R>) {
        // The pending ones bear consecutive seqs.
        let first_seq = self.pending.front().map_or(0, |pending| pending.seq);
        let index = usize::try_from(seq - first_seq).unwrap_or(usize::MAX);
        let pending = self
            .pending
            .get_mut(index)
            .and_then(|pending| pending.decided.as_mut());
        match pending {
            Some((first, _)) if first.request.hash == asked.request.hash => {
                first.replies.extend(asked.replies);
            }
            _ => self.wait_for_proof(asked, Err(Refusal::KeyReused)),
        }
    }

    /// Holds an answer back until a record that is appended after the question is proved: so an
    /// owner that was deposed without knowing it can't give it.
    fn wait_for_proof(&mut self, asked: Asked<M, R>, answer: Result<Answer, Refusal>) {
        let seq = self.office.as_ref().map_or(0, |head| head.seq) + 1;
        self.waiting.push_back(Waiting { seq, asked, answer });
    }

    fn commit(
        &mut self,
        asked: Asked<M, R>,
        base: Aggregate<M::State>,
        decision: Decision<M::Event>,
        now: Timestamp,
    ) {
        let (key, id) = (asked.request.key.clone(), asked.request.id);
        let traceparent = decision.traceparent.clone();
        let after = self.tables.after(&key, Some(base), &decision.events);
        let changes = !decision.events.is_empty();
        let body = Body::Decision(decision.clone());
        let appended = self.append(key.clone(), body, traceparent, now, Some((asked, decision)));
        if let Some(seq) = appended {
            self.under_way.insert(id, seq);
            if changes {
                self.overlay.insert(key, (seq, after));
            }
        }
    }

    /// Adds a record to the term; gives its seq. One that can't be written answers its command.
    pub(super) fn append(
        &mut self,
        key: String,
        body: Body<M::Event>,
        traceparent: Option<String>,
        now: Timestamp,
        decided: Option<Decided<M, R>>,
    ) -> Option<i64> {
        let head = self.office.as_ref()?;
        let recorded_at = now.max(head.log_time);
        let (term, epoch, seq, prev) = (head.term, head.epoch, head.seq + 1, head.hash);
        let commit = Commit {
            prev,
            term,
            epoch,
            seq,
            recorded_at,
            body,
        };
        let outgoing = match self.outgoing(key, &commit, traceparent) {
            Ok(outgoing) => outgoing,
            Err(refusal) => {
                self.reply(
                    decided.map_or(vec![], |(asked, _)| asked.replies),
                    &Err(refusal),
                );
                return None;
            }
        };
        let hash = chain_hash(&prev, outgoing.key.as_bytes(), &outgoing.value);
        self.office = Some(Head {
            term,
            epoch,
            seq,
            hash,
            log_time: recorded_at,
        });
        let number = outgoing.number;
        self.pending.push_back(Pending {
            number,
            seq,
            hash,
            recorded_at,
            decided,
        });
        self.appends.push(outgoing);
        Some(seq)
    }

    pub(super) fn outgoing(
        &mut self,
        key: String,
        commit: &Commit<M::Event>,
        traceparent: Option<String>,
    ) -> Result<Outgoing, Refusal> {
        let value = self
            .encoder
            .encode(commit)
            .map_err(|error| Refusal::Unencodable(format!("{}: {error}", self.topic)))?;
        let bytes = key.len() + value.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(Refusal::TooLarge {
                bytes,
                bytes_max: RECORD_BYTES_MAX,
            });
        }
        let number = self.next_number;
        self.next_number += 1;
        let (term, seq, recorded_at) = (commit.term, commit.seq, commit.recorded_at);
        Ok(Outgoing {
            number,
            key,
            value,
            term,
            seq,
            recorded_at,
            traceparent,
        })
    }
}

fn decision<C, E>(
    request: &Request<C>,
    version: i64,
    outcome: Option<Outcome>,
    events: Vec<E>,
) -> Decision<E> {
    let aggregate_type =
        schemas::ids::split_key(&request.key).map_or(request.key.as_str(), |(kind, _)| kind);
    Decision {
        aggregate_type: aggregate_type.to_owned(),
        version,
        command_id: request.id.0,
        command_hash: request.hash,
        origin: request.origin,
        actor: request.actor.clone(),
        correlation_id: request.correlation_id,
        causation_id: request.causation_id.clone(),
        traceparent: request.traceparent.clone(),
        outcome,
        events,
    }
}
