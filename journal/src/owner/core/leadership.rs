//! How an owner starts to serve, by announcement, and stops.

use super::state::{ATTEMPTS_MAX, Core, Outgoing, PendingCommand, TermHead};
use crate::{
    owner::request::{Machine, Refusal},
    protocol::OwnerProtocol,
    rule::chain_hash,
};
use schemas::{Announcement, BodyRef, CommitRef, Timestamp};

impl<M: Machine, R, P: OwnerProtocol> Core<M, R, P> {
    /// The announcement of a new term, which follows all records read. The same announcement is returned until
    /// it was read as valid or can't become valid. `term` must be fresh.
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
            rule_version: P::announced_rule_version(),
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

    /// Whether the last announcement read is this owner's.
    pub fn has_read_announcement(&self) -> bool {
        self.announced
            .as_ref()
            .is_some_and(|(_, own)| own.term == self.proved.term)
    }

    /// Forgets the announcement in flight if it can no longer become valid, because another announcement took its
    /// epoch. Returns whether it was forgotten. The next announcement gets a new epoch and needs a fresh term.
    pub fn drop_lost_announcement(&mut self) -> bool {
        let lost = self.announced.as_ref().is_some_and(|(epoch, own)| {
            *epoch <= self.proved.epoch && own.term != self.proved.term
        });
        if lost {
            self.announced = None;
        }
        lost
    }

    /// Abandons the announcement that was read: the next one gets a new epoch.
    pub fn forget_announcement(&mut self) {
        self.announced = None;
    }

    /// Starts to serve after this owner's announcement was read. Commands that a barrier left are decided
    /// again.
    ///
    /// # Panics
    /// If this owner's announcement was not the last record read.
    pub fn start_serving(&mut self, now: Timestamp) {
        assert!(
            self.has_read_announcement() && self.proved.seq == 0,
            "no announcement of ours was read"
        );
        self.announced = None;
        self.head = Some(TermHead {
            term: self.proved.term,
            epoch: self.proved.epoch,
            seq: 0,
            hash: self.proved.hash,
            log_time: self.proved.log_time,
            since: now,
        });
        for command in std::mem::take(&mut self.to_redecide) {
            self.counts.decided_again += u64::from(command.attempts > 0);
            self.decide_in_order(command, now);
        }
        self.prove_held_answers(now);
    }

    /// Treats the announcement in flight, delivered at `offset`, as valid without having read it.
    pub(in crate::owner) fn accept_announcement(&mut self, offset: i64) {
        let Some((epoch, announcement)) = &self.announced else {
            return;
        };
        let proved = &mut self.proved;
        (proved.epoch, proved.term, proved.seq) = (*epoch, announcement.term, 0);
        proved.rule_version = P::announced_rule_version();
        proved.prev_hash = proved.hash;
        proved.hash = chain_hash(&proved.prev_hash, b"", &announcement.value);
        proved.log_id.get_or_insert(proved.hash);
        proved.probe_offset = Some(offset);
        proved.next_offset = offset + 1;
    }

    /// Stops serving: no more records are appended, and unanswered commands are kept to be decided again. The
    /// overlay is dropped.
    pub fn stop_serving(&mut self) {
        self.head = None;
        if !P::keeps_overlay_at_barrier() {
            self.overlay.clear();
        }
        self.in_flight.clear();
        self.unproved_bytes.clear();
        // Records that were not handed over yet must not be sent, because they would land after the end of the
        // term.
        self.appends.clear();
        let unproved = self
            .unproved
            .drain(..)
            .filter_map(|unproved| unproved.decided);
        let unproved = unproved.map(|decided| PendingCommand {
            was_appended: true,
            ..decided.command
        });
        let held = self.held_answers.drain(..).map(|held| held.command);
        // Held answers depend on the unproved commits, so their commands come after those.
        let unanswered: Vec<_> = unproved.chain(held).collect();
        for mut command in unanswered {
            command.attempts += 1;
            if command.attempts > ATTEMPTS_MAX {
                let attempts = command.attempts;
                let reason = format!(
                    "no proof after {attempts} attempts; send the command again under the same id"
                );
                self.reply(command, Err(Refusal::Unavailable(reason)));
            } else {
                self.to_redecide.push_back(command);
            }
        }
        // These commands came later than all others, and were not decided yet.
        self.to_redecide.append(&mut self.unread);
    }
}
