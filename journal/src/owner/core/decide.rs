//! Decides commands on the proved and the unproved commits, and appends the decisions to the term.

use super::state::{
    Core, Decided, HeldAnswer, Outgoing, PendingCommand, REFUSALS_MAX, TermHead, UnprovedCommit,
};
use crate::{
    owner::{
        entries::Aggregate,
        index_tables::{Cached, EntryName, Fetched},
        request::{Answer, Machine, Refusal, Request, already_so},
    },
    protocol::OwnerProtocol,
    rule::chain_hash,
    store::{Answered, StoreError},
};
use foldhash::HashSet;
use schemas::{BodyRef, CommitRef, DecisionRef, NoOp, Origin, Outcome, Timestamp};
use std::sync::Arc;

/// Maximum number of commands whose entries one read of the state store fetches.
const FETCHED_FOR_MAX: usize = 1_024;

impl<M: Machine, R, P: OwnerProtocol> Core<M, R, P> {
    /// Decides a command, unless earlier ones wait for entries of the state store: commands are decided in
    /// the order in which they came.
    pub(super) fn decide_in_order(&mut self, command: PendingCommand<M, R>, now: Timestamp) {
        match self.unread.is_empty() {
            true => self.decide(command, now),
            false => self.unread.push_back(command),
        }
    }

    /// Decides a command on the proved and the unproved commits. If it needs entries of the state store,
    /// it waits for them.
    pub(super) fn decide(&mut self, command: PendingCommand<M, R>, now: Timestamp) {
        match self.look_up(&command, now) {
            Lookup::Unread => self.unread.push_back(command),
            Lookup::Answer(answer) => self.hold_until_proved(command, answer, true),
            Lookup::InFlight(seq) => self.join(seq, command),
            // The log has no record of the command, so a refusal is final.
            Lookup::Aggregate(base) => match self.check_new(&command, now) {
                Ok(()) => self.decide_on(command, base, now),
                Err(refusal) => self.reply(command, Err(refusal)),
            },
        }
    }

    /// Fetches the entries that waiting commands need; `None` if no command waits, or if there is no room for
    /// their records. Pass the answer to [`Core::decide_unread`]. No command is decided meanwhile, so no entry
    /// changes.
    pub fn fetch_unread(&mut self, now: Timestamp) -> Option<Answered<Fetched>> {
        while !self.unread.is_empty() && self.unproved_bytes.has_room() {
            let names = self.unread_names(now);
            if !names.is_empty() {
                return Some(self.tables.fetch(names));
            }
            // A proof has put the entry into memory meanwhile.
            self.decide_all_unread(now);
        }
        None
    }

    /// Decides the commands that waited for these entries. If the state store can't be read, they keep waiting.
    pub fn decide_unread(&mut self, fetched: Result<Fetched, StoreError>, now: Timestamp) {
        match fetched.and_then(|fetched| self.tables.remember(fetched)) {
            Ok(()) => self.decide_all_unread(now),
            Err(error) => self.store_failure = Some(error),
        }
    }

    /// Decides the commands that waited, up to the first one that needs another entry or has no room.
    fn decide_all_unread(&mut self, now: Timestamp) {
        let mut waiting = std::mem::take(&mut self.unread);
        while self.unread.is_empty()
            && self.unproved_bytes.has_room()
            && let Some(command) = waiting.pop_front()
        {
            self.decide(command, now);
        }
        self.unread.append(&mut waiting);
    }

    /// The entries that the first commands need and memory does not have.
    fn unread_names(&mut self, now: Timestamp) -> Vec<EntryName> {
        let expiry_time = P::expiry_time(self.proved.log_time, now);
        let mut names = Vec::new();
        let mut keys = HashSet::default();
        for command in self.unread.iter().take(FETCHED_FOR_MAX) {
            let id = command.request.id;
            if let Cached::Unread = self.tables.answer(id, expiry_time) {
                names.push(EntryName::Answer(id));
            }
            let key = &command.key;
            if !self.overlay.contains_key(key)
                && let Cached::Unread = self.tables.aggregate(key)
                && keys.insert(key.clone())
            {
                names.push(EntryName::Aggregate(key.clone()));
            }
        }
        names
    }

    /// Checks a command without a record in the log.
    fn check_new(&self, command: &PendingCommand<M, R>, now: Timestamp) -> Result<(), Refusal> {
        if let Some(refusals) = &command.refusals
            && refusals.count >= REFUSALS_MAX
        {
            return Err(Refusal::Forbidden(format!(
                "the brokers refused the record {} times: {}",
                refusals.count, refusals.reason
            )));
        }
        let request = &command.request;
        match &self.head {
            Some(head) => request.check_age(now, head.log_time, head.since),
            None => Ok(()),
        }
    }

    /// Looks up the command's answer or commit or, if it is new, its aggregate.
    fn look_up(&mut self, command: &PendingCommand<M, R>, now: Timestamp) -> Lookup<M::State> {
        let request = &command.request;
        let expiry_time = P::expiry_time(self.proved.log_time, now);
        let stored = match self.tables.answer(request.id, expiry_time) {
            Cached::Known(stored) => stored,
            Cached::Unread => return Lookup::Unread,
        };
        if let Some(stored) = stored {
            let answer = match stored.hash == request.hash {
                // After a barrier the log may have this owner's own commit; then this is the first answer.
                true => Ok(Answer {
                    replayed: !command.was_appended,
                    ..stored.answer(self.proved.partition)
                }),
                false => Err(Refusal::KeyReused),
            };
            return Lookup::Answer(answer);
        }
        if let Some(seq) = self.in_flight.get(&request.id) {
            return Lookup::InFlight(*seq);
        }
        if let Some((_, aggregate)) = self.overlay.get(&command.key) {
            return Lookup::Aggregate(Some(aggregate.clone()));
        }
        match self.tables.aggregate(&command.key) {
            Cached::Known(aggregate) => Lookup::Aggregate(aggregate),
            Cached::Unread => Lookup::Unread,
        }
    }

    fn decide_on(
        &mut self,
        command: PendingCommand<M, R>,
        base: Option<Arc<Aggregate<M::State>>>,
        now: Timestamp,
    ) {
        let request = &command.request;
        let version = base.as_ref().map_or(0, |aggregate| aggregate.version);
        if let Some(expected) = request.expected_version
            && expected != version
        {
            let refusal = Refusal::VersionMismatch {
                current: version,
                expected,
            };
            return self.hold_until_proved(command, Err(refusal), false);
        }
        let base = base.unwrap_or_else(|| Arc::new(self.tables.after(&command.key, None, &[])));
        let (events, outcome) = match self.tables.machine.decide(&base.state, &request.command) {
            Ok(events) if events.is_empty() => (events, Some(already_so())),
            Ok(events) => (events, None),
            Err(rejection) => (Vec::new(), Some(rejection)),
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
                self.hold_until_proved(command, Ok(answer), false);
            }
            (Some(_), Origin::Keyed | Origin::Policy | Origin::Timer) | (None, _) => {
                self.commit(command, &base, events, outcome, now);
            }
        }
    }

    /// A command with this id is in flight: if it is the same command, both get its answer.
    fn join(&mut self, seq: i64, command: PendingCommand<M, R>) {
        // Unproved commits have consecutive seqs.
        let first_seq = self.unproved.front().map_or(0, |pending| pending.seq);
        let index = usize::try_from(seq - first_seq).unwrap_or(usize::MAX);
        let pending = self
            .unproved
            .get_mut(index)
            .and_then(|pending| pending.decided.as_mut());
        match pending {
            Some(first) if first.command.request.hash == command.request.hash => {
                self.counts.joined += 1;
                let first = &mut first.command.joined;
                first.push(command.reply);
                first.extend(command.joined);
            }
            _ => self.hold_until_proved(command, Err(Refusal::KeyReused), false),
        }
    }

    /// Holds an answer back until a record that is appended after the command's arrival is proved. So an owner
    /// that was fenced, and does not know it yet, can't answer. `is_recorded`: the answer is that of a commit
    /// in the log, so it names that commit's offset and not the proof's.
    fn hold_until_proved(
        &mut self,
        command: PendingCommand<M, R>,
        answer: Result<Answer, Refusal>,
        is_recorded: bool,
    ) {
        if P::answers_without_proof() {
            return self.reply(command, answer);
        }
        let seq = self.head.as_ref().map_or(0, |head| head.seq) + 1;
        self.held_answers.push_back(HeldAnswer {
            seq,
            command,
            answer,
            is_recorded,
        });
    }

    fn commit(
        &mut self,
        command: PendingCommand<M, R>,
        base: &Aggregate<M::State>,
        events: Vec<M::Event>,
        outcome: Option<Outcome>,
        now: Timestamp,
    ) {
        let Some(head) = &self.head else { return };
        let (key, request) = (command.key.clone(), &command.request);
        let decision = decision(request, base.version, outcome.as_ref(), &events);
        let commit = head.next_commit(BodyRef::Decision(decision), now);
        let (seq, recorded_at) = (commit.seq, commit.recorded_at);
        let outgoing = self.outgoing(key.clone(), &commit, request.traceparent.clone());
        let outgoing = match outgoing.and_then(|outgoing| self.fitting(outgoing)) {
            Ok(outgoing) => outgoing,
            // It depends on the state that was read, as every refusal does.
            Err(refusal) => return self.hold_until_proved(command, Err(refusal), false),
        };
        self.in_flight.insert(request.id, seq);
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
            command,
            version,
            events: events.len(),
            outcome,
            after,
        };
        self.append(seq, recorded_at, outgoing, Some(decided));
    }

    /// Appends a record that only proves that its owner still owns the partition.
    pub(super) fn append_no_op(&mut self, now: Timestamp) -> Result<(), Refusal> {
        let Some(head) = &self.head else {
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
        let head = self.head.as_mut().expect("only a serving owner appends");
        head.hash = chain_hash(&head.hash, outgoing.key.as_bytes(), &outgoing.value);
        (head.seq, head.log_time) = (seq, recorded_at);
        let bytes = outgoing.key.len() + outgoing.value.len();
        self.unproved_bytes.add(bytes);
        self.unproved.push_back(UnprovedCommit {
            number: outgoing.number,
            seq,
            hash: head.hash,
            recorded_at,
            bytes,
            decided,
        });
        self.appends.push(outgoing);
    }

    /// A commit, if the topic takes one of its size.
    fn fitting(&self, commit: Outgoing) -> Result<Outgoing, Refusal> {
        let bytes = commit.key.len() + commit.value.len();
        let bytes_max = self.record_bytes_max;
        match bytes > bytes_max {
            true => Err(Refusal::TooLarge { bytes, bytes_max }),
            false => Ok(commit),
        }
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

/// The result of looking a command up.
enum Lookup<S> {
    /// An entry must be read from the state store.
    Unread,
    /// Its answer, which still needs a proof that this owner owns the partition.
    Answer(Result<Answer, Refusal>),
    /// The seq of its commit, which is in flight.
    InFlight(i64),
    /// Its aggregate, including the commits in flight; `None` if it does not exist.
    Aggregate(Option<Arc<Aggregate<S>>>),
}

impl TermHead {
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
