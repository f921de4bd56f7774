//! What a log says, worked out without any of the owner's code: the void rule's verdicts, and a fold of
//! its own over them.

use super::{
    broker::{Kept, PARTITION},
    machine::{Ask, PRICE_MAX},
    tally::{Happening, Tally},
};
use crate::{
    checkpoint::Checkpoint,
    rule::{Rule, Verdict},
};
use futures_util::FutureExt;
use kafka::{Decoder, Registry};
use schemas::{Body, Commit, ContextEvent, Decision, catalog::Event};
use std::collections::{BTreeMap, BTreeSet};

/// A valid decision.
#[derive(Debug)]
pub(super) struct Decided {
    pub offset: i64,
    pub key: String,
    pub recorded_at: i64,
    pub decision: Decision<Event>,
    /// The price before it.
    pub before: Option<i64>,
}

/// An aggregate after a commit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub offset: i64,
    pub version: i64,
    pub price: Option<i64>,
}

/// A log's truth.
pub(super) struct Truth {
    /// Valid records, by offset.
    pub valid: BTreeMap<i64, Commit<Event>>,
    pub decisions: Vec<Decided>,
    /// What each aggregate was, after each commit that changed it.
    pub steps: BTreeMap<String, Vec<Step>>,
    /// Offset and term of each valid announcement, by epoch.
    pub announcements: BTreeMap<i64, (i64, [u8; 16])>,
    /// The rule's state before each offset, and at the end.
    pub states: Vec<Checkpoint>,
    pub void: u64,
    /// What the rule or the fold does not allow.
    pub faults: Vec<String>,
    pub tally: Tally,
}

impl Truth {
    pub fn of(records: &[Kept], registry: &Registry) -> Self {
        let mut truth = Self {
            valid: BTreeMap::new(),
            decisions: Vec::new(),
            steps: BTreeMap::new(),
            announcements: BTreeMap::new(),
            states: Vec::with_capacity(records.len() + 1),
            void: 0,
            faults: Vec::new(),
            tally: Tally::default(),
        };
        let decoder = Decoder::new(registry.clone());
        let mut rule = Rule::new(Event::CONTEXT.topic, PARTITION);
        let mut appended = BTreeSet::new();
        for (offset, record) in (0_i64..).zip(records) {
            truth.states.push(rule.checkpoint());
            let decoded = decoder
                .decode::<Commit<Event>>(&record.value)
                .now_or_never();
            let Some(Ok(commit)) = decoded else {
                truth.faults.push(format!("@{offset} can't be decoded"));
                continue;
            };
            if let Body::Decision(decision) = &commit.body {
                let id = decision.command_id;
                let is_new = appended.insert((id, commit.term, commit.seq));
                let of_id = appended.range((id, [0; 16], 0)..=(id, [u8::MAX; 16], i64::MAX));
                if is_new && of_id.count() > 1 {
                    truth.tally.count(Happening::Redecision, 1);
                }
            }
            match rule.judge(offset, Some(&record.key), Some(&record.value)) {
                Ok(Verdict::Valid(_)) => truth.take(offset, record, commit),
                Ok(Verdict::Void(reason)) => truth.skip(reason.name()),
                Err(alarm) => {
                    truth
                        .faults
                        .push(format!("the rule raises an alarm: {alarm}"));
                    break;
                }
            }
        }
        truth.states.push(rule.checkpoint());
        truth
    }

    fn skip(&mut self, reason: &str) {
        self.void += 1;
        self.tally.count(Happening::VoidRecord, 1);
        match reason {
            "other_term" => self.tally.count(Happening::ZombieRecord, 1),
            "seq_gap" => self.tally.count(Happening::GapRecord, 1),
            "seq_repeated" => self.tally.count(Happening::DoubleRecord, 1),
            "announcement_too_late" => self.tally.count(Happening::LostAnnouncement, 1),
            _ => {}
        }
    }

    fn take(&mut self, offset: i64, record: &Kept, commit: Commit<Event>) {
        self.tally.count(Happening::Commit, 1);
        match &commit.body {
            Body::Announcement(_) => {
                self.announcements
                    .insert(commit.epoch, (offset, commit.term));
            }
            Body::NoOp(_) => self.tally.count(Happening::NoOp, 1),
            Body::Decision(decision) => {
                let key = String::from_utf8_lossy(&record.key).into_owned();
                self.fold(offset, key, commit.recorded_at.0, decision.clone());
            }
        }
        self.valid.insert(offset, commit);
    }

    fn fold(&mut self, offset: i64, key: String, recorded_at: i64, decision: Decision<Event>) {
        let steps = self.steps.entry(key.clone()).or_default();
        let Step { version, price, .. } = steps.last().copied().unwrap_or_default();
        if decision.version != version {
            let found = decision.version;
            self.faults.push(format!(
                "@{offset} says that {key} has version {found}, it has {version}"
            ));
        }
        let mut now = price;
        for event in &decision.events {
            let Event::ProductPriceChanged(change) = event else {
                self.faults
                    .push(format!("@{offset} has an event that nobody asked for"));
                continue;
            };
            let old = change.old.map(|old| old.amount);
            if old != now {
                self.faults.push(format!(
                    "@{offset} says that {key} cost {old:?}, it cost {now:?}"
                ));
            }
            now = Some(change.new.amount);
        }
        if !decision.events.is_empty() {
            let count = i64::try_from(decision.events.len()).expect("few events");
            steps.push(Step {
                offset,
                version: version + count,
                price: now,
            });
        }
        self.decisions.push(Decided {
            offset,
            key,
            recorded_at,
            decision,
            before: price,
        });
    }

    /// What an aggregate was at any time between two ends of the log, both included.
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

/// What a command comes to: the new prices, or the refusal's code. The business's rules, written down a
/// second time.
pub(super) fn comes_to(ask: &Ask, before: Option<i64>) -> Result<Vec<i64>, &'static str> {
    let price = before.unwrap_or(0);
    match *ask {
        Ask::Raise { steps } => match price + steps <= PRICE_MAX {
            true => Ok((price + 1..=price + steps).collect()),
            false => Err("TOO_HIGH"),
        },
        Ask::Lower { by } => match by <= price {
            true => Ok(vec![price - by]),
            false => Err("TOO_LOW"),
        },
        Ask::Set { price } => match before == Some(price) {
            true => Err("ALREADY_SO"),
            false => Ok(vec![price]),
        },
    }
}
