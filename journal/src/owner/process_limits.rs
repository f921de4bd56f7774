//! Limits that all owners of a process share: concurrent take-overs, and bytes in flight. They bound the threads,
//! connections and memory of a process that owns many partitions.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of owners per processor that read the log at the same time for a take-over. Each uses a client with
/// its own threads and connections, whose start takes processor time. With many more of them, no take-over reads its
/// announcement early enough to trust its timestamp, and all of them announce themselves again.
const TAKE_OVERS_PER_PROCESSOR: usize = 4;
/// Maximum number of owners that read the log at the same time after a barrier. These recoveries are short, so they
/// have slots of their own and don't wait for take-overs.
const RECOVERIES_MAX: usize = 32;
/// Maximum size of one owner's records without a delivery report, in bytes.
pub(super) const OWNER_BYTES_MAX: usize = 24 << 20;
/// Maximum size of all owners' records without a delivery report, in bytes, plus one record per owner. The producer's
/// queue has room for this total with up to 400 owners, even if each of these records has the maximum size.
const PROCESS_BYTES_MAX: usize = 128 << 20;
/// An owner may use at most the free bytes divided by this number. So some bytes stay free for other owners, however
/// many owners wait for a broker.
const SHARE_OF_REST: usize = 4;

/// The limits that the owners of a process share. Clones share the same counters.
#[derive(Debug, Clone)]
pub struct ProcessLimits {
    take_overs: Arc<Semaphore>,
    recoveries: Arc<Semaphore>,
    bytes_in_flight: Arc<AtomicUsize>,
}

/// A slot for reading the log. Dropping it frees the slot.
pub type TakeOverSlot = OwnedSemaphorePermit;

/// The bytes of one owner's records without a delivery report.
#[derive(Debug)]
pub(super) struct BytesInFlight {
    own: usize,
    limits: ProcessLimits,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::new(TAKE_OVERS_PER_PROCESSOR * processors, RECOVERIES_MAX)
    }
}

impl ProcessLimits {
    /// Limits with these numbers of concurrent take-overs and recoveries.
    pub fn new(take_overs_max: usize, recoveries_max: usize) -> Self {
        Self {
            take_overs: Arc::new(Semaphore::new(take_overs_max)),
            recoveries: Arc::new(Semaphore::new(recoveries_max)),
            bytes_in_flight: Arc::default(),
        }
    }

    /// A slot for a take-over or a recovery, if one is free.
    pub fn free_slot(&self, is_recovery: bool) -> Option<TakeOverSlot> {
        self.slots(is_recovery).clone().try_acquire_owned().ok()
    }

    /// Waits for a slot; callers get slots in the order of their calls.
    pub async fn slot(&self, is_recovery: bool) -> TakeOverSlot {
        let slot = self.slots(is_recovery).clone().acquire_owned().await;
        slot.expect("the semaphore is never closed")
    }

    fn slots(&self, is_recovery: bool) -> &Arc<Semaphore> {
        match is_recovery {
            true => &self.recoveries,
            false => &self.take_overs,
        }
    }
}

impl BytesInFlight {
    pub fn none(limits: ProcessLimits) -> Self {
        Self { own: 0, limits }
    }

    /// Whether the owner may add another record. An owner without records may always add one, so every owner makes
    /// progress.
    pub fn has_room(&self) -> bool {
        let all = self.limits.bytes_in_flight.load(Ordering::Relaxed);
        let share = PROCESS_BYTES_MAX.saturating_sub(all) / SHARE_OF_REST;
        self.own == 0 || self.own < share.min(OWNER_BYTES_MAX)
    }

    pub fn add(&mut self, bytes: usize) {
        self.own += bytes;
        self.limits
            .bytes_in_flight
            .fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn remove(&mut self, bytes: usize) {
        self.own -= bytes;
        self.limits
            .bytes_in_flight
            .fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn clear(&mut self) {
        self.remove(self.own);
    }
}

impl Drop for BytesInFlight {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka::appender::{QUEUE_BYTES_MAX, RECORD_BYTES_MAX};

    const OWNERS: usize = 300;

    fn owners(limits: &ProcessLimits) -> Vec<BytesInFlight> {
        (0..OWNERS)
            .map(|_| BytesInFlight::none(limits.clone()))
            .collect()
    }

    /// Adds records of this size to the owners in turn, until no owner has room.
    fn fill(owners: &mut [BytesInFlight], bytes: usize) {
        loop {
            let mut has_added = false;
            for owner in owners.iter_mut().filter(|owner| owner.has_room()) {
                owner.add(bytes);
                has_added = true;
            }
            if !has_added {
                return;
            }
        }
    }

    #[test]
    fn the_records_of_many_owners_fit_into_the_producers_queue() {
        for bytes in [1_000, 100_000, RECORD_BYTES_MAX] {
            let limits = ProcessLimits::default();
            let mut owners = owners(&limits);
            fill(&mut owners, bytes);
            let all: usize = owners.iter().map(|owner| owner.own).sum();
            assert!(
                all < QUEUE_BYTES_MAX,
                "{all} bytes of records of {bytes} instead of less than {QUEUE_BYTES_MAX}"
            );
            let least = owners.iter().map(|owner| owner.own).min().unwrap();
            assert!(
                least >= bytes,
                "an owner has {least} bytes instead of at least {bytes}"
            );
            drop(owners);
            assert_eq!(limits.bytes_in_flight.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn owners_that_wait_for_a_broker_leave_room_for_the_others() {
        let limits = ProcessLimits::default();
        let mut owners = owners(&limits);
        let (stalled, others) = owners.split_at_mut(OWNERS / 2);
        fill(stalled, 1_000);
        for other in others {
            assert!(other.has_room());
            other.add(1_000);
            assert!(other.has_room(), "a second record");
            other.clear();
        }
    }

    #[test]
    fn a_single_owner_may_use_its_full_limit() {
        let mut owner = BytesInFlight::none(ProcessLimits::default());
        owner.add(OWNER_BYTES_MAX - 1);
        assert!(owner.has_room());
        owner.add(1);
        assert!(!owner.has_room());
    }

    #[tokio::test]
    async fn recoveries_do_not_wait_for_take_overs() {
        let limits = ProcessLimits::new(1, 1);
        let held = limits.free_slot(false);
        let taken = [held.is_some(), limits.free_slot(false).is_some()];
        assert_eq!(taken, [true, false]);
        assert!(limits.free_slot(true).is_some());
        drop(held);
        let _taken = limits.slot(false).await;
    }
}
