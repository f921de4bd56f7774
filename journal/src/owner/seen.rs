//! Which command ids the state store may have, in memory of a fixed size: nearly every command's id is
//! a new one, and to find that out from the store costs more than all else that is done for it.
//!
//! A Bloom filter of one word an id. It says "no" only of an id that was never put in; how often it says
//! "maybe" in vain grows with the number of ids (at 1,000,000 about one time in 100, at 10,000,000 nearly
//! always), and then the store is asked.

use schemas::ids::CommandId;

/// 2 MiB a partition; pages that no id falls on are never made. (The crate fastbloom writes to all of
/// them at once: too much for an idle process with many partitions.)
const WORDS: usize = 1 << 18;
/// Bits that an id sets in its word.
const BITS: u32 = 5;
/// An odd number without a pattern, after the golden ratio: spreads ids that differ in few bits.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// The ids put in.
pub(super) struct Seen {
    words: Vec<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            words: vec![0; WORDS],
        }
    }
}

impl Seen {
    /// Puts an id in.
    pub fn insert(&mut self, id: CommandId) {
        let (word, bits) = place(id);
        self.words[word] |= bits;
    }

    /// Whether the id may have been put in; `false` is certain.
    pub fn may_have(&self, id: CommandId) -> bool {
        let (word, bits) = place(id);
        self.words[word] & bits == bits
    }
}

/// Which word an id falls on, and its bits there.
#[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
fn place(id: CommandId) -> (usize, u64) {
    let id = u128::from_be_bytes(id.0);
    // The upper half of a product depends on all of the factor's lower bits; so both halves count.
    let mixed = (id ^ (id >> 64)).wrapping_mul(SPREAD);
    let mixed = (mixed ^ (mixed >> 64)).wrapping_mul(SPREAD) >> 64;
    let word = mixed as usize % WORDS;
    let bits = (0..BITS).fold(0, |bits, index| {
        bits | 1 << ((mixed >> (64 - 6 * (index + 1))) & 63)
    });
    (word, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ids: u128) -> Seen {
        let mut seen = Seen::default();
        for id in 0..ids {
            seen.insert(CommandId(id.to_be_bytes()));
        }
        seen
    }

    #[test]
    fn never_says_no_of_what_was_put_in() {
        let seen = seen(100_000);
        assert!((0..100_000_u128).all(|id| seen.may_have(CommandId(id.to_be_bytes()))));
    }

    #[test]
    fn seldom_says_maybe_of_other_ids() {
        let seen = seen(1_000_000);
        // Ids that differ from those in their upper half only, as in their lower half only.
        for others in [1 << 64, 1_000_000, 1 << 120] {
            let ids = (0..100_000_u128).map(|id| CommandId((id + others).to_be_bytes()));
            let maybe = ids.filter(|id| seen.may_have(*id)).count();
            assert!(maybe < 2_000, "{maybe} of 100,000 above {others}");
        }
    }
}
