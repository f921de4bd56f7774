//! Checks one partition: the void rule, the chain, gapless versions, unique commands, readable bodies.
//!
//! Keeps no records: a number per aggregate, an entry per command id that has not expired, and the
//! first findings.

use crate::{
    body::Decision,
    command_ids::CommandIds,
    evidence::{Evidence, Note},
    finding::{Finding, Place, Problem},
    frame::{Frame, Kind},
    model::{Entry, Model, Verdict},
    schemas_seen::Known,
};
use std::collections::{BTreeMap, HashMap};

/// Most findings of a partition that are kept word by word; all are counted.
const FINDINGS_KEPT_MAX: usize = 100;

/// A partition under examination.
#[derive(Debug)]
pub struct PartitionCheck {
    place: Place,
    model: Model,
    evidence: Evidence,
    commands: CommandIds,
    /// Events of each aggregate so far, by key; `None` after a decision that could not be read.
    versions: HashMap<Box<[u8]>, Option<i64>>,
    counts: Counts,
    findings: Vec<Finding>,
    findings_total: u64,
    is_halted: bool,
}

/// What was counted in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Valid announcements, which are as many as epochs.
    pub announcements: u64,
    /// Valid no-ops.
    pub no_ops: u64,
    /// Valid decisions.
    pub decisions: u64,
    /// Events of valid decisions.
    pub events: u64,
    /// Void records by reason.
    pub void: BTreeMap<&'static str, u64>,
    /// Records behind an alarm, which nobody can judge.
    pub not_judged: u64,
}

/// What a partition came to.
#[derive(Debug, Clone)]
pub struct PartitionReport {
    /// Which one.
    pub place: Place,
    /// What was counted.
    pub counts: Counts,
    /// Aggregates with at least one decision.
    pub aggregates: usize,
    /// h(1), if there is one.
    pub log_id: Option<[u8; 32]>,
    /// The offset of the last valid record.
    pub last_valid: Option<i64>,
    /// h(n) of the last valid record.
    pub last_hash: [u8; 32],
    /// The least offset that comes next.
    pub next_offset: i64,
    /// What is wrong: the first ones.
    pub findings: Vec<Finding>,
    /// How many things are wrong.
    pub findings_total: u64,
    /// What was seen that is not wrong by itself.
    pub notes: Vec<Note>,
}

impl PartitionCheck {
    /// Of a partition that nothing was read of.
    pub fn new(topic: &str, partition: i32) -> Self {
        let place = Place {
            topic: topic.to_owned(),
            partition,
        };
        Self {
            place,
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

    /// Takes the next record. Gives the frame of a valid decision, whose body is then to be given to
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
                    self.find(Some(entry.offset), problem);
                }
            }
            Err(alarm) => {
                self.counts.not_judged += 1;
                let reason = alarm.reason;
                let suspect = self.evidence.alarm(entry, reason);
                self.find(Some(entry.offset), Problem::Alarm { reason, suspect });
                self.is_halted = true;
            }
        }
        None
    }

    /// Takes the body of the valid decision that was judged last.
    pub fn decision(&mut self, entry: Entry<'_>, frame: &Frame, schema: Known) {
        let value = entry.value.unwrap_or_default();
        let decision =
            schema.and_then(|schema| schema.decision(value).map_err(|error| error.to_string()));
        let key: Box<[u8]> = entry.key.unwrap_or_default().into();
        match decision {
            Ok(decision) => self.readable(entry.offset, key, &decision),
            Err(reason) => {
                // How many events it holds is unknown, and so is the version after it.
                self.versions.insert(key, None);
                let schema_id = frame.schema_id;
                self.find(
                    Some(entry.offset),
                    Problem::Undecodable { schema_id, reason },
                );
            }
        }
    }

    fn readable(&mut self, offset: i64, key: Box<[u8]>, decision: &Decision) {
        let events = i64::try_from(decision.events.len()).unwrap_or(i64::MAX);
        self.counts.events += decision.events.len() as u64;
        let log_time = self.model.log_time();
        if let Some(first) =
            self.commands
                .take(decision.command_id, &decision.origin, log_time, offset)
        {
            let command_id = hex::encode(decision.command_id);
            self.find(Some(offset), Problem::CommandTwice { command_id, first });
        }
        let after = Some(decision.version.saturating_add(events));
        let text = String::from_utf8_lossy(&key).into_owned();
        // A gap is reported once: the versions go on from what this decision says.
        let before = self.versions.insert(key, after).unwrap_or(Some(0));
        match before {
            Some(expected) if expected != decision.version => {
                let problem = Problem::VersionGap {
                    key: text,
                    expected,
                    found: decision.version,
                };
                self.find(Some(offset), problem);
            }
            Some(_) | None => {}
        }
    }

    /// Adds what was found outside.
    pub fn find(&mut self, offset: Option<i64>, problem: Problem) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_KEPT_MAX {
            let place = Some(self.place.clone());
            self.findings.push(Finding {
                place,
                offset,
                problem,
            });
        }
    }

    /// How far the rule has read.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.counts.records
    }

    /// Where an alteration shows first: a record, and in words.
    pub fn first_trace(&self) -> (Option<i64>, String) {
        let findings = self.findings.iter();
        let found = findings.flat_map(|finding| [finding.problem.since(), finding.offset]);
        let noted = self.evidence.notes().iter().map(|note| note.offset);
        if let Some(offset) = found.flatten().chain(noted).min() {
            return (Some(offset), "its first trace is here".to_owned());
        }
        match self.model.last_valid() {
            Some(last) => (
                Some(last),
                "all is well up to the last valid record, which is this one".to_owned(),
            ),
            None => (None, "there is no valid record".to_owned()),
        }
    }

    /// What it came to.
    pub fn finish(self) -> PartitionReport {
        PartitionReport {
            place: self.place,
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
    /// Valid records.
    pub fn valid(&self) -> u64 {
        self.announcements + self.commits()
    }

    /// Valid commits: no-ops and decisions.
    pub fn commits(&self) -> u64 {
        self.no_ops + self.decisions
    }

    /// Void records of any reason.
    pub fn void_total(&self) -> u64 {
        self.void.values().sum()
    }
}
