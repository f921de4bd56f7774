//! The clock of a term: the broker's timestamp on the announcement, plus monotonic time.
//!
//! An owner whose machine and broker disagree declines the partition. It can't know which of the two is wrong, unless
//! another broker agrees with the machine: then the first broker's clock is wrong.

use super::{
    failure::Failure,
    handle::Reason,
    partition_owner::{Owner, topic},
    request::Machine,
};
use crate::{
    log::Log,
    protocol::{Barrier, OwnerProtocol},
};
use schemas::{Timestamp, topics::TopicPartition};
use std::time::Duration;

/// Largest difference between the machine's clock and the broker's.
const CLOCK_DIFFERENCE_US_MAX: i64 = 5_000_000;
/// Maximum age of our announcement, when we read it back, for its broker timestamp to be trusted as the
/// current time.
const STAMP_AGE_MAX: Duration = Duration::from_secs(5);
/// Largest difference between the machine's clock and the time that commits carry.
const CLOCK_DRIFT_US_MAX: i64 = 11_000_000;
/// A difference that take-over accepts must not end the term.
const _: () = assert!(
    CLOCK_DRIFT_US_MAX as u128 > CLOCK_DIFFERENCE_US_MAX as u128 + STAMP_AGE_MAX.as_micros()
);
/// Wait of an owner with a wrong clock before it announces itself again, because each announcement ends
/// the term of the serving owner.
const CLOCK_RETRY: Duration = Duration::from_secs(60);
/// Maximum number of partitions whose leaders the owner looks up to find a broker that agrees with the machine's clock.
const LEADERS_QUERIED_MAX: usize = 16;

impl<M: Machine, L: Log, P: OwnerProtocol> Owner<M, L, P> {
    /// Adopts the broker's clock for this term, unless the machine's clock contradicts it: the broker
    /// took the announcement after it was created and before it was read.
    pub(super) async fn set_clock(&mut self, stamp_ms: Option<i64>) -> Result<(), Failure> {
        let Some(stamp_ms) = stamp_ms else {
            // An earlier attempt read the announcement, and failed then.
            self.abandon_announcement();
            let reason = "the announcement's timestamp is no longer known";
            return Err(Failure::Retry(reason.into()));
        };
        let (stamp, uptime) = (
            Timestamp(stamp_ms.saturating_mul(1_000)),
            (self.settings.uptime)(),
        );
        let age = uptime.saturating_sub(self.announced_at);
        if age > STAMP_AGE_MAX {
            self.abandon_announcement();
            let reason = format!("the announcement was read only after {age:?}");
            return Err(Failure::Retry(reason));
        }
        let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        // If this machine's clock is right, the time since the broker took the announcement is between zero and
        // the age.
        let since_us = self.own_clock().0.saturating_sub(stamp.0);
        let off_us = match since_us {
            ..0 => since_us,
            since_us => since_us.saturating_sub(age_us).max(0),
        };
        if off_us.saturating_abs() > CLOCK_DIFFERENCE_US_MAX {
            self.abandon_announcement();
            let reason = self.reason_of_difference(off_us / 1_000).await;
            return Err(Failure::Decline(CLOCK_RETRY, reason));
        }
        self.settings.clocks.agree(self.target(), uptime);
        self.term_clock = Some((stamp, uptime));
        Ok(())
    }

    /// Describes the difference between the two clocks, and which one is wrong if another broker's clock shows
    /// it.
    async fn reason_of_difference(&mut self, off_ms: i64) -> Reason {
        let target = self.target();
        self.settings.clocks.disagree(target);
        let max_ms = CLOCK_DIFFERENCE_US_MAX / 1_000;
        let difference = format!(
            "this machine's clock is {off_ms} ms off the broker's, which is more than {max_ms}"
        );
        let leader = self.log.leader(target.topic, target.partition).await;
        let agreeing = self.settings.clocks.agreeing((self.settings.uptime)());
        for other in agreeing.into_iter().take(LEADERS_QUERIED_MAX) {
            let agrees = self.log.leader(other.topic, other.partition).await;
            if let (Some(wrong), Some(right)) = (leader, agrees)
                && wrong != right
            {
                return Reason::from(format!(
                    "{difference}; broker {right} agrees with this machine, so the clock of broker \
                     {wrong} must be set"
                ));
            }
        }
        Reason::suspecting_this_node(difference)
    }

    /// Makes the next attempt announce again. The term in force is still this owner's, so the next attempt must
    /// not treat it as another node's.
    fn abandon_announcement(&mut self) {
        self.held = Some(self.core.checkpoint().term);
        self.core.forget_announcement();
    }

    /// Raises a barrier if the machine's clock is too far from the time that commits carry. Either the
    /// monotonic clock stopped while the machine was suspended, or the machine's clock was set, and may have
    /// been wrong before or be wrong now. The broker's timestamp of the next announcement shows it.
    pub(super) fn check_drift(&self) -> Result<(), Barrier> {
        let off_us = self.own_clock().0.saturating_sub(self.now().0);
        if off_us.saturating_abs() <= CLOCK_DIFFERENCE_US_MAX {
            let uptime = (self.settings.uptime)();
            self.settings.clocks.agree(self.target(), uptime);
        }
        if off_us.saturating_abs() <= CLOCK_DRIFT_US_MAX {
            return Ok(());
        }
        Err(Barrier {
            reason: format!("this machine's clock jumped by {} ms", off_us / 1_000),
        })
    }

    fn target(&self) -> TopicPartition {
        TopicPartition {
            topic: topic::<M>(),
            partition: self.partition,
        }
    }
}
