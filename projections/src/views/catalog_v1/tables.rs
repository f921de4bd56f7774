//! The fold of events into rows: one row per product.

use crate::{
    postgres::PostgresView,
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table, View},
};
use schemas::{
    catalog::{Event, ProductEvent},
    ids::split_key,
};

/// The view.
pub struct CatalogView;

/// Its table.
pub struct Products;

/// A row of `catalog_v1`, without the columns that Postgres generates for the search.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ProductRow {
    /// The product's id.
    pub sku: String,
    /// May be empty.
    pub description: String,
    /// Minor units; `None` until the product is first priced.
    pub price: Option<i64>,
    /// ISO 4217; `None` without a price.
    pub currency: Option<String>,
    /// The aggregate's version.
    pub version: i64,
}

postgres_row!(ProductRow in "catalog_v1" by [sku] with [description, price, currency, version]);

impl View for CatalogView {
    const NAME: &'static str = "catalog_v1";
    type Event = Event;
}

impl PostgresView for CatalogView {
    const SCHEMA: &'static str = include_str!("schema.sql");
    type Tables = (Products,);
}

impl Table for Products {
    type Event = Event;
    type Key = String;
    type Row = ProductRow;
    const FEED: RowFeed<ProductRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<String>, FoldError> {
        let sku = match event.event {
            Event::Product(ProductEvent::ProductCreated(created)) => created.sku.as_str(),
            // This event has no SKU, but its record's key ends with it.
            Event::Product(ProductEvent::ProductPriceChanged(_)) => {
                split_key(event.key).map_or(event.key, |(_, sku)| sku)
            }
        };
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
                price: None,
                currency: None,
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
