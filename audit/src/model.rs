//! A second implementation of the void rule: judges the records of one partition one by one.
//!
//! It deliberately shares no code with the writers' implementation, so that each checks the other; both are tested
//! with the vectors in `schemas/golden/journal`. Pure: the caller passes the records in the order of their
//! offsets, starting with the first, and gets a verdict for each.

use crate::frame::{Frame, Kind, Malformed, PREV_BYTES};
use schemas::Timestamp;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The version of the rule that this module implements.
const KNOWN_RULE_VERSION: i32 = 1;
/// Prefix of topic and partition in h(0).
const CHAIN_NAME: &[u8] = b"daybook/1";

/// One record of a partition, borrowed from a consumer's record or a copy's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// The broker's timestamp, in milliseconds since 1970; -1 if unknown.
    pub timestamp_ms: i64,
    /// The key; null and empty differ.
    pub key: Option<&'a [u8]>,
    /// The value; null and empty differ.
    pub value: Option<&'a [u8]>,
}

/// The rule's verdict on one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The record counts, and the chain includes it.
    Valid(Frame),
    /// The record does not count.
    Void(Void),
}

/// A record that does not count.
#[derive(Debug, Clone, PartialEq)]
pub struct Void {
    /// The reason.
    pub reason: VoidReason,
    /// Its frame, if it is readable.
    pub frame: Option<Frame>,
}

/// The reason why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoidReason {
    /// Keys may be empty, never null.
    #[error("the key is null")]
    NullKey,
    /// A journal has no tombstones.
    #[error("the value is null")]
    NullValue,
    /// The bytes are not a commit.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Announcements and no-ops belong to no aggregate.
    #[error("an announcement or a no-op has a key")]
    KeyForbidden,
    /// A decision belongs to one aggregate.
    #[error("a decision has no key")]
    KeyMissing,
    /// An announcement is its term's first record.
    #[error("an announcement has seq {seq}, not 0")]
    AnnouncementSeq {
        /// Its seq.
        seq: i64,
    },
    /// Another owner took the epoch first, or the producer sent the announcement twice.
    #[error("an announcement of epoch {found} while epoch {current} is current")]
    AnnouncementTooLate {
        /// The current epoch.
        current: i64,
        /// Its epoch.
        found: i64,
    },
    /// The record was written by a fenced owner, or by no owner.
    #[error("its epoch, {epoch}, has ended")]
    OtherTerm {
        /// Its epoch.
        epoch: i64,
    },
    /// A duplicate.
    #[error("seq {found} is used already; {expected} is next")]
    SeqRepeated {
        /// The next seq.
        expected: i64,
        /// Its seq.
        found: i64,
    },
    /// A commit before it is missing.
    #[error("seq {found} instead of {expected}")]
    SeqGap {
        /// The next seq.
        expected: i64,
        /// Its seq.
        found: i64,
    },
}

/// The log was altered or truncated, or continues with a later version of the rule: records from here on
/// can't be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic} partition {partition} offset {offset}: {reason}")]
pub struct Alarm {
    /// The journal's topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The reason.
    pub reason: AlarmReason,
}

/// The reason why no unaltered log has this record, or why this program can't judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AlarmReason {
    /// The next commit's `prev` is not the hash of the records read so far.
    #[error("the chain is broken: {}", suspects(*.since, *.is_predecessor))]
    ChainBroken {
        /// Offset of the first valid record that no later commit has confirmed.
        since: i64,
        /// Whether no valid record lies between the record at `since` and the alarm's record.
        is_predecessor: bool,
    },
    /// A record was delivered twice, or the log became shorter.
    #[error("the offset went back; the next one is {next} at least")]
    OffsetWentBack {
        /// The lowest possible next offset.
        next: i64,
    },
    /// Epochs are announced one by one, by owners that have read the previous announcement.
    #[error("an announcement of epoch {found} while epoch {current} is current")]
    AnnouncementSkipsEpoch {
        /// The current epoch.
        current: i64,
        /// Its epoch.
        found: i64,
    },
    /// An owner commits only after it has read its own announcement, but no announcement precedes this commit.
    #[error("a commit before any announcement")]
    BeforeFirstTerm,
    /// The log has no announcement of the commit's epoch, which is above the current one.
    #[error("a commit of epoch {found} while epoch {current} is current")]
    FutureEpoch {
        /// The current epoch.
        current: i64,
        /// Its epoch.
        found: i64,
    },
    /// The commit has the current epoch, but not the term that announced this epoch.
    #[error("a commit of epoch {epoch} has another term than the epoch's announcement")]
    TermUnknown {
        /// The current epoch.
        epoch: i64,
    },
    /// The record was written as the next commit, because its `prev` is the chain's current hash, but it would be
    /// void by the rule.
    #[error("the record was altered: its prev is the chain's current hash, but {reason}")]
    Altered {
        /// The reason why it would be void.
        reason: VoidReason,
    },
    /// The log may be intact, but this program is too old to judge it.
    #[error(
        "version {found} of the rule begins here, and this program knows version {known}; use a newer program"
    )]
    NewerRule {
        /// The version that this program knows.
        known: i32,
        /// The version that the announcement names.
        found: i32,
    },
}

/// The reason why a record is not valid: it is void, or an alarm.
enum Rejected {
    Void(VoidReason),
    Alarm(AlarmReason),
}

/// The records that may have been altered, if the chain is broken.
fn suspects(since: i64, is_predecessor: bool) -> String {
    match is_predecessor {
        true => format!("the record, or its predecessor at offset {since}, was altered"),
        false => format!("the record, or a valid record from offset {since} on, was altered"),
    }
}

/// The rule's state of a partition after a prefix of its log.
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

/// One owner's term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The term's random id.
    pub id: [u8; 16],
    /// The term's number.
    pub epoch: i64,
    /// The seq of the term's last valid record.
    pub seq: i64,
}

/// h(0): the start of the chain, which binds it to its partition.
pub fn first_hash(topic: &str, partition: i32) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CHAIN_NAME);
    hasher.update(&length(topic.as_bytes()));
    hasher.update(topic.as_bytes());
    hasher.update(&partition.to_be_bytes());
    hasher.finalize().into()
}

/// h(n) of a valid record: `before` is h(n-1), `value` includes the wire header.
pub fn next_hash(before: &Hash, key: &[u8], value: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&length(key));
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().into()
}

fn length(bytes: &[u8]) -> [u8; 4] {
    let length = u32::try_from(bytes.len()).expect("no Kafka record has 4 GiB");
    length.to_be_bytes()
}

impl Model {
    /// The state before the partition's first record.
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

    /// Judges the next record. Offsets may skip, because the control records of a foreign transactional
    /// producer take offsets that no consumer sees; they never go back. An alarm leaves the state unchanged;
    /// the caller must not read the partition any further.
    pub fn judge(&mut self, entry: Entry<'_>) -> Result<Verdict, Alarm> {
        if entry.offset < self.next_offset {
            let next = self.next_offset;
            return Err(self.alarm(entry.offset, AlarmReason::OffsetWentBack { next }));
        }
        let verdict = match read(entry) {
            Err(reason) => Verdict::Void(self.void(entry, reason, None)?),
            Ok((key, value, frame)) => match self.rejected(key, &frame) {
                Some(Rejected::Void(reason)) => {
                    Verdict::Void(self.void(entry, reason, Some(frame))?)
                }
                Some(Rejected::Alarm(reason)) => return Err(self.alarm(entry.offset, reason)),
                None => {
                    self.check_chain(entry.offset, &frame)?;
                    self.advance(entry.offset, key, value, &frame);
                    Verdict::Valid(frame)
                }
            },
        };
        self.next_offset = entry.offset.saturating_add(1);
        Ok(verdict)
    }

    /// The verdict on a void record; an alarm if its `prev` is the chain's current hash.
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

    /// All conditions of the rule except the chain; `None` if the record meets them.
    fn rejected(&self, key: &[u8], frame: &Frame) -> Option<Rejected> {
        let has_key = !key.is_empty();
        let announcement = match &frame.kind {
            Kind::Announcement(_) | Kind::NoOp if has_key => {
                return Some(Rejected::Void(VoidReason::KeyForbidden));
            }
            Kind::Decision if !has_key => return Some(Rejected::Void(VoidReason::KeyMissing)),
            Kind::Announcement(announcement) => Some(announcement),
            Kind::NoOp | Kind::Decision => None,
        };
        match announcement {
            Some(announcement) => self.announcement_rejected(frame, announcement.rule_version),
            None => self.commit_rejected(frame),
        }
    }

    fn commit_rejected(&self, frame: &Frame) -> Option<Rejected> {
        let found = frame.epoch;
        let Some(term) = self.term else {
            return Some(Rejected::Alarm(AlarmReason::BeforeFirstTerm));
        };
        let current = term.epoch;
        if found < current {
            return Some(Rejected::Void(VoidReason::OtherTerm { epoch: found }));
        }
        if found > current {
            return Some(Rejected::Alarm(AlarmReason::FutureEpoch { current, found }));
        }
        if frame.term != term.id {
            return Some(Rejected::Alarm(AlarmReason::TermUnknown { epoch: current }));
        }
        let (found, expected) = (frame.seq, term.seq.saturating_add(1));
        if found <= term.seq {
            return Some(Rejected::Void(VoidReason::SeqRepeated { expected, found }));
        }
        (found != expected).then_some(Rejected::Void(VoidReason::SeqGap { expected, found }))
    }

    fn announcement_rejected(&self, frame: &Frame, rule_version: i32) -> Option<Rejected> {
        let (current, found) = (self.epoch(), frame.epoch);
        if frame.seq != 0 {
            let reason = VoidReason::AnnouncementSeq { seq: frame.seq };
            return Some(Rejected::Void(reason));
        }
        if found <= current {
            let reason = VoidReason::AnnouncementTooLate { current, found };
            return Some(Rejected::Void(reason));
        }
        // `current + 1` can't overflow, because `found` is greater.
        if found != current + 1 {
            let reason = AlarmReason::AnnouncementSkipsEpoch { current, found };
            return Some(Rejected::Alarm(reason));
        }
        (rule_version > KNOWN_RULE_VERSION).then_some(Rejected::Alarm(AlarmReason::NewerRule {
            known: KNOWN_RULE_VERSION,
            found: rule_version,
        }))
    }

    /// Checks the chain. A commit confirms all records before it; an announcement confirms no record.
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

    fn advance(&mut self, offset: i64, key: &[u8], value: &[u8], frame: &Frame) {
        self.previous_hash = self.hash;
        self.hash = next_hash(&self.hash, key, value);
        self.log_id.get_or_insert(self.hash);
        self.term = Some(Term {
            id: frame.term,
            epoch: frame.epoch,
            seq: frame.seq,
        });
        // An announcement's time does not count: the owner checks its clock only before its first commit.
        if !frame.is_announcement() {
            self.log_time = self.log_time.max(frame.recorded_at);
        }
        self.last_valid = Some(offset);
        if !frame.is_announcement() || self.unconfirmed.is_none() {
            self.unconfirmed = Some(offset);
        }
    }

    /// The current term.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// The current term's number; 0 before the first.
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

    /// h(1); `None` before the first valid record.
    pub fn log_id(&self) -> Option<Hash> {
        self.log_id
    }

    /// The lowest possible offset of the next record.
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
    /// A short name that never changes; reports count by it.
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
    /// A short name that never changes.
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
