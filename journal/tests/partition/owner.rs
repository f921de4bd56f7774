//! An owner in the model: takes over, decides ahead of proof, answers proved commands.

use super::{
    Append, Landed, VerdictKind,
    design::{
        Announcing, Answering, Design, Naming, ReadOnlyAnswering, Reading, Retrying, Serving,
        Speculating,
    },
};
use crate::writer::{Draft, Term, announcement, decision_of, next_link, no_op};
use journal::rule::{Hash, Rule};
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    index: usize,
    announcements: u8,
    /// Commands still to be decided, in order.
    waiting: Vec<u8>,
    /// Commands that were answered "done".
    pub answered: Vec<u8>,
    /// The read-only command that it has to answer, or has answered.
    pub read_only: Option<ReadOnly>,
    leadership: Leadership,
    /// The commits of the term, in order of seq, with the report.
    commits: Vec<(Arc<Append>, Report)>,
    /// A version that a wrong design carries over from one term into the next; 0 in the right one.
    carried: i64,
}

/// The broker's report of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Report {
    None,
    At(i64),
    /// The broker had the record already; librdkafka then reports offsets from -1 upwards.
    Duplicate,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Leadership {
    /// Only reads.
    None,
    /// Has announced itself, and has not read the verdict on the announcement yet.
    Announced { epoch: i64, term: Term },
    /// Decides.
    Held(Held),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Held {
    epoch: i64,
    term: Term,
    /// Its announcement's offset.
    since: i64,
    /// The chain's hash after its last commit, proved or not.
    hash: Hash,
    /// The aggregate's version after that commit.
    version: i64,
}

/// A read-only command, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadOnly {
    /// The commands that the answer treats as decided.
    pub seen: Vec<u8>,
    /// The commands that had been answered when the command arrived.
    pub due: Vec<u8>,
    /// The seq that has to be proved first.
    seq: i64,
    pub is_answered: bool,
}

impl Owner {
    pub fn new(index: usize, commands: u8) -> Self {
        // The names of commands are different for every owner.
        let first = u8::try_from(index).expect("two owners") * 10;
        Self {
            index,
            announcements: 0,
            waiting: (first..first + commands).collect(),
            answered: Vec::new(),
            read_only: None,
            leadership: Leadership::None,
            commits: Vec::new(),
            carried: 0,
        }
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.leadership, Leadership::Held(_))
    }

    pub fn may_announce(&self, design: Design) -> bool {
        let has_work = !self.waiting.is_empty() || self.has_unproved();
        let wants = match self.leadership {
            Leadership::None => has_work,
            Leadership::Announced { .. } => design.announcing == Announcing::Blindly,
            Leadership::Held(_) => self.has_unproved(),
        };
        wants && self.announcements < design.bounds.terms[self.index]
    }

    /// Takes over, or raises a barrier. An owner that is not the leader has read the whole log.
    pub fn announce(&mut self, design: Design, rule: &Rule, log: &[Landed]) -> Arc<Append> {
        let next = rule.epoch() + 1;
        let epoch = match &self.leadership {
            Leadership::None => next,
            Leadership::Held(_) if design.announcing == Announcing::AboveForeign => next,
            Leadership::Announced { epoch, .. } | Leadership::Held(Held { epoch, .. }) => epoch + 1,
        };
        self.announcements += 1;
        let mut term = [0; 16];
        match design.naming {
            Naming::Fresh => {
                term[0] = u8::try_from(self.index).expect("two owners");
                term[1] = self.announcements;
            }
            Naming::ByEpoch => term[1] = u8::try_from(epoch).expect("a few epochs"),
        }
        self.carried = match (&self.leadership, design.speculating, design.reading) {
            (Leadership::Held(held), Speculating::Kept, _) => held.version,
            (Leadership::Held(held), Speculating::Dropped, Reading::OwnTerm) => held.since + 1,
            (Leadership::Held(_), Speculating::Dropped, Reading::Everything) => 0,
            (Leadership::None | Leadership::Announced { .. }, _, _) => 0,
        };
        // The client sends the command again in the next term.
        self.read_only.take_if(|read_only| !read_only.is_answered);
        // The rule does not check an announcement's prev, so it is zeros in every one.
        let append = self.append(announcement(epoch, term), &[0; 32], None);
        self.leadership = match design.serving {
            Serving::AfterReading => Leadership::Announced { epoch, term },
            Serving::AtOnce => {
                self.commits.clear();
                Leadership::Held(Held {
                    epoch,
                    term,
                    since: count(log.len()),
                    hash: next_link(&rule.hash(), &append.written),
                    version: count(decided(log).len()),
                })
            }
        };
        append
    }

    pub fn may_read(&self, log: &[Landed]) -> bool {
        match self.leadership {
            Leadership::Announced { epoch, term } => announcement_in(log, epoch, term).is_some(),
            Leadership::None | Leadership::Held(_) => false,
        }
    }

    /// Reads up to its announcement. The rule decides the outcome of the commits before it.
    pub fn read(&mut self, design: Design, log: &[Landed]) {
        let Leadership::Announced { epoch, term } = self.leadership else {
            return;
        };
        let Some(since) = announcement_in(log, epoch, term) else {
            return;
        };
        let read = &log[..=since];
        let decided = decided(read);
        let unproved = self.take_unproved();
        let (done, void): (Vec<u8>, Vec<u8>) = unproved
            .into_iter()
            .partition(|command| decided.contains(command));
        self.answer(&done);
        self.waiting.splice(0..0, void);
        self.leadership = match read[since].verdict {
            VerdictKind::Valid => Leadership::Held(Held {
                epoch,
                term,
                since: count(since),
                hash: read[since].hash,
                version: self.version(design, read),
            }),
            VerdictKind::Void | VerdictKind::Alarm => Leadership::None,
        };
    }

    /// The aggregate's version after all records that this owner has read, as the owner sees it.
    fn version(&self, design: Design, read: &[Landed]) -> i64 {
        let everything = count(decided(read).len());
        match (design.speculating, design.reading) {
            (Speculating::Kept, _) => everything.max(self.carried),
            (Speculating::Dropped, Reading::Everything) => everything,
            (Speculating::Dropped, Reading::OwnTerm) if self.carried == 0 => everything,
            (Speculating::Dropped, Reading::OwnTerm) => {
                let before = usize::try_from(self.carried).expect("an offset");
                let own = |landed: &&Landed| landed.append.owner == self.index;
                let since = read[before..].iter().filter(own).cloned();
                count(decided(&read[..before]).len() + decided(&since.collect::<Vec<_>>()).len())
            }
        }
    }

    pub fn may_decide(&self) -> bool {
        self.is_leader() && !self.waiting.is_empty()
    }

    pub fn decide(&mut self) -> Arc<Append> {
        let command = self.waiting.remove(0);
        let seq = self.next_seq();
        let held = self.held();
        let version = held.version;
        let draft = decision_of(held.epoch, held.term, seq, version, [command; 16]);
        held.version += 1;
        self.commit(draft, Some((command, version)))
    }

    /// Whether a read-only command waits for a record that is not in flight yet.
    pub fn may_confirm(&self) -> bool {
        let waits = |read_only: &ReadOnly| {
            !read_only.is_answered && read_only.seq == count(self.commits.len()) + 1
        };
        self.is_leader() && self.read_only.as_ref().is_some_and(waits)
    }

    pub fn confirm(&mut self) -> Arc<Append> {
        let seq = self.next_seq();
        let held = self.held();
        let draft = no_op(held.epoch, held.term, seq);
        self.commit(draft, None)
    }

    fn next_seq(&self) -> i64 {
        count(self.commits.len()) + 1
    }

    fn held(&mut self) -> &mut Held {
        match &mut self.leadership {
            Leadership::Held(held) => held,
            Leadership::None | Leadership::Announced { .. } => {
                unreachable!("only a leader commits")
            }
        }
    }

    fn commit(&mut self, draft: Draft, decision: Option<(u8, i64)>) -> Arc<Append> {
        let hash = self.held().hash;
        let append = self.append(draft.prev(hash), &hash, decision);
        self.commits.push((append.clone(), Report::None));
        self.held().hash = next_link(&hash, &append.written);
        append
    }

    /// Takes a delivery report; the first one of a commit counts. `None`: a duplicate.
    pub fn report(&mut self, design: Design, append: &Arc<Append>, offset: Option<i64>) {
        let sent = self.commits.iter_mut().find(|sent| sent.0 == *append);
        if let Some((_, report @ Report::None)) = sent {
            *report = offset.map_or(Report::Duplicate, Report::At);
        }
        let (done, seqs) = self.known_done(design.answering);
        self.answer(&done);
        if let Some(read_only) = &mut self.read_only {
            read_only.is_answered |= seqs.contains(&read_only.seq);
        }
    }

    /// Takes a read-only command; `due` are the commands that any owner has answered by now.
    pub fn take_read_only(&mut self, design: Design, mut due: Vec<u8>, log: &[Landed]) {
        due.sort_unstable();
        let seq = self.next_seq();
        let since = usize::try_from(self.held().since).expect("an offset");
        let mut seen = decided(&log[..=since]);
        let (proved, _) = self.known_done(design.answering);
        let all = self
            .commits
            .iter()
            .filter_map(|(append, _)| append.decision);
        match design.read_only {
            ReadOnlyAnswering::AfterProof | ReadOnlyAnswering::OnOverlay => {
                seen.extend(all.map(|(command, _)| command));
            }
            ReadOnlyAnswering::OnProved => seen.extend(proved),
        }
        self.read_only = Some(ReadOnly {
            seen,
            due,
            seq,
            is_answered: design.read_only != ReadOnlyAnswering::AfterProof,
        });
    }

    pub fn may_retry(&self, design: Design) -> bool {
        design.retrying == Retrying::InTerm
            && self.is_leader()
            && self.has_unproved()
            // Only once, so that the search is finite.
            && self.commits.len() < usize::from(design.bounds.commands[self.index])
    }

    /// Lets the commands without an answer be decided again in the term.
    pub fn forget_unproved(&mut self) {
        let again = self.unproved();
        self.waiting.splice(0..0, again);
    }

    /// The commands and seqs of this term that the reports prove.
    fn known_done(&self, answering: Answering) -> (Vec<u8>, Vec<i64>) {
        let Leadership::Held(Held { since, .. }) = self.leadership else {
            return (Vec::new(), Vec::new());
        };
        let mut before = Some(since);
        let (mut done, mut seqs) = (Vec::new(), Vec::new());
        for (append, report) in &self.commits {
            let position = match (report, answering) {
                (Report::At(offset), _) => Some(*offset),
                (Report::Duplicate, Answering::KnownToBroker) => before.map(|before| before + 1),
                (Report::Duplicate | Report::None, _) => None,
            };
            let follows = before.is_some_and(|before| position == Some(before + 1));
            let known = match answering {
                Answering::Proved | Answering::Adjacent | Answering::KnownToBroker => follows,
                Answering::Delivered => position.is_some(),
            };
            if known {
                done.extend(append.decision.map(|(command, _)| command));
                seqs.push(append.draft.seq);
            }
            before = match answering {
                Answering::Proved | Answering::KnownToBroker if !follows => None,
                Answering::Proved
                | Answering::KnownToBroker
                | Answering::Delivered
                | Answering::Adjacent => position,
            };
        }
        (done, seqs)
    }

    fn unproved(&self) -> Vec<u8> {
        self.commits
            .iter()
            .filter_map(|(append, _)| append.decision.map(|(command, _)| command))
            .filter(|command| !self.answered.contains(command))
            .collect()
    }

    fn has_unproved(&self) -> bool {
        !self.unproved().is_empty()
    }

    fn take_unproved(&mut self) -> Vec<u8> {
        let unproved = self.unproved();
        self.commits.clear();
        unproved
    }

    fn answer(&mut self, commands: &[u8]) {
        self.answered.extend(commands);
        self.answered.sort_unstable();
        self.answered.dedup();
    }

    fn append(&self, draft: Draft, hash: &Hash, decision: Option<(u8, i64)>) -> Arc<Append> {
        Arc::new(Append {
            owner: self.index,
            // One time for all, so that states don't differ by it.
            written: draft.clone().recorded_at(0).write(0, hash),
            draft,
            decision,
        })
    }
}

pub fn decides(append: &Append, command: u8) -> bool {
    append
        .decision
        .is_some_and(|(decided, _)| decided == command)
}

/// The commands that are decided in a stretch of the log, in order.
fn decided(log: &[Landed]) -> Vec<u8> {
    let valid = log
        .iter()
        .filter(|landed| landed.verdict == VerdictKind::Valid);
    valid
        .filter_map(|landed| landed.append.decision.map(|(command, _)| command))
        .collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).expect("a log of a few records")
}

/// The position of an announcement: its valid copy, otherwise its first.
fn announcement_in(log: &[Landed], epoch: i64, term: Term) -> Option<usize> {
    let is_ours = |landed: &Landed| {
        let draft = &landed.append.draft;
        landed.append.is_announcement() && draft.epoch == epoch && draft.term == term
    };
    let valid = |landed: &Landed| is_ours(landed) && landed.verdict == VerdictKind::Valid;
    log.iter()
        .position(valid)
        .or_else(|| log.iter().position(is_ours))
}
