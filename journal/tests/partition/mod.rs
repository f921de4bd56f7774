//! One journal partition as a state machine for the model checker: two owners that append to it over
//! a network that loses, delays, reorders and duplicates records. Either owner may be a zombie at any
//! time. The log's records are real, and the real rule judges them.

pub mod design;
mod owner;

use crate::writer::{Draft, Written};
use design::{Bounds, Design, Judging, OWNERS};
use journal::rule::{Alarm, Breach, Hash, Rule, Verdict};
pub use owner::{Owner, decides};
use std::{hash, sync::Arc};

/// A record that an owner appends.
#[derive(Debug)]
pub struct Append {
    pub owner: usize,
    pub draft: Draft,
    pub written: Written,
    /// The command that a decision decides, and the aggregate's version that it saw.
    pub decision: Option<(u8, i64)>,
}

impl PartialEq for Append {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Append {}

impl hash::Hash for Append {
    fn hash<H: hash::Hasher>(&self, hasher: &mut H) {
        // The bytes contain the term, which contains the owner, and all other fields.
        self.written.hash(hasher);
    }
}

impl Append {
    pub fn is_announcement(&self) -> bool {
        self.draft.seq == 0
    }
}

/// An append in flight. A lost one never lands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flight {
    pub append: Arc<Append>,
    /// Whether a copy has landed already.
    pub landed: bool,
}

/// The rule's verdict on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerdictKind {
    Valid,
    Void,
    /// The reader halts.
    Alarm,
}

/// A record in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Landed {
    pub append: Arc<Append>,
    pub verdict: VerdictKind,
    /// The chain's hash after this record.
    pub hash: Hash,
}

/// An alteration of the log itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alteration {
    /// Behind the frame, which stays as it was.
    Body,
    Removal,
}

/// The partition, its owners, and the appends in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub log: Vec<Landed>,
    /// Sorted, because the network keeps no order.
    pub flights: Vec<Flight>,
    pub duplicates_left: u8,
    pub owners: [Owner; OWNERS],
    /// Whether a reader of the altered log from offset 0 halts, or reads the same valid records.
    pub altered: Option<bool>,
    /// Follows from the log, so it is not compared.
    pub rule: Rule,
}

impl hash::Hash for State {
    fn hash<H: hash::Hasher>(&self, hasher: &mut H) {
        let Self {
            log,
            flights,
            duplicates_left,
            owners,
            altered,
            rule: _,
        } = self;
        (log, flights, duplicates_left, owners, altered).hash(hasher);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// An owner takes over, or raises a barrier.
    Announce(usize),
    /// It reads up to its announcement.
    Read(usize),
    /// It decides its next command, possibly on unproved commits, and appends.
    Decide(usize),
    /// It decides an unproved command again in the same term, which is wrong.
    Retry(usize),
    /// It gets a read-only command.
    Invoke(usize),
    /// It appends a no-op to answer a read-only command.
    Confirm(usize),
    /// An append lands.
    Land { flight: usize, reported: bool },
    /// A copy arrives that the broker recognises: it does not land, and is reported without its offset.
    Deduplicate { flight: usize },
    /// A record that later ones confirm is altered.
    Alter(usize, Alteration),
}

impl State {
    pub fn start(bounds: Bounds) -> Self {
        Self {
            log: Vec::new(),
            flights: Vec::new(),
            duplicates_left: bounds.duplicates,
            owners: [0, 1].map(|index| Owner::new(index, bounds.commands[index])),
            altered: None,
            rule: new_rule(),
        }
    }

    pub fn valid(&self) -> impl Iterator<Item = &Append> {
        let valid = |landed: &&Landed| landed.verdict == VerdictKind::Valid;
        self.log
            .iter()
            .filter(valid)
            .map(|landed| landed.append.as_ref())
    }

    /// The commands of valid decisions, in the order of the log.
    pub fn decided(&self) -> Vec<u8> {
        let decisions = self.valid().filter_map(|append| append.decision);
        decisions.map(|(command, _)| command).collect()
    }

    pub fn has(&self, verdict: VerdictKind) -> bool {
        self.log.iter().any(|landed| landed.verdict == verdict)
    }

    pub fn actions(&self, design: Design, actions: &mut Vec<Action>) {
        // Readers halt at an alarm, and owners do not continue in an altered log.
        if self.has(VerdictKind::Alarm) || self.altered.is_some() {
            return;
        }
        let has_read_only = self.owners.iter().any(|owner| owner.read_only.is_some());
        let may_invoke = design.bounds.read_only_commands > 0 && !has_read_only;
        for (index, owner) in self.owners.iter().enumerate() {
            let choices = [
                (owner.may_announce(design), Action::Announce(index)),
                (owner.may_read(&self.log), Action::Read(index)),
                (owner.may_decide(), Action::Decide(index)),
                (owner.may_retry(design), Action::Retry(index)),
                (may_invoke && owner.is_leader(), Action::Invoke(index)),
                (owner.may_confirm(), Action::Confirm(index)),
            ];
            actions.extend(
                choices
                    .iter()
                    .filter(|choice| choice.0)
                    .map(|choice| choice.1),
            );
        }
        self.arrivals(design, actions);
        if design.bounds.alteration {
            self.alterations(actions);
        }
    }

    fn arrivals(&self, design: Design, actions: &mut Vec<Action>) {
        let has_room = self.log.len() < design.bounds.records;
        for (flight, append) in self.flights.iter().enumerate() {
            let may_land = !append.landed || self.duplicates_left > 0;
            for reported in [true, false] {
                if may_land && has_room {
                    actions.push(Action::Land { flight, reported });
                }
            }
            if append.landed && self.duplicates_left > 0 {
                actions.push(Action::Deduplicate { flight });
            }
        }
    }

    /// Alterations of valid records that have to be noticed, because a later valid commit covers them.
    /// A record within a term is covered against removal only by the next term's first commit: until
    /// then a removal looks like a lost append.
    fn alterations(&self, actions: &mut Vec<Action>) {
        for (index, landed) in self.log.iter().enumerate() {
            let later = || {
                self.log[index + 1..]
                    .iter()
                    .filter(|later| is_commit(later))
            };
            if landed.verdict != VerdictKind::Valid {
                continue;
            }
            if later().next().is_some() {
                actions.push(Action::Alter(index, Alteration::Body));
            }
            let epoch = landed.append.draft.epoch;
            let of_later_term = |later: &Landed| later.append.draft.epoch > epoch;
            if later().any(|later| landed.append.is_announcement() || of_later_term(later)) {
                actions.push(Action::Alter(index, Alteration::Removal));
            }
        }
    }

    pub fn act(&mut self, design: Design, action: Action) {
        match action {
            Action::Announce(index) => {
                let append = self.owners[index].announce(design, &self.rule, &self.log);
                self.send(append);
            }
            Action::Read(index) => self.owners[index].read(design, &self.log),
            Action::Decide(index) => {
                let append = self.owners[index].decide();
                self.send(append);
            }
            Action::Retry(index) => self.owners[index].forget_unproved(),
            Action::Invoke(index) => {
                let answered = self.owners.iter().flat_map(|owner| &owner.answered);
                let answered = answered.copied().collect();
                self.owners[index].take_read_only(design, answered, &self.log);
            }
            Action::Confirm(index) => {
                let append = self.owners[index].confirm();
                self.send(append);
            }
            Action::Land { flight, reported } => self.land(design, flight, reported),
            Action::Deduplicate { flight } => self.deduplicate(design, flight),
            Action::Alter(index, alteration) => self.alter(design, index, alteration),
        }
    }

    fn send(&mut self, append: Arc<Append>) {
        self.flights.push(Flight {
            append,
            landed: false,
        });
        self.tidy();
    }

    fn land(&mut self, design: Design, flight: usize, reported: bool) {
        let flight = &mut self.flights[flight];
        self.duplicates_left -= u8::from(flight.landed);
        flight.landed = true;
        let append = flight.append.clone();
        let offset = i64::try_from(self.log.len()).expect("a log of a few records");
        let verdict = design
            .judging
            .judge(&mut self.rule, offset, &append.draft, &append.written);
        if reported {
            self.owners[append.owner].report(design, &append, Some(offset));
        }
        self.log.push(Landed {
            append,
            verdict,
            hash: self.rule.hash(),
        });
        self.tidy();
    }

    fn deduplicate(&mut self, design: Design, flight: usize) {
        self.duplicates_left -= 1;
        let append = self.flights[flight].append.clone();
        self.owners[append.owner].report(design, &append, None);
        self.tidy();
    }

    /// Reads the log from offset 0 with one record altered.
    fn alter(&mut self, design: Design, altered: usize, alteration: Alteration) {
        let mut rule = new_rule();
        let mut is_noticed = false;
        let mut valid = Vec::new();
        for (index, landed) in self.log.iter().enumerate() {
            let mut written = landed.append.written.clone();
            match alteration {
                Alteration::Body if index == altered => {
                    let value = written.value.as_mut().expect("owners write values");
                    value.push(0);
                }
                Alteration::Removal if index == altered => continue,
                Alteration::Body | Alteration::Removal => {}
            }
            let offset = i64::try_from(index).expect("a log of a few records");
            let verdict = design
                .judging
                .judge(&mut rule, offset, &landed.append.draft, &written);
            is_noticed |= verdict == VerdictKind::Alarm;
            if verdict == VerdictKind::Valid {
                valid.push(written);
            }
        }
        // A copy directly after a removed record replaces it, so the valid records stay the same.
        self.altered = Some(is_noticed || self.valid().map(|append| &append.written).eq(&valid));
    }

    /// Makes states equal that are indistinguishable from now on.
    fn tidy(&mut self) {
        if self.duplicates_left == 0 {
            self.flights.retain(|flight| !flight.landed);
        }
        self.flights
            .sort_by(|a, b| a.append.written.value.cmp(&b.append.written.value));
    }
}

fn new_rule() -> Rule {
    Rule::new("journal.probe", 0)
}

fn is_commit(landed: &Landed) -> bool {
    landed.verdict == VerdictKind::Valid && !landed.append.is_announcement()
}

impl Judging {
    fn judge(self, rule: &mut Rule, offset: i64, draft: &Draft, written: &Written) -> VerdictKind {
        let is_announcement = draft.seq == 0;
        // A wrong rule is the real rule on a state that passes the check which the wrong rule omits.
        let mut given = rule.checkpoint();
        match self {
            Self::Rule | Self::SilentGaps => {}
            Self::AnyLaterEpoch if is_announcement && draft.epoch > given.epoch => {
                given.epoch = draft.epoch - 1;
            }
            Self::SameEpochAgain if is_announcement && draft.epoch == given.epoch => {
                given.epoch = draft.epoch - 1;
            }
            Self::GapsInSeq if !is_announcement && draft.seq > given.seq => {
                given.seq = draft.seq - 1;
                given.hash = draft.prev.expect("owners say what their commits follow");
            }
            Self::AnyPrev if !is_announcement => {
                given.hash = draft.prev.expect("owners say what their commits follow");
            }
            Self::AnyLaterEpoch | Self::SameEpochAgain | Self::GapsInSeq | Self::AnyPrev => {}
        }
        let judge =
            |rule: &mut Rule| rule.judge(offset, written.key.as_deref(), written.value.as_deref());
        let mut lenient = Rule::from_checkpoint(&given);
        if let Ok(Verdict::Valid(_)) = judge(&mut lenient) {
            *rule = lenient;
            return VerdictKind::Valid;
        }
        match judge(rule) {
            Ok(Verdict::Valid(_)) => VerdictKind::Valid,
            Ok(Verdict::Void(_)) => VerdictKind::Void,
            Err(alarm) if self == Self::SilentGaps && is_gap(&alarm) => VerdictKind::Void,
            Err(_) => VerdictKind::Alarm,
        }
    }
}

/// Whether an announcement that an owner has read is missing.
fn is_gap(alarm: &Alarm) -> bool {
    match alarm {
        Alarm::ChainBroken { breach, .. } => match breach {
            Breach::AnnouncementSkipsEpoch { .. }
            | Breach::BeforeFirstTerm { .. }
            | Breach::FutureEpoch { .. }
            | Breach::TermUnknown { .. } => true,
            Breach::NewerRule { .. } | Breach::OtherHistory { .. } | Breach::Altered { .. } => {
                false
            }
        },
        Alarm::OffsetWentBack { .. } => false,
    }
}
