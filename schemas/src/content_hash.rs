//! A hash of a value's content. An aggregate keeps it instead of an event, and a cursor has it instead of a
//! query's filters.

use serde::{Deserialize, Serialize};

/// The first 16 bytes of BLAKE3 over a value's postcard encoding. It is never written to the log: the hash has no
/// key, so a short content could be guessed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    /// The hash of a value.
    ///
    /// # Panics
    /// If postcard can't serialise the value, for example a sequence of unknown length. No type of this crate has
    /// one.
    pub fn of(value: &impl Serialize) -> Self {
        let bytes =
            postcard::to_stdvec(value).expect("events are structs of texts, numbers and lists");
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Self(hash)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_hashes_and_different_ones_differ() {
        let hash = |text: &str, numbers: &[i64]| ContentHash::of(&(text, numbers));
        assert_eq!(hash("a", &[1, 2]), hash("a", &[1, 2]));
        assert_ne!(hash("a", &[1, 2]), hash("a", &[2, 1]));
        assert_ne!(hash("a", &[1]), hash("b", &[1]));
        // The hash depends on the boundaries between texts.
        assert_ne!(ContentHash::of(&("ab", "c")), ContentHash::of(&("a", "bc")));
    }
}
