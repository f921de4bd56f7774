//! Products: their SKUs, and quantities.

use crate::ids::{self, ChosenIdError};
use serde::{Deserialize, Serialize};

/// A stock-keeping unit: a product's id. Its case counts (`85123A` is not `85123a`).
///
/// Decoding does not check, because events are read back as they were written. [`Sku::parse`] does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(String);

/// The reason why a text is not a SKU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SKU {0}")]
pub struct SkuError(pub ChosenIdError);

impl Sku {
    /// Parses a SKU, which has the grammar of every id that a client chooses ([`ids::check_chosen`]).
    ///
    /// # Errors
    /// [`SkuError`]: the text is not such an id.
    pub fn parse(text: &str) -> Result<Self, SkuError> {
        ids::check_chosen(text).map_err(SkuError)?;
        Ok(Self(text.to_owned()))
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
    fn a_text_that_no_client_can_choose_as_an_id_is_no_sku() {
        let error = Sku::parse("A ").unwrap_err();
        assert_eq!(error, SkuError(ChosenIdError::Blank));
        assert_eq!(
            error.to_string(),
            "a SKU must not be empty, and must not start or end with a blank"
        );
    }
}
