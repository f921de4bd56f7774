//! The reference model: the state that a log has, computed without the owner's code from the void rule's
//! verdicts and a fold of its own.

use crate::{
    broker::PARTITION,
    coverage::{Coverage, CoveragePoint},
    machine::{Invocation, VALUE_MAX},
    record::StoredRecord,
};
use futures_util::FutureExt;
use journal::{
    checkpoint::Checkpoint,
    probe::Event,
    rule::{Rule, Verdict},
};
use kafka::{Decoder, Registry};
use schemas::{Body, Commit, ContextEvent, Decision};
use std::collections::{BTreeMap, BTreeSet};

/// A valid decision.
#[derive(Debug)]
pub(super) struct Decided {
    pub offset: i64,
    pub key: String,
    pub recorded_at: i64,
    pub decision: Decision<Event>,
    /// The counter's value before it.
    pub before: Option<i64>,
}

/// An aggregate after a commit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub offset: i64,
    pub version: i64,
    pub value: Option<i64>,
}

/// The reference model of a log.
pub(super) struct ReferenceModel {
    /// Valid records, by offset.
    pub valid: BTreeMap<i64, Commit<Event>>,
    pub decisions: Vec<Decided>,
    /// Each aggregate after each commit that changed it.
    pub steps: BTreeMap<String, Vec<Step>>,
    /// Offset and term of each valid announcement, by epoch.
    pub announcements: BTreeMap<i64, (i64, [u8; 16])>,
    /// The rule's state before each offset, and at the end.
    pub states: Vec<Checkpoint>,
    pub void: u64,
    /// Violations of the rule or of the fold.
    pub violations: Vec<String>,
    pub coverage: Coverage,
}

impl ReferenceModel {
    pub fn of(records: &[StoredRecord], registry: &Registry) -> Self {
        let mut model = Self {
            valid: BTreeMap::new(),
            decisions: Vec::new(),
            steps: BTreeMap::new(),
            announcements: BTreeMap::new(),
            states: Vec::with_capacity(records.len() + 1),
            void: 0,
            violations: Vec::new(),
            coverage: Coverage::default(),
        };
        let decoder = Decoder::new(registry.clone());
        let mut rule = Rule::new(Event::CONTEXT.topic, PARTITION);
        let mut appended = BTreeSet::new();
        for (offset, record) in (0_i64..).zip(records) {
            model.states.push(rule.checkpoint());
            let decoded = decoder
                .decode::<Commit<Event>>(&record.value)
                .now_or_never();
            let Some(Ok(commit)) = decoded else {
                model.violations.push(format!("@{offset} can't be decoded"));
                continue;
            };
            if let Body::Decision(decision) = &commit.body {
                let id = decision.command_id;
                let is_new = appended.insert((id, commit.term, commit.seq));
                let of_id = appended.range((id, [0; 16], 0)..=(id, [u8::MAX; 16], i64::MAX));
                if is_new && of_id.count() > 1 {
                    model.coverage.count(CoveragePoint::Redecision, 1);
                }
            }
            match rule.judge(offset, Some(&record.key), Some(&record.value)) {
                Ok(Verdict::Valid(_)) => model.take(offset, record, commit),
                Ok(Verdict::Void(reason)) => model.skip(reason.name()),
                Err(alarm) => {
                    model
                        .violations
                        .push(format!("the rule raises an alarm: {alarm}"));
                    break;
                }
            }
        }
        model.states.push(rule.checkpoint());
        model
    }

    fn skip(&mut self, reason: &str) {
        self.void += 1;
        self.coverage.count(CoveragePoint::VoidRecord, 1);
        match reason {
            "other_term" => self.coverage.count(CoveragePoint::ZombieRecord, 1),
            "seq_gap" => self.coverage.count(CoveragePoint::GapRecord, 1),
            "seq_repeated" => self.coverage.count(CoveragePoint::DoubleRecord, 1),
            "announcement_too_late" => self.coverage.count(CoveragePoint::LostAnnouncement, 1),
            _ => {}
        }
    }

    fn take(&mut self, offset: i64, record: &StoredRecord, commit: Commit<Event>) {
        self.coverage.count(CoveragePoint::Commit, 1);
        match &commit.body {
            Body::Announcement(_) => {
                self.announcements
                    .insert(commit.epoch, (offset, commit.term));
            }
            Body::NoOp(_) => self.coverage.count(CoveragePoint::NoOp, 1),
            Body::Decision(decision) => {
                let key = String::from_utf8_lossy(&record.key).into_owned();
                self.fold(offset, key, commit.recorded_at.0, decision.clone());
            }
        }
        self.valid.insert(offset, commit);
    }

    fn fold(&mut self, offset: i64, key: String, recorded_at: i64, decision: Decision<Event>) {
        let steps = self.steps.entry(key.clone()).or_default();
        let Step { version, value, .. } = steps.last().copied().unwrap_or_default();
        if decision.version != version {
            let found = decision.version;
            self.violations.push(format!(
                "@{offset} says that {key} has version {found}, it has {version}"
            ));
        }
        let mut now = value;
        for event in &decision.events {
            let Event::CounterChanged(change) = event else {
                self.violations
                    .push(format!("@{offset} has an event that no command causes"));
                continue;
            };
            let old = change.old;
            if old != now {
                self.violations.push(format!(
                    "@{offset} says that {key} had {old:?}, it had {now:?}"
                ));
            }
            now = Some(change.new);
        }
        if !decision.events.is_empty() {
            let count = i64::try_from(decision.events.len()).expect("few events");
            steps.push(Step {
                offset,
                version: version + count,
                value: now,
            });
        }
        self.decisions.push(Decided {
            offset,
            key,
            recorded_at,
            decision,
            before: value,
        });
    }

    /// The states of an aggregate between two ends of the log, both included.
    pub fn between(&self, key: &str, from: i64, to: i64) -> Vec<Step> {
        let steps = self.steps.get(key).map_or(&[][..], Vec::as_slice);
        let before = steps.partition_point(|step| step.offset < from);
        let first = match before {
            0 => Step::default(),
            count => steps[count - 1],
        };
        let later = steps[before..].iter().take_while(|step| step.offset < to);
        std::iter::once(first).chain(later.copied()).collect()
    }

    /// Log time before an offset.
    pub fn log_time(&self, end: i64) -> i64 {
        let index = usize::try_from(end).unwrap_or(0).min(self.states.len() - 1);
        self.states[index].log_time.0
    }
}

/// The right result of a command: the new values, or the rejection's code. This is a second implementation of
/// the counters' rules.
pub(super) fn right_result(
    invocation: &Invocation,
    before: Option<i64>,
) -> Result<Vec<i64>, &'static str> {
    let value = before.unwrap_or(0);
    match *invocation {
        Invocation::Raise { steps } => match value + steps <= VALUE_MAX {
            true => Ok((value + 1..=value + steps).collect()),
            false => Err("TOO_HIGH"),
        },
        Invocation::Lower { by } => match by <= value {
            true => Ok(vec![value - by]),
            false => Err("TOO_LOW"),
        },
        Invocation::Set { value } => match before == Some(value) {
            true => Err("ALREADY_SO"),
            false => Ok(vec![value]),
        },
    }
}
