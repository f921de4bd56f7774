//! The orders of the list of products, each with the key of its cursors.

use super::tables::NAME_CHARS_MAX;
use crate::{paging::SortKey, recorded::is_in_calendar};
use schemas::{Sku, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The best match of `q` first.
    Relevance,
    /// By name, A to Z.
    Name,
    /// The cheapest first.
    PriceAsc,
    /// The dearest first.
    PriceDesc,
    /// The newest product first.
    Newest,
}

/// The key of [`Sort::Relevance`]; products of one relevance are sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByRelevance {
    /// Millionths.
    pub relevance: i64,
    /// The product.
    pub sku: String,
}

/// The key of [`Sort::Name`]; products of one name are sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByName {
    /// The name.
    pub name: String,
    /// The product.
    pub sku: String,
}

/// The key of [`Sort::PriceAsc`] and [`Sort::PriceDesc`]; products of one price are sorted by SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByPrice {
    /// Minor units.
    pub price: i64,
    /// The product.
    pub sku: String,
}

/// The key of [`Sort::Newest`]; products of one time are sorted by SKU, greatest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Log time of the product's first event.
    pub created_at: Timestamp,
    /// The product.
    pub sku: String,
}

/// The last row of the page before, in the list's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// In [`Sort::Relevance`].
    Relevance(ByRelevance),
    /// In [`Sort::Name`].
    Name(ByName),
    /// In [`Sort::PriceAsc`] or [`Sort::PriceDesc`].
    Price(ByPrice),
    /// In [`Sort::Newest`].
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
