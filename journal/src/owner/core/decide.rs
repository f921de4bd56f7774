//! Decides commands on what is proved and what is under way, and puts the outcome into the term.

use super::{Asked, Barrier, Core, Decided, Head, Outgoing, Pending, Waiting};
use crate::{
    owner::{
        request::{Answer, Machine, Refusal, Request, already_so},
        tables::Aggregate,
    },
    protocol::Protocol,
    rule::chain_hash,
    store::StoreError,
};
use kafka::{Report, appender::RECORD_BYTES_MAX};
use schemas::{BodyRef, CommitRef, DecisionRef, NoOp, Origin, Outcome, Timestamp};
use std::sync::Arc;

impl<M: Machine, R, P: Protocol> Core<M, R, P> {
    /// Decides a command on what is proved and what is under way. If the state store can't be read,
    /// the command stays to be decided again.
    pub(super) fn decide(&mut self, asked: Asked<M, R>, now: Timestamp) {
        match self.known(&asked, now) {
            Ok(Known::Answer(answer)) => self.wait_for_proof(asked, answer, true),
            Ok(Known::UnderWay(seq)) => self.join(seq, asked),
            Ok(Known::Aggregate(base)) => match self.check_age(&asked.request, now) {
                Ok(()) => self.decide_on(asked, base, now),
                Err(refusal) => self.reply(asked, Err(refusal)),
            },
            Err(error) => {
                self.broken = Some(error);
                self.again.push_back(asked);
            }
        }
    }

    fn check_age(&self, request: &Request<M::Command>, now: Timestamp) -> Result<(), Refusal> {
        match &self.office {
            Some(head) => request.check_age(now, head.log_time, head.since),
            None => Ok(()),
        }
    }

    /// What is known already of a command or, if nothing is, of its aggregate.
    fn known(
        &mut self,
        asked: &Asked<M, R>,
        now: Timestamp,
    ) -> Result<Known<M::State>, StoreError> {
        let request = &asked.request;
        let log_time = match P::ANSWERS_EXPIRE_BY_CLOCK {
            true => now,
            false => self.proved.log_time,
        };
        if let Some(stored) = self.tables.answer(request.id, log_time)? {
            let answer = match stored.hash == request.hash {
                // Of a command that a barrier left it is the own first answer.
                true => Ok(Answer {
                    replayed: !asked.was_appended,
                    ..stored.answer(self.proved.partition)
                }),
                false => Err(Refusal::KeyReused),
            };
            return Ok(Known::Answer(answer));
        }
        if let Some(seq) = self.under_way.get(&request.id) {
            return Ok(Known::UnderWay(*seq));
        }
        let overlaid = self.overlay.get(&asked.key);
        Ok(Known::Aggregate(match overlaid {
            Some((_, aggregate)) => Some(aggregate.clone()),
            None => self.tables.aggregate(&asked.key)?,
        }))
    }

    fn decide_on(
        &mut self,
        asked: Asked<M, R>,
        base: Option<Arc<Aggregate<M::State>>>,
        now: Timestamp,
    ) {
        let request = &asked.request;
        let version = base.as_ref().map_or(0, |aggregate| aggregate.version);
        if let Some(expected) = request.expected_version
            && expected != version
        {
            let refusal = Refusal::VersionMismatch {
                current: version,
                expected,
            };
            return self.wait_for_proof(asked, Err(refusal), false);
        }
        let base = base.unwrap_or_else(|| Arc::new(self.tables.after(&asked.key, None, &[])));
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
                self.wait_for_proof(asked, Ok(answer), false);
            }
            (Some(_), Origin::Keyed | Origin::Policy | Origin::Timer) | (None, _) => {
                self.commit(asked, &base, events, outcome, now);
            }
        }
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
            Some(first) if first.asked.request.hash == asked.request.hash => {
                self.counts.joined += 1;
                let first = &mut first.asked.joined;
                first.push(asked.reply);
                first.extend(asked.joined);
            }
            _ => self.wait_for_proof(asked, Err(Refusal::KeyReused), false),
        }
    }

    /// Holds an answer back until a record that is appended after the question is proved: so an
    /// owner that was deposed without knowing it can't give it. `is_recorded`: the answer is that of
    /// a commit in the log, so it names that commit's offset and not the proof's.
    fn wait_for_proof(
        &mut self,
        asked: Asked<M, R>,
        answer: Result<Answer, Refusal>,
        is_recorded: bool,
    ) {
        if P::REFUSES_WITHOUT_PROOF {
            return self.reply(asked, answer);
        }
        let seq = self.office.as_ref().map_or(0, |head| head.seq) + 1;
        self.waiting.push_back(Waiting {
            seq,
            asked,
            answer,
            is_recorded,
        });
    }

    fn commit(
        &mut self,
        asked: Asked<M, R>,
        base: &Aggregate<M::State>,
        events: Vec<M::Event>,
        outcome: Option<Outcome>,
        now: Timestamp,
    ) {
        let Some(head) = &self.office else { return };
        let (key, request) = (asked.key.clone(), &asked.request);
        let decision = decision(request, base.version, outcome.as_ref(), &events);
        let commit = head.next_commit(BodyRef::Decision(decision), now);
        let (seq, recorded_at) = (commit.seq, commit.recorded_at);
        let outgoing = self.outgoing(key.clone(), &commit, request.traceparent.clone());
        let outgoing = match outgoing {
            Ok(outgoing) => outgoing,
            // It rests on what was seen, as every refusal does.
            Err(refusal) => return self.wait_for_proof(asked, Err(refusal), false),
        };
        self.under_way.insert(request.id, seq);
        let mut version = base.version;
        let after = (!events.is_empty()).then(|| {
            let after = self.tables.after(&key, Some(base), &events);
            version = after.version;
            Arc::new(after)
        });
        if let Some(after) = &after {
            self.overlay.insert(key, (seq, after.clone()));
        }
        let decided = Decided {
            asked,
            version,
            events: events.len(),
            outcome,
            after,
        };
        self.append(seq, recorded_at, outgoing, Some(decided));
    }

    /// Appends a record that says nothing but that its owner is in office.
    pub(super) fn append_no_op(&mut self, now: Timestamp) -> Result<(), Refusal> {
        let Some(head) = &self.office else {
            return Ok(());
        };
        let commit = head.next_commit::<M::Event>(BodyRef::NoOp(NoOp {}), now);
        let (seq, recorded_at) = (commit.seq, commit.recorded_at);
        let outgoing = self.outgoing("".into(), &commit, None)?;
        self.append(seq, recorded_at, outgoing, None);
        self.counts.no_ops += 1;
        Ok(())
    }

    /// Adds a record to the term.
    fn append(
        &mut self,
        seq: i64,
        recorded_at: Timestamp,
        outgoing: Outgoing,
        decided: Option<Decided<M, R>>,
    ) {
        let head = self
            .office
            .as_mut()
            .expect("only an owner in office appends");
        head.hash = chain_hash(&head.hash, outgoing.key.as_bytes(), &outgoing.value);
        (head.seq, head.log_time) = (seq, recorded_at);
        let bytes = outgoing.key.len() + outgoing.value.len();
        self.unproved_bytes += bytes;
        self.pending.push_back(Pending {
            number: outgoing.number,
            seq,
            hash: head.hash,
            recorded_at,
            bytes,
            decided,
        });
        self.appends.push(outgoing);
    }

    /// A mistake that the simulator makes on purpose: no barrier.
    pub(super) fn decide_again_in_term(&mut self, report: &Report) -> Result<(), Barrier> {
        let Some(first) = self.pending.front() else {
            return Ok(());
        };
        let now = first.recorded_at;
        if report.number == first.number
            && let Some(Decided { mut asked, .. }) =
                self.pending.pop_front().and_then(|p| p.decided)
        {
            self.under_way.remove(&asked.request.id);
            asked.tries += 1;
            self.decide(asked, now);
        }
        Ok(())
    }

    pub(super) fn outgoing(
        &mut self,
        key: Arc<str>,
        commit: &CommitRef<'_, M::Event>,
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

/// What a command finds.
enum Known<S> {
    /// Its answer, which still needs a proof of office.
    Answer(Result<Answer, Refusal>),
    /// Its own commit, by seq.
    UnderWay(i64),
    /// Its aggregate, the commits under way included; `None` if it does not exist.
    Aggregate(Option<Arc<Aggregate<S>>>),
}

impl Head {
    /// The term's next commit.
    fn next_commit<'a, E>(&self, body: BodyRef<'a, E>, now: Timestamp) -> CommitRef<'a, E> {
        CommitRef {
            prev: self.hash,
            term: self.term,
            epoch: self.epoch,
            seq: self.seq + 1,
            recorded_at: now.max(self.log_time),
            body,
        }
    }
}

fn decision<'a, C, E>(
    request: &'a Request<C>,
    version: i64,
    outcome: Option<&'a Outcome>,
    events: &'a [E],
) -> DecisionRef<'a, E> {
    let aggregate_type =
        schemas::ids::split_key(&request.key).map_or(request.key.as_str(), |(kind, _)| kind);
    DecisionRef {
        aggregate_type,
        version,
        command_id: request.id.0,
        command_hash: request.hash,
        origin: request.origin,
        actor: &request.actor,
        correlation_id: request.correlation_id,
        causation_id: request.causation_id.as_deref(),
        traceparent: request.traceparent.as_deref(),
        outcome,
        events,
    }
}
