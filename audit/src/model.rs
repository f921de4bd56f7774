//! The void rule, a second time: what one partition's log means, record by record.
//!
//! Written apart from the writers' own implementation on purpose, so that each checks the other
//! against the vectors in `schemas/golden/journal`. Pure: it is given records in the order of their
//! offsets, from the first on, and says of each whether it counts.

use crate::frame::{Frame, Kind, Malformed, PREV_BYTES};
use schemas::Timestamp;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The version of the rule that is written here.
const KNOWN_RULE_VERSION: i32 = 1;
/// Stands before topic and partition in h(0).
const CHAIN_NAME: &[u8] = b"daybook/1";

/// One record of a partition, borrowed from wherever it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the partition.
    pub offset: i64,
    /// When the broker took it, in milliseconds since 1970; -1 if unknown.
    pub timestamp_ms: i64,
    /// `None` is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// `None` is not the same as empty.
    pub value: Option<&'a [u8]>,
}

/// What the rule says of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It counts, and the chain runs through it.
    Valid(Frame),
    /// It is nobody's truth.
    Void(Void),
}

/// A record that does not count.
#[derive(Debug, Clone, PartialEq)]
pub struct Void {
    /// Why not.
    pub reason: VoidReason,
    /// Its frame, if it has one.
    pub frame: Option<Frame>,
}

/// Why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoidReason {
    /// Keys may be empty, never null.
    #[error("the key is null")]
    NullKey,
    /// A tombstone means nothing in a journal.
    #[error("the value is null")]
    NullValue,
    /// Its bytes can't be a commit.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// An announcement or a no-op is about no aggregate.
    #[error("an announcement or a no-op has a key")]
    KeyForbidden,
    /// A decision is about one aggregate.
    #[error("a decision has no key")]
    KeyMissing,
    /// An announcement is its term's first record.
    #[error("an announcement has seq {seq}, not 0")]
    AnnouncementSeq {
        /// What it has.
        seq: i64,
    },
    /// Another one was first, or it was sent again.
    #[error("an announcement of epoch {found} comes when {current} is current")]
    AnnouncementTooLate {
        /// The epoch in force.
        current: i64,
        /// Its epoch.
        found: i64,
    },
    /// An owner that is deposed, or never was one.
    #[error("its epoch, {epoch}, has ended")]
    OtherTerm {
        /// Its epoch.
        epoch: i64,
    },
    /// A duplicate.
    #[error("seq {found} was there before; {expected} comes next")]
    SeqRepeated {
        /// What comes next.
        expected: i64,
        /// Its seq.
        found: i64,
    },
    /// A commit before it is missing.
    #[error("seq {found} comes where {expected} should")]
    SeqGap {
        /// What comes next.
        expected: i64,
        /// Its seq.
        found: i64,
    },
}

/// The log was altered or truncated, or goes on by a later rule: nothing after this can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic} partition {partition} offset {offset}: {reason}")]
pub struct Alarm {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// The record that can't be.
    pub offset: i64,
    /// Why it can't be.
    pub reason: AlarmReason,
}

/// Why a record can't be in a log that was not altered, or can't be judged by this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AlarmReason {
    /// The right commit names another history than the one that was read.
    #[error("the chain is broken: {}", suspects(*.since, *.is_predecessor))]
    ChainBroken {
        /// The first valid record that no later commit had confirmed.
        since: i64,
        /// Whether no other valid record stands between that and the alarm's.
        is_predecessor: bool,
    },
    /// A record that comes twice, or a log that became shorter.
    #[error("the offset went back, {next} is next")]
    OffsetWentBack {
        /// The least that could come.
        next: i64,
    },
    /// Epochs are announced one by one, by owners who have read the one before.
    #[error("an announcement of epoch {found} comes when {current} is current")]
    AnnouncementSkipsEpoch {
        /// The epoch in force.
        current: i64,
        /// Its epoch.
        found: i64,
    },
    /// Owners commit when they have read their own announcement; here is none at all.
    #[error("a commit comes before any announcement")]
    BeforeFirstTerm,
    /// The same, of a later epoch.
    #[error("a commit of epoch {found} comes when {current} is current")]
    FutureEpoch {
        /// The epoch in force.
        current: i64,
        /// Its epoch.
        found: i64,
    },
    /// The same, under an epoch that another term has.
    #[error("a commit of epoch {epoch} comes from another term than the one that announced it")]
    TermUnknown {
        /// The epoch in force.
        epoch: i64,
    },
    /// Whoever names this history as its own was the next commit; but it would not count.
    #[error("the record was altered: it names the right history, but {reason}")]
    Altered {
        /// Why it would not count.
        reason: VoidReason,
    },
    /// The log may be sound, but this program is too old for it.
    #[error(
        "version {found} of the rule begins here, newer software than this ({known}) is needed"
    )]
    NewerRule {
        /// What this program knows.
        known: i32,
        /// What the announcement names.
        found: i32,
    },
}

/// Why a record does not count: harmlessly, or not.
enum Refused {
    Void(VoidReason),
    Alarm(AlarmReason),
}

/// Who may have been altered, if the chain breaks.
fn suspects(since: i64, is_predecessor: bool) -> String {
    match is_predecessor {
        true => format!("the record, or its predecessor at offset {since}, was altered"),
        false => format!("it, or one of the valid records from offset {since} on, was altered"),
    }
}

/// Everything that the rule knows of a partition after some prefix of its log.
#[derive(Debug, Clone)]
pub struct Model {
    topic: String,
    partition: i32,
    term: Option<Term>,
    hash: Hash,
    previous_hash: Hash,
    log_id: Option<Hash>,
    next_offset: i64,
    last_valid: Option<i64>,
    unconfirmed: Option<i64>,
    log_time: Timestamp,
}

/// One owner's time in office.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Its random id.
    pub id: [u8; 16],
    /// Its number.
    pub epoch: i64,
    /// The seq of its last valid record.
    pub seq: i64,
}

/// h(0): binds the chain to its partition.
pub fn first_hash(topic: &str, partition: i32) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CHAIN_NAME);
    hasher.update(&length(topic.as_bytes()));
    hasher.update(topic.as_bytes());
    hasher.update(&partition.to_be_bytes());
    hasher.finalize().into()
}

/// h(n) of a valid record: `before` is h(n-1), `value` has its wire header.
pub fn next_hash(before: &Hash, key: &[u8], value: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&length(key));
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().into()
}

fn length(bytes: &[u8]) -> [u8; 4] {
    let length = u32::try_from(bytes.len()).expect("no record of kafka has 4 GiB");
    length.to_be_bytes()
}

impl Model {
    /// Of a log that nothing was read of.
    pub fn new(topic: &str, partition: i32) -> Self {
        let hash = first_hash(topic, partition);
        Self {
            topic: topic.to_owned(),
            partition,
            term: None,
            hash,
            previous_hash: [0; 32],
            log_id: None,
            next_offset: 0,
            last_valid: None,
            unconfirmed: None,
            log_time: Timestamp::default(),
        }
    }

    /// Judges the next record. Offsets may leap, for control records of a foreign transactional
    /// producer take offsets that no consumer sees; they never go back. After an alarm nothing has
    /// changed, and the partition must not be read on.
    pub fn judge(&mut self, entry: Entry<'_>) -> Result<Verdict, Alarm> {
        if entry.offset < self.next_offset {
            let next = self.next_offset;
            return Err(self.alarm(entry.offset, AlarmReason::OffsetWentBack { next }));
        }
        let verdict = match read(entry) {
            Err(reason) => Verdict::Void(self.void(entry, reason, None)?),
            Ok((key, value, frame)) => match self.refused(key, &frame) {
                Some(Refused::Void(reason)) => {
                    Verdict::Void(self.void(entry, reason, Some(frame))?)
                }
                Some(Refused::Alarm(reason)) => return Err(self.alarm(entry.offset, reason)),
                None => {
                    self.check_chain(entry.offset, &frame)?;
                    self.take(entry.offset, key, value, &frame);
                    Verdict::Valid(frame)
                }
            },
        };
        self.next_offset = entry.offset.saturating_add(1);
        Ok(verdict)
    }

    /// A record that does not count, unless it names the right history.
    fn void(
        &self,
        entry: Entry<'_>,
        reason: VoidReason,
        frame: Option<Frame>,
    ) -> Result<Void, Alarm> {
        let named = entry.value.and_then(|value| value.get(PREV_BYTES));
        if named == Some(&self.hash[..]) {
            return Err(self.alarm(entry.offset, AlarmReason::Altered { reason }));
        }
        Ok(Void { reason, frame })
    }

    /// Everything of the rule but the chain; `None` if the record counts.
    fn refused(&self, key: &[u8], frame: &Frame) -> Option<Refused> {
        let has_key = !key.is_empty();
        let announcement = match &frame.kind {
            Kind::Announcement(_) | Kind::NoOp if has_key => {
                return Some(Refused::Void(VoidReason::KeyForbidden));
            }
            Kind::Decision if !has_key => return Some(Refused::Void(VoidReason::KeyMissing)),
            Kind::Announcement(announcement) => Some(announcement),
            Kind::NoOp | Kind::Decision => None,
        };
        match announcement {
            Some(announcement) => self.announcement_refused(frame, announcement.rule_version),
            None => self.commit_refused(frame),
        }
    }

    fn commit_refused(&self, frame: &Frame) -> Option<Refused> {
        let found = frame.epoch;
        let Some(term) = self.term else {
            return Some(Refused::Alarm(AlarmReason::BeforeFirstTerm));
        };
        let current = term.epoch;
        if found < current {
            return Some(Refused::Void(VoidReason::OtherTerm { epoch: found }));
        }
        if found > current {
            return Some(Refused::Alarm(AlarmReason::FutureEpoch { current, found }));
        }
        if frame.term != term.id {
            return Some(Refused::Alarm(AlarmReason::TermUnknown { epoch: current }));
        }
        let (found, expected) = (frame.seq, term.seq.saturating_add(1));
        if found <= term.seq {
            return Some(Refused::Void(VoidReason::SeqRepeated { expected, found }));
        }
        (found != expected).then_some(Refused::Void(VoidReason::SeqGap { expected, found }))
    }

    fn announcement_refused(&self, frame: &Frame, rule_version: i32) -> Option<Refused> {
        let (current, found) = (self.epoch(), frame.epoch);
        if frame.seq != 0 {
            let reason = VoidReason::AnnouncementSeq { seq: frame.seq };
            return Some(Refused::Void(reason));
        }
        if found <= current {
            let reason = VoidReason::AnnouncementTooLate { current, found };
            return Some(Refused::Void(reason));
        }
        // No overflow: a greater epoch was found just now.
        if found != current + 1 {
            let reason = AlarmReason::AnnouncementSkipsEpoch { current, found };
            return Some(Refused::Alarm(reason));
        }
        (rule_version > KNOWN_RULE_VERSION).then_some(Refused::Alarm(AlarmReason::NewerRule {
            known: KNOWN_RULE_VERSION,
            found: rule_version,
        }))
    }

    /// A commit confirms all that came before it; an announcement confirms nothing.
    fn check_chain(&self, offset: i64, frame: &Frame) -> Result<(), Alarm> {
        if frame.is_announcement() || frame.prev == self.hash {
            return Ok(());
        }
        let since = self.unconfirmed.unwrap_or(offset);
        let is_predecessor = self.last_valid == Some(since);
        let reason = AlarmReason::ChainBroken {
            since,
            is_predecessor,
        };
        Err(self.alarm(offset, reason))
    }

    fn alarm(&self, offset: i64, reason: AlarmReason) -> Alarm {
        Alarm {
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
            reason,
        }
    }

    fn take(&mut self, offset: i64, key: &[u8], value: &[u8], frame: &Frame) {
        self.previous_hash = self.hash;
        self.hash = next_hash(&self.hash, key, value);
        self.log_id.get_or_insert(self.hash);
        self.term = Some(Term {
            id: frame.term,
            epoch: frame.epoch,
            seq: frame.seq,
        });
        // Who announces itself may have a wrong clock; who commits has had it compared.
        if !frame.is_announcement() {
            self.log_time = self.log_time.max(frame.recorded_at);
        }
        self.last_valid = Some(offset);
        if !frame.is_announcement() || self.unconfirmed.is_none() {
            self.unconfirmed = Some(offset);
        }
    }

    /// The term in force.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// The number of the term in force; 0 before the first.
    pub fn epoch(&self) -> i64 {
        self.term.map_or(0, |term| term.epoch)
    }

    /// h(n) of the last valid record.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// h(n-1) of the last valid record; zero before the first.
    pub fn previous_hash(&self) -> Hash {
        self.previous_hash
    }

    /// h(1), once there is one.
    pub fn log_id(&self) -> Option<Hash> {
        self.log_id
    }

    /// The least offset that may come.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The offset of the last valid record.
    pub fn last_valid(&self) -> Option<i64> {
        self.last_valid
    }

    /// The greatest `recorded_at` of valid commits, not of announcements; never below 1970.
    pub fn log_time(&self) -> Timestamp {
        self.log_time
    }
}

fn read<'a>(entry: Entry<'a>) -> Result<(&'a [u8], &'a [u8], Frame), VoidReason> {
    let key = entry.key.ok_or(VoidReason::NullKey)?;
    let value = entry.value.ok_or(VoidReason::NullValue)?;
    Ok((key, value, Frame::read(value)?))
}

impl VoidReason {
    /// Short and stable: what reports count by.
    pub fn name(self) -> &'static str {
        match self {
            Self::NullKey => "null_key",
            Self::NullValue => "null_value",
            Self::Malformed(malformed) => malformed.name(),
            Self::KeyForbidden => "key_forbidden",
            Self::KeyMissing => "key_missing",
            Self::AnnouncementSeq { .. } => "announcement_seq",
            Self::AnnouncementTooLate { .. } => "announcement_too_late",
            Self::OtherTerm { .. } => "other_term",
            Self::SeqRepeated { .. } => "seq_repeated",
            Self::SeqGap { .. } => "seq_gap",
        }
    }
}

impl AlarmReason {
    /// Short and stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChainBroken { .. } => "chain_broken",
            Self::OffsetWentBack { .. } => "offset_went_back",
            Self::AnnouncementSkipsEpoch { .. } => "announcement_skips_epoch",
            Self::BeforeFirstTerm => "before_first_term",
            Self::FutureEpoch { .. } => "future_epoch",
            Self::TermUnknown { .. } => "term_unknown",
            Self::NewerRule { .. } => "newer_rule",
            Self::Altered { .. } => "altered",
        }
    }
}
