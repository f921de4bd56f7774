//! The plan of a run of projectors, drawn from its seed.

use crate::rng::Rng;
use journal::shared_reader::Limits;

/// The plan of a run. Rates are in thousandths.
#[derive(Debug)]
pub(super) struct Plan {
    pub partitions: i32,
    /// Counters of each partition.
    pub counters: usize,
    /// Projectors of the same build. All project every partition, as during a change of assignments.
    pub projectors: usize,
    pub limits: Limits,
    /// Bursts of the writer.
    pub bursts: u64,
    /// Maximum number of records in a burst.
    pub burst_max: u64,
    /// Longest time between two bursts.
    pub pause_ms_max: u64,
    /// Rate of crashes of a projector, of its attempts to apply a batch.
    pub crash: u64,
    /// Rate of long pauses of a projector, of its requests.
    pub stall: u64,
    /// Rate of failed requests, and of lost answers.
    pub failed_request: u64,
    /// Rate of writes that the driver sends twice.
    pub repeated_write: u64,
    /// Rate of writes that come late, of each replica.
    pub late_write: u64,
    /// Rate of writes that never come, of each replica.
    pub lost_write: u64,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let mut rate = |rates: [u64; 4]| rates[rng.index(4)];
        let (crash, stall) = (rate([0, 50, 150, 300]), rate([0, 5, 20, 60]));
        let (failed_request, repeated_write) = (rate([0, 0, 20, 60]), rate([0, 0, 20, 60]));
        let (late_write, lost_write) = (rate([0, 20, 60, 200]), rate([0, 0, 20, 100]));
        Self {
            partitions: i32::try_from(1 + rng.index(2)).expect("a few"),
            counters: 1 + rng.index(3),
            projectors: 2 + rng.index(2),
            limits: Limits {
                commits: 4 + rng.index(20),
                bytes: 100_000,
                join_distance: 20,
            },
            bursts: rng.between(4, 16),
            burst_max: [1, 3, 8][rng.index(3)],
            pause_ms_max: [50, 1_000, 10_000][rng.index(3)],
            crash,
            stall,
            failed_request,
            repeated_write,
            late_write,
            lost_write,
        }
    }
}
