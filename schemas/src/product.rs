//! What is sold, and how many of it.

use serde::{Deserialize, Serialize};

/// Longest SKU, in bytes.
pub const SKU_BYTES_MAX: usize = 64;

/// A stock-keeping unit: a product's id. Its case counts (`85123A` is not `85123a`).
///
/// Facts are read back as they were written, so decoding does not check; [`Sku::parse`] does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(String);

/// Why a text is no SKU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkuError {
    /// Nothing, or blanks around it.
    #[error("a stock code must not be empty nor begin or end with a blank")]
    Blank,
    /// Longer than [`SKU_BYTES_MAX`].
    #[error("a stock code has at most {SKU_BYTES_MAX} bytes, this has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Something else than printable ASCII.
    #[error("a stock code is printable ASCII, this has {character:?}")]
    NotPrintable {
        /// The first character that is not.
        character: char,
    },
}

impl Sku {
    /// Takes 1 to [`SKU_BYTES_MAX`] printable ASCII characters without blanks at either end.
    pub fn parse(text: &str) -> Result<Self, SkuError> {
        if text.is_empty() || text.starts_with(' ') || text.ends_with(' ') {
            return Err(SkuError::Blank);
        }
        if text.len() > SKU_BYTES_MAX {
            return Err(SkuError::TooLong { bytes: text.len() });
        }
        match text.chars().find(|c| !matches!(c, ' '..='~')) {
            Some(character) => Err(SkuError::NotPrintable { character }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Sku {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of pieces; signed, for corrections and returns take pieces back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_case_and_inner_blanks() {
        assert_ne!(Sku::parse("85123A"), Sku::parse("85123a"));
        assert_eq!(Sku::parse("BANK CHARGES").unwrap().as_str(), "BANK CHARGES");
    }

    #[test]
    fn refuses_what_cannot_stand_in_a_key() {
        assert_eq!(Sku::parse(""), Err(SkuError::Blank));
        assert_eq!(Sku::parse("A "), Err(SkuError::Blank));
        assert_eq!(
            Sku::parse("A\u{a3}"),
            Err(SkuError::NotPrintable {
                character: '\u{a3}'
            })
        );
        assert_eq!(
            Sku::parse("A\n"),
            Err(SkuError::NotPrintable { character: '\n' })
        );
        assert_eq!(
            Sku::parse(&"A".repeat(65)),
            Err(SkuError::TooLong { bytes: 65 })
        );
    }
}
