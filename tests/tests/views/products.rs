//! The view of the suite: it has two tables, depends on earlier rows and deletes, in either store.

use projections::{
    FoldError, Recorded, RowFeed, Table, View, cql::CqlView, postgres::PostgresView, postgres_row,
};
use schemas::catalog::{Event, ProductEvent};

pub struct ProductsView;

/// Products by SKU. A price of 0 deletes the product.
pub struct Products;

/// The last price in each currency.
pub struct Prices;

#[derive(
    Debug, Clone, PartialEq, Eq, sqlx::FromRow, scylla::SerializeRow, scylla::DeserializeRow,
)]
pub struct ProductRow {
    pub sku: String,
    pub description: String,
    /// Number of price changes.
    pub changes: i64,
    pub version: i64,
}

postgres_row!(ProductRow in "products_v1" by [sku] with [description, changes, version]);

#[derive(
    Debug, Clone, PartialEq, Eq, sqlx::FromRow, scylla::SerializeRow, scylla::DeserializeRow,
)]
pub struct PriceRow {
    pub sku: String,
    pub currency: String,
    pub amount: i64,
    pub version: i64,
}

postgres_row!(PriceRow in "products_v1_prices" by [sku, currency] with [amount, version]);

impl View for ProductsView {
    const NAME: &'static str = "products_v1";
    type Event = Event;
}

impl PostgresView for ProductsView {
    const SCHEMA: &'static str = "\
        CREATE TABLE products_v1{build} (sku text PRIMARY KEY, description text NOT NULL, \
            changes bigint NOT NULL, version bigint NOT NULL); \
        CREATE TABLE products_v1_prices{build} (sku text, currency text, amount bigint NOT NULL, \
            version bigint NOT NULL, PRIMARY KEY (sku, currency));";
    type Tables = (Products, Prices);
}

impl CqlView for ProductsView {
    const SCHEMA: &'static str = "\
        CREATE TABLE IF NOT EXISTS {keyspace}.products_v1{build} (sku text PRIMARY KEY, \
            description text, changes bigint, version bigint); \
        CREATE TABLE IF NOT EXISTS {keyspace}.products_v1_prices{build} (sku text, currency text, \
            amount bigint, version bigint, PRIMARY KEY ((sku), currency));";
    type Tables = (Products, Prices);
}

impl Table for Products {
    type Event = Event;
    type Key = (String,);
    type Row = ProductRow;
    const FEED: RowFeed<ProductRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String,)>, FoldError> {
        Ok(vec![(event.key.to_owned(),)])
    }

    fn key(row: &ProductRow) -> (String,) {
        (row.sku.clone(),)
    }

    fn apply(
        (sku,): &(String,),
        row: Option<ProductRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<ProductRow>, FoldError> {
        let (description, changes) = match event.event {
            Event::Product(ProductEvent::ProductCreated(product)) => {
                (product.description.clone(), 0)
            }
            Event::Product(ProductEvent::ProductPriceChanged(price)) if price.new.amount == 0 => {
                return Ok(None);
            }
            Event::Product(ProductEvent::ProductPriceChanged(_)) => {
                let row = row.ok_or_else(|| event.missing_row())?;
                (row.description, row.changes + 1)
            }
        };
        Ok(Some(ProductRow {
            sku: sku.clone(),
            description,
            changes,
            version: event.version,
        }))
    }
}

impl Table for Prices {
    type Event = Event;
    type Key = (String, String);
    type Row = PriceRow;
    const FEED: RowFeed<PriceRow> = RowFeed::Versioned(|row| row.version);

    fn keys(event: &Recorded<'_, Event>) -> Result<Vec<(String, String)>, FoldError> {
        Ok(match event.event {
            Event::Product(ProductEvent::ProductCreated(_)) => vec![],
            Event::Product(ProductEvent::ProductPriceChanged(price)) => {
                vec![(event.key.to_owned(), price.new.currency.code().to_owned())]
            }
        })
    }

    fn key(row: &PriceRow) -> (String, String) {
        (row.sku.clone(), row.currency.clone())
    }

    fn apply(
        (sku, currency): &(String, String),
        row: Option<PriceRow>,
        event: &Recorded<'_, Event>,
    ) -> Result<Option<PriceRow>, FoldError> {
        let amount = match event.event {
            Event::Product(ProductEvent::ProductCreated(_)) => return Ok(row),
            Event::Product(ProductEvent::ProductPriceChanged(price)) => price.new.amount,
        };
        Ok(Some(PriceRow {
            sku: sku.clone(),
            currency: currency.clone(),
            amount,
            version: event.version,
        }))
    }
}
