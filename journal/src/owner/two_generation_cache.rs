//! A two-generation cache of entries that were written or read recently, in bounded memory.
//!
//! When the young generation is full it becomes the old one, and the previous old one is dropped, with all
//! entries that were not read meanwhile. An unsaved entry is never dropped: the generations turn over only
//! after the store has all entries of the old one.

//!
//! The caches of a process share a number of entries, so that its memory does not grow with the number of partitions.

use foldhash::HashMap;
use std::{
    borrow::Borrow,
    hash::Hash,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Entries in the young generations of all caches of a process before these are full. An owner has two caches, so this
/// is a hundred thousand aggregates and as many answers, and twice that with the old generations.
const PROCESS_ENTRIES_MAX: usize = 200_000;
/// Maximum and minimum of a cache's share: entries in a generation before it is full.
const GENERATION_MAX: usize = 50_000;
const GENERATION_MIN: usize = 256;

/// The caches of this process.
static PROCESS: Caches = Caches(AtomicUsize::new(0));

/// A number of caches that share [`PROCESS_ENTRIES_MAX`].
struct Caches(AtomicUsize);

impl Caches {
    /// Entries in a generation of one of these caches before it is full.
    fn generation_max(&self) -> usize {
        let caches = self.0.load(Ordering::Relaxed).max(1);
        (PROCESS_ENTRIES_MAX / caches).clamp(GENERATION_MIN, GENERATION_MAX)
    }
}

/// A map that drops old entries.
pub(super) struct TwoGenerationCache<K, V> {
    caches: &'static Caches,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// The offset of the last commit that wrote into each.
    young_last: i64,
    old_last: i64,
}

impl<K, V> Default for TwoGenerationCache<K, V> {
    fn default() -> Self {
        Self::among(&PROCESS)
    }
}

impl<K, V> Drop for TwoGenerationCache<K, V> {
    fn drop(&mut self) {
        self.caches.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K, V> TwoGenerationCache<K, V> {
    fn among(caches: &'static Caches) -> Self {
        caches.0.fetch_add(1, Ordering::Relaxed);
        Self {
            caches,
            young: HashMap::default(),
            old: HashMap::default(),
            young_last: -1,
            old_last: -1,
        }
    }
}

impl<K: Eq + Hash, V> TwoGenerationCache<K, V> {
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if !self.old.is_empty()
            && let Some((key, value)) = self.old.remove_entry(key)
        {
            // The entry may be unsaved.
            self.young_last = self.young_last.max(self.old_last);
            self.young.insert(key, value);
        }
        self.young.get(key)
    }

    /// Inserts an entry that the commit at `offset` wrote.
    pub fn insert(&mut self, key: K, value: V, offset: i64) {
        self.old.remove(&key);
        self.young.insert(key, value);
        self.young_last = self.young_last.max(offset);
    }

    /// Inserts an entry that the store has. The store has all entries of commits before `saved_before`.
    pub fn remember(&mut self, key: K, value: V, saved_before: i64) {
        self.young.insert(key, value);
        // Refused commands read many entries and save none, so reads must turn the generations over, too.
        self.turn_over(saved_before);
    }

    /// Drops the old generation if the young one is full and the store has all entries of the old one.
    pub fn turn_over(&mut self, saved_before: i64) {
        let is_full = self.young.len() >= self.caches.generation_max();
        if is_full && self.old_last < saved_before {
            // Reuse the allocation: growing a new map would move each entry twice.
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
            self.old_last = std::mem::replace(&mut self.young_last, -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache that shares its entries with `others` empty ones.
    fn cache<V>(others: usize) -> TwoGenerationCache<usize, V> {
        let caches = Caches(AtomicUsize::new(others));
        TwoGenerationCache::among(Box::leak(Box::new(caches)))
    }

    fn filled(offsets: std::ops::Range<i64>) -> TwoGenerationCache<i64, i64> {
        let alone = Box::leak(Box::new(Caches(AtomicUsize::new(0))));
        let mut cache = TwoGenerationCache::among(alone);
        for offset in offsets {
            cache.insert(offset, offset, offset);
        }
        cache
    }

    #[test]
    fn unsaved_entries_stay() {
        let full = i64::try_from(GENERATION_MAX).unwrap();
        let mut cache = filled(0..full);
        cache.turn_over(full);
        for offset in full..2 * full {
            cache.insert(offset, offset, offset);
        }
        // The store has the whole old generation and the first half of the young one.
        cache.turn_over(full + full / 2);
        assert_eq!(cache.get(&0), None);
        assert_eq!(cache.get(&full), Some(&full));
        for offset in 2 * full..3 * full {
            cache.insert(offset, offset, offset);
        }
        cache.turn_over(full + full / 2);
        assert_eq!(cache.get(&(2 * full - 1)), Some(&(2 * full - 1)));
        cache.turn_over(2 * full);
        assert_eq!(cache.get(&(full + 1)), None);
        // It was read, so it moved to the young generation.
        assert_eq!(cache.get(&full), Some(&full));
    }

    #[test]
    fn entries_that_were_only_read_are_dropped_without_a_save() {
        let mut cache = cache(0);
        for key in 0..5 * GENERATION_MAX {
            cache.remember(key, key, 0);
            let (held, bound) = (cache.young.len() + cache.old.len(), 2 * GENERATION_MAX);
            assert!(held <= bound, "{held} entries instead of at most {bound}");
        }
        let last = 5 * GENERATION_MAX - 1;
        assert_eq!(cache.get(&last), Some(&last));
    }

    #[test]
    fn caches_share_the_entries_of_the_process() {
        for (others, generation) in [(3, 50_000), (15, 12_500), (9_999, GENERATION_MIN)] {
            let mut cache = cache(others);
            for key in 0..5 * generation {
                cache.remember(key, key, 0);
            }
            let (held, bound) = (cache.young.len() + cache.old.len(), 2 * generation);
            assert!(
                held <= bound,
                "{held} entries instead of at most {bound} beside {others} caches"
            );
            assert_eq!(cache.get(&(4 * generation)), Some(&(4 * generation)));
        }
    }

    #[test]
    fn a_dropped_cache_gives_up_its_share() {
        let first = cache::<()>(0);
        let caches = first.caches;
        let others: Vec<TwoGenerationCache<usize, ()>> =
            (0..9).map(|_| TwoGenerationCache::among(caches)).collect();
        assert_eq!(caches.generation_max(), PROCESS_ENTRIES_MAX / 10);
        drop(others);
        assert_eq!(caches.generation_max(), GENERATION_MAX);
    }

    #[test]
    fn an_entry_that_moves_keeps_its_generation_unsaved() {
        let full = i64::try_from(GENERATION_MAX).unwrap();
        let mut cache = filled(0..full);
        cache.turn_over(0);
        assert_eq!(cache.get(&5), Some(&5));
        for key in full..2 * full {
            cache.remember(key, key, 0);
        }
        // The young generation has no new entry except the one from the old generation.
        cache.turn_over(full);
        cache.turn_over(0);
        assert_eq!(cache.get(&5), Some(&5));
    }
}
