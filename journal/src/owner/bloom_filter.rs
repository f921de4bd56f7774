//! A Bloom filter of the command ids that the state store may have, in memory of a bounded size. Nearly every
//! command has a new id, and looking that up in the store costs more than the rest of the command's work.
//!
//! "No" is certain; after a "maybe" the store is read. Ids are forgotten with their answers: a filter is
//! several generations, and one is dropped once all of its ids have expired. Each generation is as large as the
//! ids that it is expected to get, so the rate of a false "maybe" stays low at any rate of commands. All
//! filters of the process share one budget; while it is used up, the answer for every id is "maybe".

use super::entries::Lifetime;
use schemas::{Timestamp, ids::CommandId};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Bytes of all filters of the process: some 22 million ids.
const BYTES_MAX: usize = 64 << 20;
/// Bits per id of a generation that is full: then its false "maybe"s are about 0.2%.
const BITS_PER_ID: usize = 24;
/// Ids of the smallest and of the largest generation.
const IDS_MIN: usize = 4_096;
const IDS_MAX: usize = 4 << 20;
/// How much larger the generation after a full one is.
const GROWTH: usize = 4;
/// A generation takes ids for this fraction of a lifetime. With a greater fraction, more ids stay after they have
/// expired.
const SPANS: i64 = 2;
/// Number of bits that an id sets in its word.
const BITS: u32 = 5;
/// An odd number derived from the golden ratio: a product with it spreads ids that differ in few bits.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// The budget of the process.
static PROCESS: Budget = Budget::new(BYTES_MAX);

/// Bytes that filters share.
struct Budget {
    used: AtomicUsize,
    max: usize,
}

/// A set of ids with false positives.
pub(super) struct BloomFilter {
    budget: &'static Budget,
    /// By lifetime, the oldest one first.
    generations: [VecDeque<Generation>; Lifetime::ALL.len()],
    /// By lifetime: when the last id without room was recorded.
    missing: [Option<Timestamp>; Lifetime::ALL.len()],
}

/// Ids that expire together.
struct Generation {
    budget: &'static Budget,
    words: Vec<u64>,
    ids: usize,
    ids_max: usize,
    first: Timestamp,
    last: Timestamp,
}

impl Budget {
    const fn new(max: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            max,
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| Some(used + bytes).filter(|used| *used <= self.max);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }
}

impl Default for BloomFilter {
    fn default() -> Self {
        Self::within(&PROCESS)
    }
}

impl BloomFilter {
    fn within(budget: &'static Budget) -> Self {
        Self {
            budget,
            generations: Default::default(),
            missing: [None; Lifetime::ALL.len()],
        }
    }

    /// Inserts an id whose answer was recorded at this log time. Log time never decreases.
    pub fn insert(&mut self, id: CommandId, lifetime: Lifetime, recorded_at: Timestamp) {
        let budget = self.budget;
        let generations = &mut self.generations[lifetime as usize];
        let missing = &mut self.missing[lifetime as usize];
        let is_over = |last: Timestamp| lifetime.is_over(last, recorded_at);
        while generations
            .front()
            .is_some_and(|oldest| is_over(oldest.last))
        {
            generations.pop_front();
        }
        missing.take_if(|last| is_over(*last));
        let needs_another = generations
            .back()
            .is_none_or(|newest| newest.is_full() || newest.is_past(lifetime, recorded_at));
        if needs_another {
            let ids_max = generations.back().map_or(IDS_MIN, Generation::next_ids_max);
            match Generation::new(budget, ids_max, recorded_at) {
                Some(generation) => generations.push_back(generation),
                None => {
                    *missing = Some(recorded_at);
                    return;
                }
            }
        }
        if let Some(newest) = generations.back_mut() {
            newest.insert(id, recorded_at);
        }
    }

    /// Whether the id may have been inserted and not expired since; `false` is certain.
    pub fn may_contain(&self, id: CommandId) -> bool {
        let hash = hash(id);
        let mut generations = self.generations.iter().flatten();
        self.missing.iter().any(Option::is_some)
            || generations.any(|generation| generation.may_contain(hash))
    }
}

impl Generation {
    /// `None` if the budget is used up.
    fn new(budget: &'static Budget, ids_max: usize, first: Timestamp) -> Option<Self> {
        let words = ids_max * BITS_PER_ID / 64;
        budget.take(words * 8).then(|| Self {
            budget,
            // The operating system allocates a page when the first id falls on it. The crate fastbloom
            // writes to all pages at once.
            words: vec![0; words],
            ids: 0,
            ids_max,
            first,
            last: first,
        })
    }

    fn is_full(&self) -> bool {
        self.ids >= self.ids_max
    }

    /// Whether its time is over, so that its first ids don't stay for long after they have expired.
    fn is_past(&self, lifetime: Lifetime, now: Timestamp) -> bool {
        let age_us = now.0.saturating_sub(self.first.0);
        lifetime.us().is_some_and(|us| age_us > us / SPANS)
    }

    /// Ids of the generation after this one.
    fn next_ids_max(&self) -> usize {
        let expected = match self.is_full() {
            true => self.ids_max * GROWTH,
            false => self.ids.next_power_of_two(),
        };
        expected.clamp(IDS_MIN, IDS_MAX)
    }

    fn insert(&mut self, id: CommandId, recorded_at: Timestamp) {
        let (word, bits) = self.position(hash(id));
        self.words[word] |= bits;
        self.ids += 1;
        self.last = self.last.max(recorded_at);
    }

    fn may_contain(&self, hash: u64) -> bool {
        let (word, bits) = self.position(hash);
        self.words[word] & bits == bits
    }

    /// The word that an id falls on, and its bits there.
    #[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
    fn position(&self, hash: u64) -> (usize, u64) {
        let word = hash as usize % self.words.len();
        let bits = (0..BITS).fold(0, |bits, index| {
            bits | 1 << ((hash >> (64 - 6 * (index + 1))) & 63)
        });
        (word, bits)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let bytes = self.words.len() * 8;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn hash(id: CommandId) -> u64 {
    let id = u128::from_be_bytes(id.0);
    // The upper half of a product depends on all lower bits of the factor, so fold both halves first.
    let mixed = (id ^ (id >> 64)).wrapping_mul(SPREAD);
    ((mixed ^ (mixed >> 64)).wrapping_mul(SPREAD) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;
    const MINUTE_US: i64 = 60_000_000;

    fn budget(bytes: usize) -> &'static Budget {
        Box::leak(Box::new(Budget::new(bytes)))
    }

    fn id(number: u128) -> CommandId {
        CommandId(number.to_be_bytes())
    }

    /// False "maybe"s among 100,000 ids that were never inserted.
    fn false_positives(filter: &BloomFilter) -> usize {
        let others = (0..100_000_u128).map(|number| id(number + (1 << 100)));
        others.filter(|id| filter.may_contain(*id)).count()
    }

    #[test]
    fn an_inserted_id_is_found_until_it_expires() {
        let mut filter = BloomFilter::within(budget(BYTES_MAX));
        for number in 0..100_000 {
            let lifetime = Lifetime::ALL[number as usize % 3];
            filter.insert(id(number), lifetime, Timestamp(0));
        }
        let missing = (0..100_000).find(|number| !filter.may_contain(id(*number)));
        assert_eq!(missing, None);
        // The others have a week to expire.
        for lifetime in Lifetime::ALL {
            filter.insert(id(1 << 90), lifetime, Timestamp(7 * 24 * HOUR_US));
        }
        let kept = (0..100_000).filter(|number| filter.may_contain(id(*number)));
        let kept: Vec<_> = kept.filter(|number| number % 3 != 0).collect();
        assert!(
            kept.len() < 2_000,
            "{} expired ids are found instead of less than 2,000",
            kept.len()
        );
        let mut of_clients = (0..100_000).step_by(3);
        let missing = of_clients.find(|number| !filter.may_contain(id(*number)));
        assert_eq!(missing, None);
    }

    #[test]
    fn similar_ids_are_distinguished() {
        let mut filter = BloomFilter::within(budget(BYTES_MAX));
        for number in 0..1_000_000 {
            filter.insert(id(number), Lifetime::Keyed, Timestamp(0));
        }
        // Ids that differ from the inserted ones in their upper half only, or in their lower half only.
        for others in [1 << 64, 1_000_000, 1 << 120] {
            let ids = (0..100_000_u128).map(|number| id(number + others));
            let maybe = ids.filter(|id| filter.may_contain(*id)).count();
            assert!(
                maybe < 2_000,
                "{maybe} of 100,000 above {others} instead of less than 2,000"
            );
        }
    }

    /// Thirty days with 150,000 keyed commands each, most of them in two busy hours, and as many without a
    /// key: 9 million ids. A filter that never forgets answers "maybe" to everything by then.
    #[test]
    fn false_positives_and_memory_stay_bounded_over_a_long_run() {
        let budget = budget(BYTES_MAX);
        let mut filter = BloomFilter::within(budget);
        let mut number = 0;
        for day in 0..30 {
            for minute in 0..24 * 60 {
                let now = Timestamp(day * 24 * HOUR_US + minute * MINUTE_US);
                let is_busy = (9 * 60..11 * 60).contains(&minute);
                for _ in 0..if is_busy { 1_000 } else { 22 } {
                    for lifetime in [Lifetime::Keyed, Lifetime::Server] {
                        filter.insert(id(number), lifetime, now);
                        number += 1;
                    }
                }
            }
            let maybe = false_positives(&filter);
            assert!(
                maybe < 2_000,
                "{maybe} of 100,000 after day {day} instead of less than 2,000"
            );
            let used = budget.used.load(Ordering::Relaxed);
            let bound = 4 << 20;
            assert!(
                used < bound,
                "{used} bytes after day {day} instead of less than {bound}"
            );
        }
        drop(filter);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_room_every_id_is_a_maybe_until_the_missing_ones_have_expired() {
        let mut filter = BloomFilter::within(budget(IDS_MIN * BITS_PER_ID / 8));
        let all = 2 * IDS_MIN as u128;
        for number in 0..all {
            filter.insert(id(number), Lifetime::Server, Timestamp(0));
        }
        let missing = (0..all).find(|number| !filter.may_contain(id(*number)));
        assert_eq!(missing, None);
        assert_eq!(false_positives(&filter), 100_000);
        filter.insert(id(all), Lifetime::Server, Timestamp(HOUR_US));
        assert!(filter.may_contain(id(all)));
        let maybe = false_positives(&filter);
        assert!(
            maybe < 1_000,
            "{maybe} of 100,000 instead of less than 1,000"
        );
    }
}
