//! An owner in the model: takes office, decides ahead of proof, answers what is proved.

use super::{Announcing, Answering, Append, Design, Landed, Retrying, Worth};
use crate::writer::{Draft, Term, announcement, decision_of, next_link};
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
    office: Office,
    /// The commits of the term, in order of seq, with the offset that was reported.
    commits: Vec<(Arc<Append>, Option<i64>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Office {
    /// Only reads.
    None,
    /// Has announced itself and not yet read how that was judged.
    Announced { epoch: i64, term: Term },
    /// Decides.
    Held {
        epoch: i64,
        term: Term,
        /// Its announcement's offset.
        since: i64,
        /// The chain's hash behind its last commit, proved or not.
        hash: Hash,
        /// The aggregate's version behind that.
        version: i64,
    },
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
            office: Office::None,
            commits: Vec::new(),
        }
    }

    pub fn may_announce(&self, design: Design) -> bool {
        let has_work = !self.waiting.is_empty() || self.has_unproved();
        let wants = match self.office {
            Office::None => has_work,
            Office::Announced { .. } => design.announcing == Announcing::Blindly,
            Office::Held { .. } => self.has_unproved(),
        };
        wants && self.announcements < design.bounds.terms[self.index]
    }

    /// Takes office, or puts up a barrier. Somebody without office has read the whole log.
    pub fn announce(&mut self, log: &Rule) -> Arc<Append> {
        let epoch = match self.office {
            Office::None => log.epoch() + 1,
            Office::Announced { epoch, .. } | Office::Held { epoch, .. } => epoch + 1,
        };
        self.announcements += 1;
        let mut term = [0; 16];
        term[0] = u8::try_from(self.index).expect("two owners");
        term[1] = self.announcements;
        self.office = Office::Announced { epoch, term };
        // A void announcement's prev means nothing, so it is zeros in all.
        self.append(announcement(epoch, term), &[0; 32], None)
    }

    pub fn may_read(&self, log: &[Landed]) -> bool {
        match self.office {
            Office::Announced { epoch, term } => announcement_in(log, epoch, term).is_some(),
            Office::None | Office::Held { .. } => false,
        }
    }

    /// Reads up to its announcement; decides by the rule what became of the commits before it.
    pub fn read(&mut self, log: &[Landed]) {
        let Office::Announced { epoch, term } = self.office else {
            return;
        };
        let Some(since) = announcement_in(log, epoch, term) else {
            return;
        };
        let read = &log[..=since];
        let valid = || read.iter().filter(|landed| landed.worth == Worth::Valid);
        let unproved = self.take_unproved();
        let (done, void): (Vec<u8>, Vec<u8>) = unproved
            .into_iter()
            .partition(|command| valid().any(|landed| decides(&landed.append, *command)));
        self.answer(&done);
        self.waiting.splice(0..0, void);
        self.office = match read[since].worth {
            Worth::Valid => Office::Held {
                epoch,
                term,
                since: i64::try_from(since).expect("a log of a few records"),
                hash: read[since].hash,
                version: i64::try_from(
                    valid()
                        .filter(|landed| landed.append.decision.is_some())
                        .count(),
                )
                .expect("a log of a few records"),
            },
            Worth::Void | Worth::Impossible | Worth::Alarm => Office::None,
        };
    }

    pub fn may_decide(&self) -> bool {
        matches!(self.office, Office::Held { .. }) && !self.waiting.is_empty()
    }

    pub fn decide(&mut self) -> Arc<Append> {
        let Office::Held {
            epoch,
            term,
            since,
            hash,
            version,
        } = self.office
        else {
            unreachable!("who decides holds office");
        };
        let command = self.waiting.remove(0);
        let seq = i64::try_from(self.commits.len()).expect("a few commits") + 1;
        let draft = decision_of(epoch, term, seq, version, [command; 16]).prev(hash);
        let append = self.append(draft, &hash, Some((command, version)));
        self.commits.push((append.clone(), None));
        self.office = Office::Held {
            epoch,
            term,
            since,
            hash: next_link(&hash, &append.written),
            version: version + 1,
        };
        append
    }

    /// Takes a delivery report; the first one of a commit counts.
    pub fn report(&mut self, design: Design, append: &Arc<Append>, offset: i64) {
        let sent = self.commits.iter_mut().find(|sent| sent.0 == *append);
        if let Some((_, reported @ None)) = sent {
            *reported = Some(offset);
        }
        let done = self.known_done(design.answering);
        self.answer(&done);
    }

    pub fn may_retry(&self, design: Design) -> bool {
        design.retrying == Retrying::InTerm
            && matches!(self.office, Office::Held { .. })
            && self.has_unproved()
            // Once, so that the checker comes to an end.
            && self.commits.len() < usize::from(design.bounds.commands[self.index])
    }

    /// Lets the commands without an answer be decided again in the term.
    pub fn forget_unproved(&mut self) {
        let again = self.unproved();
        self.waiting.splice(0..0, again);
    }

    /// Which commands of this term the reported offsets speak for.
    fn known_done(&self, answering: Answering) -> Vec<u8> {
        let Office::Held { since, .. } = self.office else {
            return Vec::new();
        };
        let mut before = Some(since);
        let mut done = Vec::new();
        for (append, offset) in &self.commits {
            let follows = before.is_some_and(|before| *offset == Some(before + 1));
            let known = match answering {
                Answering::Proved | Answering::Adjacent => follows,
                Answering::Delivered => offset.is_some(),
            };
            if known {
                done.extend(append.decision.map(|(command, _)| command));
            }
            before = match answering {
                Answering::Proved if !follows => None,
                Answering::Proved | Answering::Delivered | Answering::Adjacent => *offset,
            };
        }
        done
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

/// Where an announcement stands: its valid copy, else its first.
fn announcement_in(log: &[Landed], epoch: i64, term: Term) -> Option<usize> {
    let is_ours = |landed: &Landed| {
        let draft = &landed.append.draft;
        landed.append.decision.is_none() && draft.epoch == epoch && draft.term == term
    };
    let valid = |landed: &Landed| is_ours(landed) && landed.worth == Worth::Valid;
    log.iter()
        .position(valid)
        .or_else(|| log.iter().position(is_ours))
}
