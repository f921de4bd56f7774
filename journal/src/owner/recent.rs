//! What was written or asked for lately, in bounded memory.
//!
//! Two generations: when the young one is full it becomes the old one, and the old one goes, with all
//! that nobody asked for meanwhile. An entry that is not saved yet is never let go: the generations
//! turn over only after the store has everything that the old one holds.

use foldhash::HashMap;
use std::{borrow::Borrow, hash::Hash};

/// Entries in a generation before it is full.
const GENERATION_MAX: usize = 50_000;

/// A map that forgets.
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// The offset of the last commit that wrote into each.
    young_last: i64,
    old_last: i64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            young_last: -1,
            old_last: -1,
        }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if !self.old.is_empty()
            && let Some((key, value)) = self.old.remove_entry(key)
        {
            // It may be one that is not saved.
            self.young_last = self.young_last.max(self.old_last);
            self.young.insert(key, value);
        }
        self.young.get(key)
    }

    /// What a commit wrote.
    pub fn insert(&mut self, key: K, value: V, offset: i64) {
        self.old.remove(&key);
        self.young.insert(key, value);
        self.young_last = self.young_last.max(offset);
    }

    /// What the store has, which has everything before an offset.
    pub fn remember(&mut self, key: K, value: V, saved_before: i64) {
        self.young.insert(key, value);
        // Commands that are all refused ask for much, and nothing is ever saved.
        self.turn_over(saved_before);
    }

    /// Lets go what may go, now that the store has everything before an offset.
    pub fn turn_over(&mut self, saved_before: i64) {
        if self.young.len() >= GENERATION_MAX && self.old_last < saved_before {
            // The room that the old one had is the new one's: growing again would cost each entry twice.
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
            self.old_last = std::mem::replace(&mut self.young_last, -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(offsets: std::ops::Range<i64>) -> Recent<i64, i64> {
        let mut recent = Recent::default();
        for offset in offsets {
            recent.insert(offset, offset, offset);
        }
        recent
    }

    #[test]
    fn what_is_not_saved_stays() {
        let full = i64::try_from(GENERATION_MAX).unwrap();
        let mut recent = filled(0..full);
        recent.turn_over(full);
        for offset in full..2 * full {
            recent.insert(offset, offset, offset);
        }
        // Everything of the old generation is saved; of the young one, the first half.
        recent.turn_over(full + full / 2);
        assert_eq!(recent.get(&0), None);
        assert_eq!(recent.get(&full), Some(&full));
        for offset in 2 * full..3 * full {
            recent.insert(offset, offset, offset);
        }
        recent.turn_over(full + full / 2);
        assert_eq!(recent.get(&(2 * full - 1)), Some(&(2 * full - 1)));
        recent.turn_over(2 * full);
        assert_eq!(recent.get(&(full + 1)), None);
        // It was asked for, so it moved on.
        assert_eq!(recent.get(&full), Some(&full));
    }

    #[test]
    fn what_is_only_asked_for_goes_without_a_save() {
        let mut recent = Recent::default();
        for key in 0..5 * GENERATION_MAX {
            recent.remember(key, key, 0);
            assert!(recent.young.len() + recent.old.len() <= 2 * GENERATION_MAX);
        }
        let last = 5 * GENERATION_MAX - 1;
        assert_eq!(recent.get(&last), Some(&last));
    }

    #[test]
    fn what_is_asked_for_takes_its_date_along() {
        let full = i64::try_from(GENERATION_MAX).unwrap();
        let mut recent = filled(0..full);
        recent.turn_over(0);
        assert_eq!(recent.get(&5), Some(&5));
        for key in full..2 * full {
            recent.remember(key, key, 0);
        }
        // The young one holds nothing new but what came from the old one.
        recent.turn_over(full);
        recent.turn_over(0);
        assert_eq!(recent.get(&5), Some(&5));
    }
}
