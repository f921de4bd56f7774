//! One journal partition as a state machine for the model checker: two owners that append to it over
//! a network that loses, delays, reorders and duplicates, either of them a zombie at any time. The
//! log's records are real, and the real rule judges them.

mod owner;

use crate::writer::{Draft, Written};
use journal::rule::{Hash, Rule, Verdict, VoidReason};
use owner::Owner;
pub use owner::decides;
use std::{hash, sync::Arc};

pub const OWNERS: usize = 2;

/// What the checker varies: the design, and ways to get it wrong.
#[derive(Debug, Clone, Copy)]
pub struct Design {
    pub judging: Judging,
    pub answering: Answering,
    pub announcing: Announcing,
    pub retrying: Retrying,
    pub bounds: Bounds,
}

/// How far the checker looks. Beyond a bound nothing more happens, which is like a crash there.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Announcements of each owner.
    pub terms: [u8; OWNERS],
    /// Commands that each owner has to decide, one commit each and one more per retry.
    pub commands: [u8; OWNERS],
    /// Appends that land a second time, over the whole run.
    pub duplicates: u8,
    /// Records in the log.
    pub records: usize,
}

/// Which announcements and commits are valid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judging {
    /// As `journal::rule` says.
    Rule,
    /// Wrong: any later epoch begins a term, not only the next.
    AnyLaterEpoch,
    /// Wrong: an announcement of the current epoch begins it again.
    SameEpochAgain,
    /// Wrong: a commit may come after a gap in seq, and prev is not checked.
    GapsInSeq,
}

/// When an owner answers a command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answering {
    /// Its commit is proved: its offset follows its predecessor's, which is proved.
    Proved,
    /// Wrong: the broker has reported its commit.
    Delivered,
    /// Wrong: its offset follows its predecessor's, proved or not.
    Adjacent,
}

/// When an owner announces itself again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Announcing {
    /// Only once it has read how its last announcement was judged; until then it sends that again.
    AfterReading,
    /// Wrong: also before, one epoch further on.
    Blindly,
}

/// What an owner does with commits whose outcome it doesn't know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Retrying {
    /// A barrier: it announces itself again, reads up to that, and decides again what is void.
    BehindBarrier,
    /// Wrong: it decides again at once, in the same term.
    InTerm,
}

/// What an owner sends.
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
        // The bytes hold the term, which holds the owner, and everything else.
        self.written.hash(hasher);
    }
}

/// An append under way. A lost one is one that never lands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flight {
    pub append: Arc<Append>,
    /// Whether a copy has landed already.
    pub landed: bool,
}

/// What the rule said of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Worth {
    Valid,
    Void,
    /// Void, and of an epoch whose announcement its writer can't have read.
    Impossible,
    /// The reader halts.
    Alarm,
}

/// A record in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Landed {
    pub append: Arc<Append>,
    pub worth: Worth,
    /// The chain's hash behind it.
    pub hash: Hash,
}

#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub log: Vec<Landed>,
    /// In the order of their bytes, so that states that differ in history only are one.
    pub flights: Vec<Flight>,
    pub duplicates_left: u8,
    pub owners: [Owner; OWNERS],
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
            rule: _,
        } = self;
        (log, flights, duplicates_left, owners).hash(hasher);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// An owner takes office, or puts up a barrier.
    Announce(usize),
    /// It reads up to its announcement.
    Read(usize),
    /// It decides its next command, on commits that need not be proved yet, and appends.
    Decide(usize),
    /// It decides an unproved command again in the same term, which is wrong.
    Retry(usize),
    /// An append lands.
    Land { flight: usize, reported: bool },
}

impl State {
    pub fn start(bounds: Bounds) -> Self {
        Self {
            log: Vec::new(),
            flights: Vec::new(),
            duplicates_left: bounds.duplicates,
            owners: [0, 1].map(|index| Owner::new(index, bounds.commands[index])),
            rule: Rule::new("journal.orders", 0),
        }
    }

    pub fn valid(&self) -> impl Iterator<Item = &Append> {
        let valid = |landed: &&Landed| landed.worth == Worth::Valid;
        self.log
            .iter()
            .filter(valid)
            .map(|landed| landed.append.as_ref())
    }

    pub fn has(&self, worth: Worth) -> bool {
        self.log.iter().any(|landed| landed.worth == worth)
    }

    pub fn actions(&self, design: Design, actions: &mut Vec<Action>) {
        for (index, owner) in self.owners.iter().enumerate() {
            let wishes = [
                (owner.may_announce(design), Action::Announce(index)),
                (owner.may_read(&self.log), Action::Read(index)),
                (owner.may_decide(), Action::Decide(index)),
                (owner.may_retry(design), Action::Retry(index)),
            ];
            actions.extend(wishes.iter().filter(|wish| wish.0).map(|wish| wish.1));
        }
        if self.log.len() == design.bounds.records {
            return;
        }
        for (flight, append) in self.flights.iter().enumerate() {
            if !append.landed || self.duplicates_left > 0 {
                actions.push(Action::Land {
                    flight,
                    reported: true,
                });
                actions.push(Action::Land {
                    flight,
                    reported: false,
                });
            }
        }
    }

    pub fn act(&mut self, design: Design, action: Action) {
        match action {
            Action::Announce(index) => {
                let append = self.owners[index].announce(&self.rule);
                self.send(append);
            }
            Action::Read(index) => self.owners[index].read(&self.log),
            Action::Decide(index) => {
                let append = self.owners[index].decide();
                self.send(append);
            }
            Action::Retry(index) => self.owners[index].forget_unproved(),
            Action::Land { flight, reported } => self.land(design, flight, reported),
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
        let worth = design.judging.judge(&mut self.rule, offset, &append);
        if reported {
            self.owners[append.owner].report(design, &append, offset);
        }
        self.log.push(Landed {
            append,
            worth,
            hash: self.rule.hash(),
        });
        self.tidy();
    }

    /// Makes states equal that can't be told apart from now on.
    fn tidy(&mut self) {
        if self.duplicates_left == 0 {
            self.flights.retain(|flight| !flight.landed);
        }
        self.flights
            .sort_by(|a, b| a.append.written.value.cmp(&b.append.written.value));
    }
}

impl Judging {
    fn judge(self, rule: &mut Rule, offset: i64, append: &Append) -> Worth {
        let draft = &append.draft;
        let is_announcement = append.decision.is_none();
        // A wrong rule is the real one, told that what it would object to is as it should be.
        let mut told = rule.checkpoint();
        match self {
            Self::Rule => {}
            Self::AnyLaterEpoch if is_announcement && draft.epoch > told.epoch => {
                told.epoch = draft.epoch - 1;
            }
            Self::SameEpochAgain if is_announcement && draft.epoch == told.epoch => {
                told.epoch = draft.epoch - 1;
            }
            Self::GapsInSeq if !is_announcement && draft.seq > told.seq => {
                told.seq = draft.seq - 1;
                told.hash = draft.prev.expect("owners say what their commits follow");
            }
            Self::AnyLaterEpoch | Self::SameEpochAgain | Self::GapsInSeq => {}
        }
        let (key, value) = (&append.written.key, &append.written.value);
        let judge = |rule: &mut Rule| rule.judge(offset, key.as_deref(), value.as_deref());
        let mut lenient = Rule::from_checkpoint(&told);
        if let Ok(Verdict::Valid(_)) = judge(&mut lenient) {
            *rule = lenient;
            return Worth::Valid;
        }
        match judge(rule) {
            Ok(Verdict::Valid(_)) => Worth::Valid,
            Ok(Verdict::Void(
                VoidReason::BeforeFirstTerm { .. }
                | VoidReason::FutureEpoch { .. }
                | VoidReason::AnnouncementSkipsEpoch { .. },
            )) => Worth::Impossible,
            Ok(Verdict::Void(_)) => Worth::Void,
            Err(_) => Worth::Alarm,
        }
    }
}
