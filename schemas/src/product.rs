//! Products: their SKUs, and quantities.

use serde::{Deserialize, Serialize};

/// Longest SKU, in bytes.
pub const SKU_BYTES_MAX: usize = 64;

/// A stock-keeping unit: a product's id. Its case counts (`85123A` is not `85123a`).
///
/// Decoding does not check, because events are read back as they were written. [`Sku::parse`] does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(String);

/// Why a text is not a SKU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkuError {
    /// The text is empty, or starts or ends with a blank.
    #[error("a SKU must not be empty, and must not start or end with a blank")]
    Blank,
    /// The text is `.` or `..`, which every client removes from the path of a URL.
    #[error("a SKU must not be {text:?}, which can't be part of a URL's path")]
    Dots {
        /// The text.
        text: String,
    },
    /// The text is longer than [`SKU_BYTES_MAX`].
    #[error("a SKU has at most {SKU_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text has a character that is not printable ASCII.
    #[error("a SKU is printable ASCII, this one has {character:?}")]
    NotPrintable {
        /// The first such character.
        character: char,
    },
}

impl Sku {
    /// Parses 1 to [`SKU_BYTES_MAX`] printable ASCII characters without blanks at either end, but not `.` or `..`.
    ///
    /// # Errors
    /// [`SkuError`]: the text violates one of these conditions.
    pub fn parse(text: &str) -> Result<Self, SkuError> {
        if text.is_empty() || text.starts_with(' ') || text.ends_with(' ') {
            return Err(SkuError::Blank);
        }
        if is_dots(text) {
            return Err(SkuError::Dots {
                text: text.to_owned(),
            });
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

/// Whether a text is one of the two segments of a URL's path that never reach a server, encoded or not.
pub fn is_dots(text: &str) -> bool {
    matches!(text, "." | "..")
}

impl std::fmt::Display for Sku {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of pieces. Signed, because corrections and returns take pieces back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_keeps_its_case_and_inner_blanks() {
        assert_ne!(Sku::parse("85123A"), Sku::parse("85123a"));
        assert_eq!(Sku::parse("BANK CHARGES").unwrap().as_str(), "BANK CHARGES");
    }

    #[test]
    fn a_text_that_cannot_be_part_of_a_key_or_a_path_is_refused() {
        assert_eq!(Sku::parse(""), Err(SkuError::Blank));
        assert_eq!(Sku::parse("A "), Err(SkuError::Blank));
        for text in [".", ".."] {
            let text = text.to_owned();
            assert_eq!(Sku::parse(&text), Err(SkuError::Dots { text }));
        }
        for text in ["...", ".a"] {
            Sku::parse(text).unwrap();
        }
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
