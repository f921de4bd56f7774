//! A subscriber pauses a partition that it can't use now.

use super::{Subscription, Upstream};
use crate::{log::ReadLog, protocol::SharingProtocol};
use schemas::ContextEvent;

impl<E: ContextEvent, L: ReadLog, P: SharingProtocol> Subscription<E, L, P> {
    /// Pauses a partition: [`Subscription::next`] returns no further update of it, and the other partitions continue.
    /// To read the partition again, subscribe again. A subscription with a paused partition joins the shared reader,
    /// but does not start it, because the shared reader would have to read the partition from this subscription's
    /// checkpoint.
    pub fn pause(&mut self, partition: i32) {
        let position = self.partitions.get_mut(&partition);
        let Some(position) = position.filter(|position| !position.is_halted) else {
            return;
        };
        position.is_halted = true;
        self.has_paused = true;
        if matches!(self.upstream, Upstream::Own(_)) {
            // A reader can't leave out a partition later, so open another one.
            self.fall_back();
        }
    }
}
