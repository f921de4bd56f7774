//! Checks one partition: the void rule, the hash chain, gapless versions, unique command ids, readable
//! bodies, and keys that match their aggregates' types.
//!
//! Records are not kept. Memory holds a version per aggregate, an entry per command id that has not
//! expired, and the first findings.

use crate::{
    body::Decision,
    command_ids::CommandIds,
    evidence::{Evidence, Note},
    finding::{Finding, Problem, TopicPartition},
    frame::{Frame, Kind},
    model::{Entry, Model, Verdict},
    schemas_seen::Known,
};
use schemas::ids;
use std::collections::{BTreeMap, HashMap};

/// Maximum number of findings that are kept per partition; all findings are counted.
const FINDINGS_KEPT_MAX: usize = 100;

/// The check of one partition in progress.
#[derive(Debug)]
pub struct PartitionCheck {
    name: TopicPartition,
    model: Model,
    evidence: Evidence,
    commands: CommandIds,
    /// Number of events of each aggregate so far, by key; `None` after a decision that can't be read.
    versions: HashMap<Box<[u8]>, Option<i64>>,
    counts: Counts,
    findings: Vec<Finding>,
    findings_total: u64,
    is_halted: bool,
}

/// Numbers of records and events of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Valid announcements; each begins an epoch.
    pub announcements: u64,
    /// Valid no-ops.
    pub no_ops: u64,
    /// Valid decisions.
    pub decisions: u64,
    /// Events of valid decisions.
    pub events: u64,
    /// Void records by reason.
    pub void: BTreeMap<&'static str, u64>,
    /// Records from the first alarm on, which the rule can't judge.
    pub not_judged: u64,
}

/// The result of checking a partition.
#[derive(Debug, Clone)]
pub struct PartitionReport {
    /// The partition.
    pub name: TopicPartition,
    /// Numbers of records and events.
    pub counts: Counts,
    /// Aggregates with at least one decision.
    pub aggregates: usize,
    /// h(1); `None` before the first valid record.
    pub log_id: Option<[u8; 32]>,
    /// The offset of the last valid record.
    pub last_valid: Option<i64>,
    /// h(n) of the last valid record.
    pub last_hash: [u8; 32],
    /// The lowest possible offset of the next record.
    pub next_offset: i64,
    /// The first findings.
    pub findings: Vec<Finding>,
    /// Number of all findings.
    pub findings_total: u64,
    /// Observations that are not faults by themselves.
    pub notes: Vec<Note>,
}

impl PartitionCheck {
    /// Creates a check that starts at the partition's first record.
    pub fn new(topic: &str, partition: i32) -> Self {
        let name = TopicPartition {
            topic: topic.to_owned(),
            partition,
        };
        Self {
            name,
            model: Model::new(topic, partition),
            evidence: Evidence::default(),
            commands: CommandIds::default(),
            versions: HashMap::new(),
            counts: Counts::default(),
            findings: Vec::new(),
            findings_total: 0,
            is_halted: false,
        }
    }

    /// Checks the next record. Returns the frame of a valid decision; the caller then passes the decision to
    /// [`Self::decision`].
    pub fn record(&mut self, entry: Entry<'_>) -> Option<Frame> {
        self.counts.records += 1;
        if self.is_halted {
            self.counts.not_judged += 1;
            return None;
        }
        self.evidence.before(&self.model, entry.offset);
        match self.model.judge(entry) {
            Ok(Verdict::Valid(frame)) => {
                self.evidence.valid(entry.offset, &frame);
                match frame.kind {
                    Kind::Announcement(_) => self.counts.announcements += 1,
                    Kind::NoOp => self.counts.no_ops += 1,
                    Kind::Decision => {
                        self.counts.decisions += 1;
                        return Some(frame);
                    }
                }
            }
            Ok(Verdict::Void(void)) => {
                *self.counts.void.entry(void.reason.name()).or_default() += 1;
                if let Some(problem) = self.evidence.void(&self.model, entry, &void) {
                    self.report(Some(entry.offset), problem);
                }
            }
            Err(alarm) => {
                self.counts.not_judged += 1;
                let reason = alarm.reason;
                let suspect = self.evidence.alarm(entry, reason);
                self.report(Some(entry.offset), Problem::Alarm { reason, suspect });
                self.is_halted = true;
            }
        }
        None
    }

    /// Checks the body of the valid decision that [`Self::record`] returned last.
    pub fn decision(&mut self, entry: Entry<'_>, frame: &Frame, schema: Known) {
        let value = entry.value.unwrap_or_default();
        let decision =
            schema.and_then(|schema| schema.decision(value).map_err(|error| error.to_string()));
        let key: Box<[u8]> = entry.key.unwrap_or_default().into();
        match decision {
            Ok(decision) => {
                self.key(entry.offset, &key, &decision.aggregate_type);
                self.decoded(entry.offset, key, &decision);
            }
            Err(reason) => {
                self.unread_decision(entry);
                let schema_id = frame.schema_id;
                self.report(
                    Some(entry.offset),
                    Problem::Undecodable { schema_id, reason },
                );
            }
        }
    }

    /// Skips a decision that [`Self::record`] returned, because its body can't be decoded.
    pub fn unread_decision(&mut self, entry: Entry<'_>) {
        // Its number of events is unknown, so the aggregate's next version is unknown too.
        let key = entry.key.unwrap_or_default().into();
        self.versions.insert(key, None);
    }

    /// Checks that the key has the decision's aggregate type.
    fn key(&mut self, offset: i64, key: &[u8], aggregate_type: &str) {
        let text = std::str::from_utf8(key).ok();
        let key_type = text.and_then(ids::split_key).map(|(key_type, _)| key_type);
        if key_type != Some(aggregate_type) {
            let problem = Problem::KeyOfAnotherType {
                key: String::from_utf8_lossy(key).into_owned(),
                aggregate_type: aggregate_type.to_owned(),
            };
            self.report(Some(offset), problem);
        }
    }

    fn decoded(&mut self, offset: i64, key: Box<[u8]>, decision: &Decision) {
        let events = i64::try_from(decision.events.len()).unwrap_or(i64::MAX);
        self.counts.events += decision.events.len() as u64;
        let log_time = self.model.log_time();
        if let Some(first) =
            self.commands
                .insert(decision.command_id, &decision.origin, log_time, offset)
        {
            let command_id = hex::encode(decision.command_id);
            self.report(Some(offset), Problem::CommandTwice { command_id, first });
        }
        let after = Some(decision.version.saturating_add(events));
        let text = String::from_utf8_lossy(&key).into_owned();
        // A gap is reported once: the next expected version follows from this decision's.
        let before = self.versions.insert(key, after).unwrap_or(Some(0));
        match before {
            Some(expected) if expected != decision.version => {
                let problem = Problem::VersionGap {
                    key: text,
                    expected,
                    found: decision.version,
                };
                self.report(Some(offset), problem);
            }
            Some(_) | None => {}
        }
    }

    /// Adds a finding of this check or of its caller.
    pub fn report(&mut self, offset: Option<i64>, problem: Problem) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_KEPT_MAX {
            let partition = Some(self.name.clone());
            self.findings.push(Finding {
                partition,
                offset,
                problem,
            });
        }
    }

    /// The rule's state.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Number of records read so far.
    pub fn records(&self) -> u64 {
        self.counts.records
    }

    /// The first record that shows an alteration, and a sentence about it.
    pub fn first_trace(&self) -> (Option<i64>, String) {
        let findings = self.findings.iter();
        let found = findings.flat_map(|finding| [finding.problem.since(), finding.offset]);
        let noted = self.evidence.notes().iter().map(|note| note.offset);
        if let Some(offset) = found.flatten().chain(noted).min() {
            return (
                Some(offset),
                "the first trace of the alteration is this record".to_owned(),
            );
        }
        match self.model.last_valid() {
            Some(last) => (
                Some(last),
                "no trace of the alteration up to this record, the last valid one".to_owned(),
            ),
            None => (None, "there is no valid record".to_owned()),
        }
    }

    /// Ends the check.
    pub fn finish(self) -> PartitionReport {
        PartitionReport {
            name: self.name,
            counts: self.counts,
            aggregates: self.versions.len(),
            log_id: self.model.log_id(),
            last_valid: self.model.last_valid(),
            last_hash: self.model.hash(),
            next_offset: self.model.next_offset(),
            findings: self.findings,
            findings_total: self.findings_total,
            notes: self.evidence.notes().to_vec(),
        }
    }
}

impl Counts {
    /// Number of valid records.
    pub fn valid(&self) -> u64 {
        self.announcements + self.commits()
    }

    /// Number of valid commits: no-ops and decisions.
    pub fn commits(&self) -> u64 {
        self.no_ops + self.decisions
    }

    /// Number of void records, for any reason.
    pub fn void_total(&self) -> u64 {
        self.void.values().sum()
    }
}
