//! The plan of a run of subscribers, drawn from its seed.

use crate::rng::Rng;
use journal::shared_reader::Limits;

/// The speed of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It applies a batch at once.
    Quick,
    /// It needs some time for some batches.
    Uneven,
    /// It needs long for each batch.
    Slow,
    /// It stalls with a batch until the others are done.
    Stalls,
}

/// The plan of a run.
#[derive(Debug)]
pub(super) struct Plan {
    pub partitions: i32,
    pub limits: Limits,
    /// One for each subscriber.
    pub paces: Vec<Pace>,
    /// The partitions that each subscriber reads. The first subscriber reads all of them, so that one shared reader can
    /// feed every subscriber.
    pub shares: Vec<Vec<i32>>,
    /// Bursts of the writer.
    pub bursts: u64,
    /// Maximum number of records in a burst.
    pub burst_max: u64,
    /// Longest time between two bursts.
    pub pause_ms_max: u64,
    /// Rate of crashes of a subscriber, in thousandths of its batches.
    pub crash: u64,
    /// Rate of crashes of the whole process, in thousandths of bursts.
    pub process_crash: u64,
    /// A partition in which the log is altered at the end.
    pub altered: Option<i32>,
}

/// Rate of subscribers that read only some of the partitions, in thousandths.
const SHARE_PERMILLE: u64 = 400;

/// A random share of the partitions, not empty.
fn share(rng: &mut Rng, partitions: usize) -> Vec<i32> {
    let first = rng.index(partitions);
    numbers(first, first + 1 + rng.index(partitions - first))
}

/// The partitions from `first` to before `end`.
fn numbers(first: usize, end: usize) -> Vec<i32> {
    let number = |partition| i32::try_from(partition).expect("a few");
    (first..end).map(number).collect()
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let partitions = 1 + rng.index(4);
        let subscribers = 2 + rng.index(4);
        let mut paces: Vec<Pace> = (0..subscribers)
            .map(|_| [Pace::Quick, Pace::Uneven, Pace::Slow][rng.index(3)])
            .collect();
        if rng.chance(500) {
            paces[0] = Pace::Stalls;
        }
        let shares =
            (0..subscribers).map(|number| match number > 0 && rng.chance(SHARE_PERMILLE) {
                true => share(rng, partitions),
                false => numbers(0, partitions),
            });
        Self {
            shares: shares.collect(),
            partitions: i32::try_from(partitions).expect("a few"),
            limits: Limits {
                commits: 4 + rng.index(40),
                bytes: [2_000, 8_000, 100_000][rng.index(3)],
                join_distance: [5, 20, 100][rng.index(3)],
            },
            paces,
            bursts: rng.between(10, 60),
            burst_max: [1, 5, 40][rng.index(3)],
            pause_ms_max: [5, 50, 1_000][rng.index(3)],
            crash: [0, 0, 20, 60][rng.index(4)],
            process_crash: [0, 0, 30][rng.index(3)],
            altered: rng
                .chance(250)
                .then(|| i32::try_from(rng.index(partitions)).expect("a few")),
        }
    }
}
