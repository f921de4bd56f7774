//! The sort keys of the lists of products, which cursors contain.

use crate::paging::SortKey;
use schemas::Sku;
use serde::{Deserialize, Serialize};

/// The sort key of the list by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BySku {
    pub sku: String,
}

/// The sort key of the lists by price, in either direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByPrice {
    /// Minor units of the list's currency.
    pub price: i64,
    pub sku: String,
}

/// The sort key of the list by relevance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ByRelevance {
    pub relevance: i64,
    pub sku: String,
}

impl SortKey for BySku {
    fn is_valid(&self) -> bool {
        Sku::parse(&self.sku).is_ok()
    }
}

impl SortKey for ByPrice {
    fn is_valid(&self) -> bool {
        Sku::parse(&self.sku).is_ok()
    }
}

impl SortKey for ByRelevance {
    fn is_valid(&self) -> bool {
        Sku::parse(&self.sku).is_ok()
    }
}
