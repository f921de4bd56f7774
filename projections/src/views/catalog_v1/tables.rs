//! The fold of events into rows: one row per product.

use crate::{
    postgres::{Instant, PostgresView},
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table, View},
};
use schemas::{
    catalog::{Event, ProductEvent},
    ids::split_key,
};

/// Maximum length of a name, in characters. A description may be longer.
pub const NAME_CHARS_MAX: usize = 100;

/// The view.
pub struct CatalogView;

/// The table `catalog_v1`.
pub struct Products;

/// A row of `catalog_v1`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ProductRow {
    /// The product's id.
    pub sku: String,
    /// The description; may be empty.
    pub description: String,
    /// The result of [`name_of`].
    pub name: String,
    /// Minor units; `None` until the product is first priced.
    pub price: Option<i64>,
    /// ISO 4217; `None` until the product is first priced.
    pub currency: Option<String>,
    /// Log time of the product's first event.
    pub created_at: Instant,
    /// The aggregate's version.
    pub version: i64,
}

postgres_row!(ProductRow in "catalog_v1" by [sku] with [
    description, name, price, currency, created_at, version,
]);

/// The name by which products are sorted and matched with prefixes: the first [`NAME_CHARS_MAX`] characters of the
/// description, in lower case.
pub fn name_of(description: &str) -> String {
    let lower = description.to_lowercase();
    lower.chars().take(NAME_CHARS_MAX).collect()
}

impl View for CatalogView {
    const NAME: &'static str = "catalog_v1";
    type Event = Event;
}

impl PostgresView for CatalogView {
    const SCHEMA: &'static str = include_str!("schema.sql");
    const GENERATED_COLUMNS: &'static [(&'static str, &'static str)] = &[("catalog_v1", "words")];
    type Tables = (Products,);
}

impl Table for Products {
    type Event = Event;
    type Key = String;
    type Row = ProductRow;
    const FEED: RowFeed<ProductRow> = RowFeed::Versioned(|row| row.version);

    /// The SKU is the part of the record's key after the aggregate's type.
    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<String>, FoldError> {
        let sku = split_key(event.key).map_or(event.key, |(_, sku)| sku);
        Ok(vec![sku.to_owned()])
    }

    fn key(row: &ProductRow) -> String {
        row.sku.clone()
    }

    fn apply(
        sku: &String,
        row: Option<ProductRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<ProductRow>, FoldError> {
        let row = match event.event {
            Event::Product(ProductEvent::ProductCreated(created)) => ProductRow {
                sku: sku.clone(),
                description: created.description.clone(),
                name: name_of(&created.description),
                price: None,
                currency: None,
                created_at: Instant(event.calendar_time(event.recorded_at)?),
                version: event.version,
            },
            Event::Product(ProductEvent::ProductPriceChanged(changed)) => ProductRow {
                price: Some(changed.new.amount),
                currency: Some(changed.new.currency.code().to_owned()),
                version: event.version,
                ..row.ok_or_else(|| event.missing_row())?
            },
        };
        Ok(Some(row))
    }
}
