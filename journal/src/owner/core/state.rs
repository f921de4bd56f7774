//! The owner's state, and the operations on it that neither decide nor prove.

use crate::{
    checkpoint::Checkpoint,
    owner::{
        entries::Aggregate,
        index_tables::{Cached, EntryName, Fetched, IndexTables, UNSAVED_MAX},
        process_limits::{BytesInFlight, ProcessLimits},
        request::{Answer, Machine, Refusal, Request},
    },
    protocol::{CorrectProtocol, OwnerProtocol},
    reader::{Batch, Valid},
    rule::Hash,
    store::{Answered, MakeChanges, StateStore, StoreError},
};
use foldhash::{HashMap, HashSet};
use kafka::{Encoder, appender::RECORD_BYTES_MAX};
use schemas::{Outcome, Timestamp, ids::CommandId};
use std::{collections::VecDeque, marker::PhantomData, sync::Arc};

/// Maximum number of barriers after which a command is decided again. After one more barrier its client must retry.
pub const ATTEMPTS_MAX: u32 = 3;
/// Number of times that the brokers refuse a command's record before the owner refuses the command. One time is not
/// enough: the brokers may have refused the record because of another record in the same batch, or the cause may be
/// gone.
pub(super) const REFUSALS_MAX: u32 = 2;
/// Maximum number of commands of one aggregate without an answer: half of a partition's maximum, so that one hot
/// aggregate leaves room for the others.
pub const UNANSWERED_OF_AGGREGATE_MAX: usize = 2_048;

/// A record to append.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its delivery report will carry this number.
    pub number: u64,
    /// The record's key.
    pub key: Arc<str>,
    /// The record's value, in wire form.
    pub value: Vec<u8>,
    /// For other tools: the term.
    pub term: [u8; 16],
    /// For other tools: the record's number in its term.
    pub seq: i64,
    /// For other tools: log time.
    pub recorded_at: Timestamp,
    /// For other tools: W3C trace context.
    pub traceparent: Option<String>,
}

/// Counts of events inside a partition's owner that are not visible from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// No-ops appended.
    pub no_ops: u64,
    /// Commands decided again after a barrier.
    pub decided_again: u64,
    /// Commands that joined the same command in flight.
    pub joined: u64,
}

/// One partition's owner. `R` receives an answer.
pub struct Core<M: Machine, R, P: OwnerProtocol = CorrectProtocol> {
    pub(super) topic: &'static str,
    pub(super) encoder: Encoder,
    /// Maximum size of a commit's key and value together, in bytes.
    pub(super) record_bytes_max: usize,
    pub(super) tables: IndexTables<M>,
    /// Why the state store can no longer be used, if so.
    pub(super) store_failure: Option<StoreError>,
    /// The rule's state after the last record that was read or proved.
    pub(super) proved: Checkpoint,
    /// This owner's term, once its announcement was read; `None` while this owner does not serve.
    pub(super) head: Option<TermHead>,
    /// The announcement in flight and its epoch. It is kept, because it may be sent again unchanged.
    pub(super) announced: Option<(i64, Outgoing)>,
    pub(super) unproved: VecDeque<UnprovedCommit<M, R>>,
    /// Seqs of the commits in flight, by command.
    pub(super) in_flight: HashMap<CommandId, i64>,
    /// Each aggregate's last commit in flight: its seq, and the aggregate after it.
    pub(super) overlay: HashMap<Arc<str>, (i64, Shared<M>)>,
    /// Commands without an answer, by aggregate.
    pub(super) of_aggregate: HashMap<Arc<str>, usize>,
    pub(super) unanswered: usize,
    pub(super) unproved_bytes: BytesInFlight,
    /// Answers that wait for a proof that this owner still owns the partition.
    pub(super) held_answers: VecDeque<HeldAnswer<M, R>>,
    /// Commands that a barrier left to be decided again, in order.
    pub(super) to_redecide: VecDeque<PendingCommand<M, R>>,
    /// Commands that wait, in order, for entries of the state store.
    pub(super) unread: VecDeque<PendingCommand<M, R>>,
    pub(super) appends: Vec<Outgoing>,
    pub(super) replies: Vec<(R, Result<Answer, Refusal>)>,
    pub(super) next_number: u64,
    pub(super) counts: Counts,
    pub(super) protocol: PhantomData<P>,
}

/// An aggregate that several structures share.
pub(super) type Shared<M> = Arc<Aggregate<<M as Machine>::State>>;

/// The end of this owner's term as appended, proved or not.
pub(super) struct TermHead {
    pub(super) term: [u8; 16],
    pub(super) epoch: i64,
    pub(super) seq: i64,
    pub(super) hash: Hash,
    pub(super) log_time: Timestamp,
    /// When the term began.
    pub(super) since: Timestamp,
}

/// A command, and the receivers of its answer.
pub(super) struct PendingCommand<M: Machine, R> {
    pub(super) key: Arc<str>,
    pub(super) request: Request<M::Command>,
    pub(super) reply: R,
    /// Receivers of the same command that came while it was in flight.
    pub(super) joined: Vec<R>,
    pub(super) attempts: u32,
    /// Whether this owner appended a decision of it that a barrier left without proof.
    pub(super) was_appended: bool,
    /// The brokers' refusals of the command's record; `None` if they have not refused it.
    pub(super) refusals: Option<Refusals>,
}

/// Definite refusals of one command's record, each in another term.
pub(super) struct Refusals {
    pub(super) count: u32,
    pub(super) reason: String,
}

/// A command with its decision.
pub(super) struct Decided<M: Machine, R> {
    pub(super) command: PendingCommand<M, R>,
    /// The aggregate's version after it.
    pub(super) version: i64,
    /// Number of events recorded.
    pub(super) events: usize,
    pub(super) outcome: Option<Outcome>,
    /// The aggregate after it; `None` if it did not change.
    pub(super) after: Option<Shared<M>>,
}

/// An appended commit without a proof.
pub(super) struct UnprovedCommit<M: Machine, R> {
    pub(super) number: u64,
    pub(super) seq: i64,
    /// The chain's hash after it.
    pub(super) hash: Hash,
    pub(super) recorded_at: Timestamp,
    pub(super) bytes: usize,
    /// `None`: a no-op.
    pub(super) decided: Option<Decided<M, R>>,
}

/// An answer without a commit of its own.
pub(super) struct HeldAnswer<M: Machine, R> {
    /// The answer is given once this record of the term is proved.
    pub(super) seq: i64,
    pub(super) command: PendingCommand<M, R>,
    pub(super) answer: Result<Answer, Refusal>,
    /// Whether it is the answer of a commit in the log.
    pub(super) is_recorded: bool,
}

impl<M: Machine, R, P: OwnerProtocol> Core<M, R, P> {
    /// An owner that does not serve, has read nothing, and has not opened its store.
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
            record_bytes_max: RECORD_BYTES_MAX,
            tables: IndexTables::new(machine, partition, store),
            store_failure: None,
            proved: Checkpoint::start(topic, partition),
            head: None,
            announced: None,
            unproved: VecDeque::new(),
            in_flight: HashMap::default(),
            overlay: HashMap::default(),
            of_aggregate: HashMap::default(),
            unanswered: 0,
            unproved_bytes: BytesInFlight::none(ProcessLimits::default()),
            held_answers: VecDeque::new(),
            to_redecide: VecDeque::new(),
            unread: VecDeque::new(),
            appends: Vec::new(),
            replies: Vec::new(),
            next_number: 0,
            counts: Counts::default(),
            protocol: PhantomData,
        }
    }

    /// Sets the maximum size of a commit's key and value together, in bytes.
    pub fn set_record_bytes_max(&mut self, bytes: usize) {
        self.record_bytes_max = bytes;
    }

    /// Sets the limits that this owner shares with the other owners of the process. Call it before the first command.
    pub fn share_limits(&mut self, limits: ProcessLimits) {
        self.unproved_bytes = BytesInFlight::none(limits);
    }

    /// Sets the fingerprint of the key that hashes commands. A store that was written with another key is refused.
    pub fn set_hash_key(&mut self, fingerprint: Option<Arc<str>>) {
        self.tables.hash_key = fingerprint;
    }

    /// The number of the announcement in flight.
    pub fn announced_number(&self) -> Option<u64> {
        self.announced.as_ref().map(|(_, own)| own.number)
    }

    /// While not serving: resumes from the store. The next read checks that the log is still the one that the
    /// store was built from.
    ///
    /// If the future is dropped before it ends, the method must be called again.
    ///
    /// # Errors
    /// The store can't be read or emptied, or a node with another hash key has written it.
    pub async fn restore(&mut self) -> Result<(), StoreError> {
        let partition = self.proved.partition;
        let restored = self.tables.restore(self.topic).await?;
        self.store_failure = None;
        let stored = restored.unwrap_or_else(|| Checkpoint::start(self.topic, partition));
        self.proved = P::resume(stored);
        Ok(())
    }

    /// While not serving: starts from offset 0, and empties the store.
    ///
    /// # Errors
    /// The store can't be emptied.
    pub async fn start_over(&mut self) -> Result<(), StoreError> {
        self.tables.clear().await?;
        self.store_failure = None;
        self.proved = Checkpoint::start(self.topic, self.proved.partition);
        Ok(())
    }

    /// Why the state store can no longer be read, if so: call [`Core::stop_serving`], then [`Core::restore`] or
    /// [`Core::start_over`].
    pub fn store_failure(&self) -> Option<&StoreError> {
        self.store_failure.as_ref()
    }

    /// Records that the store lacks data that it should have.
    pub fn fail_store(&mut self, error: StoreError) {
        self.store_failure = Some(error);
    }

    /// The changes to write to [`Core::store`] now; report the result to [`Core::finish_save`]. `None` if
    /// there are none, or an earlier write is in progress.
    pub fn save(&mut self) -> Option<MakeChanges> {
        self.tables.save(&self.proved)
    }

    /// Takes the result of the last write.
    pub fn finish_save(&mut self, written: bool) {
        self.tables.finish_save(written);
    }

    /// The state store.
    pub fn store(&self) -> Arc<dyn StateStore> {
        self.tables.store()
    }

    /// Commits that are not in the state store.
    pub fn unsaved(&self) -> usize {
        self.tables.unsaved()
    }

    /// Whether the state store lacks so many commits that no further command should be taken.
    pub fn is_behind_with_saving(&self) -> bool {
        self.tables.unsaved() >= UNSAVED_MAX
    }

    /// Whether a command may be submitted.
    pub fn has_room(&self, unanswered_max: usize) -> bool {
        self.unanswered < unanswered_max
            && self.unproved_bytes.has_room()
            && !self.is_behind_with_saving()
    }

    /// The checkpoint from which reading resumes.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.proved
    }

    /// Commits appended but not yet proved.
    pub fn unproved(&self) -> usize {
        self.unproved.len()
    }

    /// The trace id of the first commit without a proof.
    pub fn first_unproved_trace(&self) -> Option<&str> {
        let mut decided = self
            .unproved
            .iter()
            .filter_map(|pending| pending.decided.as_ref());
        decided.next()?.command.request.trace_id.as_deref()
    }

    /// Commands that have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether this owner may append.
    pub fn is_serving(&self) -> bool {
        self.head.is_some()
    }

    /// The records to append since the last call, in order.
    pub fn take_appends(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.appends)
    }

    /// Returns records that the producer had no room for, to be appended later. The caller must not have created new
    /// records since [`Core::take_appends`].
    pub fn put_appends_back(&mut self, appends: Vec<Outgoing>) {
        debug_assert!(
            self.appends.is_empty(),
            "new records would be appended after these, out of order"
        );
        self.appends = appends;
    }

    /// Whether records wait to be appended.
    pub fn has_appends(&self) -> bool {
        !self.appends.is_empty()
    }

    /// The answers since the last call.
    pub fn take_replies(&mut self) -> Vec<(R, Result<Answer, Refusal>)> {
        std::mem::take(&mut self.replies)
    }

    /// The counts since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Fetches the entries of the state store that folding a batch needs; `None` if memory has all of them.
    /// Pass the answer to [`Core::remember`] before [`Core::read`].
    pub fn fetch_for(&mut self, batch: &Batch<M::Event>) -> Option<Answered<Fetched>> {
        let mut names = Vec::new();
        let mut keys = HashSet::default();
        for valid in &batch.commits {
            let has_events = valid
                .decision()
                .is_some_and(|decision| !decision.events.is_empty());
            let key: Arc<str> = valid.key_text().into();
            if has_events
                && let Cached::Unread = self.tables.aggregate(&key)
                && keys.insert(key.clone())
            {
                names.push(EntryName::Aggregate(key));
            }
        }
        (!names.is_empty()).then(|| self.tables.fetch(names))
    }

    /// Takes entries of the state store that were fetched.
    ///
    /// # Errors
    /// The state store can't be read.
    pub fn remember(&mut self, fetched: Result<Fetched, StoreError>) -> Result<(), StoreError> {
        let remembered = fetched.and_then(|fetched| self.tables.remember(fetched));
        remembered.inspect_err(|error| self.store_failure = Some(error.clone()))
    }

    /// Folds a batch that was read from the log. Only while not serving: a serving owner does not read
    /// its own commits.
    ///
    /// # Panics
    /// The entries that it needs were not fetched by [`Core::fetch_for`].
    pub fn read(&mut self, batch: &Batch<M::Event>) {
        let before = (self.proved.epoch, self.proved.term);
        for valid in &batch.commits {
            let is_foreign = (valid.commit.epoch, valid.commit.term) != before;
            if P::folds_record(is_foreign, !self.to_redecide.is_empty()) {
                self.read_one(valid);
            }
        }
        self.proved = batch.checkpoint.clone();
    }

    fn read_one(&mut self, valid: &Valid<M::Event>) {
        if let Some(decision) = valid.decision() {
            let (key, recorded_at) = (valid.key_text(), valid.commit.recorded_at);
            self.tables
                .fold::<P>(&key, valid.offset, recorded_at, decision);
        }
    }

    /// Refuses every command that waits.
    pub fn refuse_all(&mut self, refusal: &Refusal) {
        self.stop_serving();
        for command in std::mem::take(&mut self.to_redecide) {
            self.reply(command, Err(refusal.clone()));
        }
    }

    /// Refuses every command that waits, because the brokers take no record of this owner. A command that was
    /// appended may still be in the log.
    pub fn refuse_forbidden(&mut self, reason: &str) {
        self.stop_serving();
        for command in std::mem::take(&mut self.to_redecide) {
            let refusal = match command.was_appended {
                true => Refusal::Unavailable(reason.to_owned()),
                false => Refusal::Forbidden(reason.to_owned()),
            };
            self.reply(command, Err(refusal));
        }
    }

    /// Takes a command. While this owner does not serve, the command waits to be decided.
    pub fn submit(&mut self, request: Request<M::Command>, reply: R, now: Timestamp) {
        let key: Arc<str> = request.key.as_str().into();
        let of_aggregate = self.of_aggregate.entry(key.clone()).or_default();
        *of_aggregate += 1;
        self.unanswered += 1;
        let is_busy = *of_aggregate > UNANSWERED_OF_AGGREGATE_MAX;
        let command = PendingCommand {
            key,
            request,
            reply,
            joined: Vec::new(),
            attempts: 0,
            was_appended: false,
            refusals: None,
        };
        if is_busy {
            let reason =
                format!("{UNANSWERED_OF_AGGREGATE_MAX} commands of one aggregate wait already");
            return self.reply(command, Err(Refusal::Busy(reason)));
        }
        match self.head {
            Some(_) => self.decide_in_order(command, now),
            None => self.to_redecide.push_back(command),
        }
    }

    /// Ensures that held answers get a proof: appends one no-op for all of them, unless a later commit is
    /// already in flight. Call it after each run of [`Core::submit`].
    pub fn prove_held_answers(&mut self, now: Timestamp) {
        let Some(head) = &self.head else { return };
        let head_seq = head.seq;
        if self
            .held_answers
            .back()
            .is_some_and(|held| held.seq > head_seq)
        {
            // A no-op has some 80 bytes of our own encoding.
            self.append_no_op(now).expect("a no-op can be encoded");
        }
    }
}
