//! A subscriber near the end of the log starts the shared reader, or replaces one that reads only some of its
//! partitions.

use super::{Subscription, Upstream};
use crate::{
    log::ReadLog,
    protocol::SharingProtocol,
    shared_reader::{
        follower::Step,
        position::{Position, distance, next_offsets},
        update::Update,
    },
};
use schemas::ContextEvent;
use std::collections::BTreeMap;
use tokio::time::Instant;

impl<E: ContextEvent, L: ReadLog, P: SharingProtocol> Subscription<E, L, P> {
    /// When this subscription may start the shared reader. `None` if its reader is far from the log's last measured
    /// end, or if the shared reader runs and can't be replaced.
    pub(super) fn start_at(&self) -> Option<Instant> {
        let Upstream::Own(follower) = &self.upstream else {
            return None;
        };
        if self.has_paused {
            return None;
        }
        let start_at = self.shared.state().start_at(self.id)?;
        let ends = self.ends.as_ref().unwrap_or(follower.ends());
        let left = distance(ends, &next_offsets(&follower.position()?));
        (left <= self.shared.limits.join_distance).then_some(start_at)
    }

    /// Starts the shared reader if the log's end is near. Returns whether it did, and the error of the
    /// measurement, if any.
    pub(super) async fn start_near_the_end(&mut self) -> (bool, Option<Update<E>>) {
        let Upstream::Own(follower) = &mut self.upstream else {
            return (false, None);
        };
        let Some(position) = follower.position() else {
            return (false, None);
        };
        let mut ends = BTreeMap::new();
        for partition in position.keys() {
            match self.shared.log.end(E::CONTEXT.topic, *partition).await {
                Ok(end) => ends.insert(*partition, end),
                Err(error) => {
                    let Step::Failing(error) = follower.fail(error.into()) else {
                        return (false, None);
                    };
                    return (false, Some(Update::Failing(error)));
                }
            };
        }
        let left = distance(&ends, &next_offsets(&position));
        self.ends = Some(ends);
        if left > self.shared.limits.join_distance {
            return (false, None);
        }
        let start = |(partition, own): (&i32, &Position)| {
            let read = position.get(partition);
            read.unwrap_or(&own.checkpoint).clone()
        };
        let starts = self.partitions.iter().map(start).collect();
        self.shared.start(starts, self.id);
        (true, None)
    }
}
