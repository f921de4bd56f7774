//! The sort orders of the list of products, each with the key of its cursors.

use super::tables::NAME_CHARS_MAX;
use crate::{paging::SortKey, recorded::is_in_calendar};
use schemas::{Sku, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The sort order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Best match of `q` first.
    Relevance,
    /// By name, A to Z.
    Name,
    /// Lowest price first.
    PriceAsc,
    /// Highest price first.
    PriceDesc,
    /// Newest product first.
    Newest,
}

/// The key of [`Sort::Relevance`]; products with equal relevance are sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByRelevance {
    /// The relevance, in millionths.
    pub relevance: i64,
    /// The product.
    pub sku: String,
}

/// The key of [`Sort::Name`]; products with equal names are sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByName {
    /// The name.
    pub name: String,
    /// The product.
    pub sku: String,
}

/// The key of [`Sort::PriceAsc`] and [`Sort::PriceDesc`]; products with equal prices are sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByPrice {
    /// The price, in minor units.
    pub price: i64,
    /// The product.
    pub sku: String,
}

/// The key of [`Sort::Newest`]; products with equal times are sorted by SKU, descending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Log time of the product's first event.
    pub created_at: Timestamp,
    /// The product.
    pub sku: String,
}

/// The sort key of the previous page's last row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// The key in [`Sort::Relevance`].
    Relevance(ByRelevance),
    /// The key in [`Sort::Name`].
    Name(ByName),
    /// The key in [`Sort::PriceAsc`] or [`Sort::PriceDesc`].
    Price(ByPrice),
    /// The key in [`Sort::Newest`].
    Newest(Newest),
}

impl SortKey for ByRelevance {
    fn is_valid(&self) -> bool {
        is_sku(&self.sku)
    }
}

impl SortKey for ByName {
    fn is_valid(&self) -> bool {
        is_sku(&self.sku)
            && !self.name.contains('\0')
            && self.name.chars().count() <= NAME_CHARS_MAX
    }
}

impl SortKey for ByPrice {
    fn is_valid(&self) -> bool {
        is_sku(&self.sku)
    }
}

impl SortKey for Newest {
    fn is_valid(&self) -> bool {
        is_sku(&self.sku) && is_in_calendar(self.created_at)
    }
}

fn is_sku(text: &str) -> bool {
    Sku::parse(text).is_ok()
}
