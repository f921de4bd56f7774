//! Facts of the context `catalog`. `avro/catalog.avsc` is their schema.

use crate::{
    context::{CATALOG, context_events},
    money::Money,
    product::Sku,
};
use serde::{Deserialize, Serialize};

context_events!(CATALOG, ProductCreated, ProductPriceChanged);

/// A product is on the books.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductCreated {
    /// The product's id.
    pub sku: Sku,
    /// May be empty.
    pub description: String,
}

/// A product costs something else from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductPriceChanged {
    /// `None`: the product had no price.
    pub old: Option<Money>,
    /// The price from now on.
    pub new: Money,
}
