//! Into office by announcement, and out of it.

use super::{Asked, Core, Head, Outgoing, TRIES_MAX};
use crate::{
    owner::request::{Machine, Refusal},
    protocol::Protocol,
    rule::RULE_VERSION,
};
use schemas::{Announcement, BodyRef, CommitRef, Timestamp};

impl<M: Machine, R, P: Protocol> Core<M, R, P> {
    /// The announcement of a new term after everything read; again the same until it was read as
    /// valid or the log went on without it. `term` must be fresh.
    pub fn announce(
        &mut self,
        owner_url: &str,
        partitions: i32,
        term: [u8; 16],
        now: Timestamp,
    ) -> Result<Outgoing, Refusal> {
        if let Some((_, announced)) = &self.announced {
            return Ok(announced.clone());
        }
        let epoch = self.proved.epoch + 1;
        let announcement = Announcement {
            rule_version: RULE_VERSION,
            partitions,
            owner_url: owner_url.to_owned(),
        };
        let commit = CommitRef {
            prev: [0; 32],
            term,
            epoch,
            seq: 0,
            recorded_at: now.max(self.proved.log_time),
            body: BodyRef::Announcement(&announcement),
        };
        let outgoing = self.outgoing("".into(), &commit, None)?;
        self.announced = Some((epoch, outgoing.clone()));
        Ok(outgoing)
    }

    /// Whether the last announcement read is the own one.
    pub fn announced_is_read(&self) -> bool {
        self.announced
            .as_ref()
            .is_some_and(|(_, own)| own.term == self.proved.term)
    }

    /// Forgets the announcement under way if it can't become valid any more, for another one took
    /// its epoch. The next one gets a new epoch and needs a fresh term.
    pub fn announcement_is_lost(&mut self) -> bool {
        let lost = self.announced.as_ref().is_some_and(|(epoch, own)| {
            *epoch <= self.proved.epoch && own.term != self.proved.term
        });
        if lost {
            self.announced = None;
        }
        lost
    }

    /// Gives up the announcement that was read: the next one gets a new epoch.
    pub fn forget_announcement(&mut self) {
        self.announced = None;
    }

    /// Takes office: the own announcement was read. What a barrier left is decided again.
    ///
    /// # Panics
    /// If the own announcement was not the last record read.
    pub fn take_office(&mut self, now: Timestamp) {
        assert!(
            self.announced_is_read() && self.proved.seq == 0,
            "no announcement of ours was read"
        );
        self.announced = None;
        self.office = Some(Head {
            term: self.proved.term,
            epoch: self.proved.epoch,
            seq: 0,
            hash: self.proved.hash,
            log_time: self.proved.log_time,
            since: now,
        });
        for asked in std::mem::take(&mut self.again) {
            self.counts.decided_again += u64::from(asked.tries > 0);
            self.decide(asked, now);
        }
        self.settle(now);
    }

    /// A mistake that the simulator makes on purpose: takes the announcement under way for valid,
    /// because it was delivered at `offset`.
    pub fn believe_announcement(&mut self, offset: i64) {
        let Some((epoch, announcement)) = &self.announced else {
            return;
        };
        let proved = &mut self.proved;
        (proved.epoch, proved.term, proved.seq) = (*epoch, announcement.term, 0);
        proved.prev_hash = proved.hash;
        proved.hash = crate::rule::chain_hash(&proved.prev_hash, b"", &announcement.value);
        proved.log_id.get_or_insert(proved.hash);
        proved.probe_offset = Some(offset);
        proved.next_offset = offset + 1;
    }

    /// Leaves office: nothing is appended any more, and all that is unanswered is kept to be decided
    /// again. The overlay goes.
    pub fn leave_office(&mut self) {
        self.office = None;
        if !P::OVERLAY_SURVIVES_BARRIER {
            self.overlay.clear();
        }
        self.under_way.clear();
        self.unproved_bytes = 0;
        // What was not handed over yet must not be, for it would come after the term's end.
        self.appends.clear();
        let pending = self.pending.drain(..).filter_map(|pending| pending.decided);
        let pending = pending.map(|decided| Asked {
            was_appended: true,
            ..decided.asked
        });
        let waiting = self.waiting.drain(..).map(|waiting| waiting.asked);
        // Those of `waiting` were decided on the pending ones, so they come after them.
        let unanswered: Vec<_> = pending.chain(waiting).collect();
        for mut asked in unanswered {
            asked.tries += 1;
            if asked.tries > TRIES_MAX {
                let reason = format!("no proof after {TRIES_MAX} tries");
                self.reply(asked, Err(Refusal::Unavailable(reason)));
            } else {
                self.again.push_back(asked);
            }
        }
    }
}
