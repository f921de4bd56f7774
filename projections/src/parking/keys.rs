//! The parked aggregates of one partition, in memory.

use crate::recorded::Recorded;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of parked aggregates of a partition. With more, the cause is the view's code or its
/// database, not individual events.
pub const PARKED_KEYS_MAX: usize = 1_000;

/// A parked aggregate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct ParkedKey {
    /// The journal.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The record's key.
    pub key: String,
}

/// A commit that is recorded as parked instead of being applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedCommit {
    /// The record's key.
    pub key: String,
    /// The commit's offset.
    pub offset: i64,
    /// The aggregate's version before the commit.
    pub version: i64,
    /// Number of events.
    pub events: i32,
    /// Why it can't be applied; `None` if it waits behind another commit of its aggregate.
    pub error: Option<String>,
}

/// The first commit of an aggregate that can't be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// The record's key.
    pub key: String,
    /// The commit's offset.
    pub offset: i64,
    /// Why it can't be applied.
    pub error: String,
}

/// The parked aggregates of one partition of a build.
#[derive(Debug, Default)]
pub struct ParkedKeys {
    /// The keys that are stored as parked.
    stored: BTreeSet<String>,
    /// The keys that the next step parks.
    found: BTreeMap<String, Poison>,
}

impl ParkedKeys {
    /// The keys that the database has.
    pub fn new(stored: impl IntoIterator<Item = String>) -> Self {
        Self {
            stored: stored.into_iter().collect(),
            found: BTreeMap::new(),
        }
    }

    /// The keys that are stored as parked.
    pub fn stored_keys(&self) -> impl Iterator<Item = &str> {
        self.stored.iter().map(String::as_str)
    }

    /// Adds an aggregate. Returns `false` if this commit, or an earlier one of the aggregate, is already
    /// known as its poison.
    pub fn add(&mut self, poison: Poison) -> bool {
        let known = self.found.get(&poison.key);
        // An earlier poison commit of the aggregate covers a later one.
        let is_new = known.is_none_or(|known| known.offset > poison.offset);
        if is_new {
            self.found.insert(poison.key.clone(), poison);
        }
        is_new
    }

    /// Records that the added aggregates are now stored. Returns them.
    pub fn stored(&mut self) -> Vec<Poison> {
        let found: Vec<Poison> = std::mem::take(&mut self.found).into_values().collect();
        self.stored
            .extend(found.iter().map(|poison| poison.key.clone()));
        found
    }

    /// Forgets the added aggregates that are not stored.
    pub fn discard_found(&mut self) {
        self.found.clear();
    }

    /// Removes an aggregate that is no longer parked.
    pub fn remove(&mut self, key: &str) {
        self.stored.remove(key);
    }

    /// Whether the number of aggregates exceeds [`PARKED_KEYS_MAX`].
    pub fn is_over_limit(&self) -> bool {
        self.stored.len() + self.found.len() > PARKED_KEYS_MAX
    }

    /// Divides events into those to apply and the commits to park. A commit is applied or parked as a whole.
    pub fn divide<'a, E>(
        &self,
        events: &[Recorded<'a, E>],
    ) -> (Vec<Recorded<'a, E>>, Vec<ParkedCommit>) {
        let mut applied = Vec::with_capacity(events.len());
        let mut parked: Vec<ParkedCommit> = Vec::new();
        for event in events {
            let poison = self.found.get(event.key);
            let is_parked = self.stored.contains(event.key)
                || poison.is_some_and(|poison| event.offset >= poison.offset);
            if !is_parked {
                applied.push(*event);
                continue;
            }
            match parked.last_mut() {
                Some(last) if last.offset == event.offset => last.events += 1,
                Some(_) | None => parked.push(ParkedCommit {
                    key: event.key.to_owned(),
                    offset: event.offset,
                    version: event.version - 1,
                    events: 1,
                    error: poison
                        .filter(|poison| poison.offset == event.offset)
                        .map(|poison| poison.error.clone()),
                }),
            }
        }
        (applied, parked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Timestamp;

    /// Events of two commits of `a` and one of `b`: key, offset and version.
    const EVENTS: [(&str, i64, i64); 5] = [
        ("a", 1, 1),
        ("b", 2, 1),
        ("a", 3, 2),
        ("a", 3, 3),
        ("a", 5, 4),
    ];

    fn events() -> Vec<Recorded<'static, ()>> {
        let recorded = |(key, offset, version)| Recorded {
            key,
            offset,
            version,
            recorded_at: Timestamp::default(),
            event: &(),
        };
        EVENTS.map(recorded).to_vec()
    }

    fn poison(key: &str, offset: i64) -> Poison {
        Poison {
            key: key.into(),
            offset,
            error: format!("error at {offset}"),
        }
    }

    fn parked(offset: i64, version: i64, events: i32, error: Option<&str>) -> ParkedCommit {
        ParkedCommit {
            key: "a".into(),
            offset,
            version,
            events,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn commits_before_the_poison_are_applied_and_those_behind_it_wait() {
        let mut keys = ParkedKeys::default();
        assert!(keys.add(poison("a", 3)));
        let (applied, waiting) = keys.divide(&events());
        let applied: Vec<_> = applied.iter().map(|one| (one.key, one.offset)).collect();
        assert_eq!(applied, [("a", 1), ("b", 2)]);
        let expected = [parked(3, 1, 2, Some("error at 3")), parked(5, 3, 1, None)];
        assert_eq!(waiting, expected);
    }

    #[test]
    fn every_commit_of_a_stored_key_waits() {
        let keys = ParkedKeys::new(["a".to_owned()]);
        let (applied, waiting) = keys.divide(&events());
        assert_eq!(applied.len(), 1);
        let offsets: Vec<_> = waiting.iter().map(|one| one.offset).collect();
        assert_eq!(offsets, [1, 3, 5]);
        let errors: Vec<_> = waiting
            .iter()
            .filter_map(|one| one.error.as_ref())
            .collect();
        assert!(errors.is_empty(), "{errors:?} instead of no errors");
    }

    #[test]
    fn an_earlier_poison_replaces_a_later_one() {
        let mut keys = ParkedKeys::default();
        assert!(keys.add(poison("a", 5)));
        assert!(!keys.add(poison("a", 5)));
        assert!(keys.add(poison("a", 3)));
        assert!(!keys.add(poison("a", 5)));
        assert_eq!(keys.stored(), [poison("a", 3)]);
    }

    #[test]
    fn a_key_is_parked_until_it_is_removed() {
        let mut keys = ParkedKeys::default();
        keys.add(poison("a", 5));
        keys.stored();
        assert_eq!(keys.divide(&events()).1.len(), 3);
        keys.remove("a");
        assert_eq!(keys.divide(&events()).1, []);
    }

    #[test]
    fn the_number_of_keys_has_a_limit() {
        let mut keys = ParkedKeys::new((0..PARKED_KEYS_MAX).map(|number| number.to_string()));
        assert!(!keys.is_over_limit());
        keys.add(poison("a", 5));
        assert!(keys.is_over_limit());
    }
}
