//! A Bloom filter of the command ids that the state store may have, in memory of a fixed size. Nearly
//! every command has a new id, and asking the store whether it does costs more than the rest of the
//! command's work.
//!
//! Each id falls on one word. "No" is certain; the rate of false "maybe" grows with the number of ids
//! (about 1% at 1,000,000, nearly 100% at 10,000,000), and after a "maybe" the store is asked.

use schemas::ids::CommandId;

/// 2 MiB per partition; the operating system allocates a page when the first id falls on it. The crate
/// fastbloom would be the standard choice, but it writes to all pages at once: too much memory for an
/// idle node with many partitions.
const WORDS: usize = 1 << 18;
/// Number of bits that an id sets in its word.
const BITS: u32 = 5;
/// An odd number derived from the golden ratio: a product with it spreads ids that differ in few bits.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A set of ids with false positives.
pub(super) struct BloomFilter {
    words: Vec<u64>,
}

impl Default for BloomFilter {
    fn default() -> Self {
        Self {
            words: vec![0; WORDS],
        }
    }
}

impl BloomFilter {
    /// Inserts an id.
    pub fn insert(&mut self, id: CommandId) {
        let (word, bits) = position(id);
        self.words[word] |= bits;
    }

    /// Whether the id may have been inserted; `false` is certain.
    pub fn may_contain(&self, id: CommandId) -> bool {
        let (word, bits) = position(id);
        self.words[word] & bits == bits
    }
}

/// The word that an id falls on, and its bits there.
#[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
fn position(id: CommandId) -> (usize, u64) {
    let id = u128::from_be_bytes(id.0);
    // The upper half of a product depends on all lower bits of the factor, so fold both halves first.
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

    fn filter(ids: u128) -> BloomFilter {
        let mut filter = BloomFilter::default();
        for id in 0..ids {
            filter.insert(CommandId(id.to_be_bytes()));
        }
        filter
    }

    #[test]
    fn an_inserted_id_is_always_found() {
        let filter = filter(100_000);
        assert!((0..100_000_u128).all(|id| filter.may_contain(CommandId(id.to_be_bytes()))));
    }

    #[test]
    fn false_positives_are_below_2_percent_at_a_million_ids() {
        let filter = filter(1_000_000);
        // Ids that differ from the inserted ones in their upper half only, or in their lower half only.
        for others in [1 << 64, 1_000_000, 1 << 120] {
            let ids = (0..100_000_u128).map(|id| CommandId((id + others).to_be_bytes()));
            let maybe = ids.filter(|id| filter.may_contain(*id)).count();
            assert!(maybe < 2_000, "{maybe} of 100,000 above {others}");
        }
    }
}
