//! Events that the fold of a view can't apply: the view parks only the aggregate of such an event.

use crate::view_builds::views;
use anyhow::{Result, ensure};
use projections::{columns::Columns, views::catalog_v1::ProductRow};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use system_tests::{
    Deployment, Node, expect_eq,
    product::{change_price, create_product},
    totals_by_source::serving_build,
};

const VIEW: &str = "catalog_v1";
/// The product whose row is deleted, and its key in the log.
const LOST: &str = "LOST";
const LOST_KEY: &str = "product_LOST";
const OTHER: &str = "OTHER";
/// The prices of each product, one after the other.
const PRICES: [i64; 3] = [300, 100, 200];

/// The fold of a changed price needs the product's row.
pub async fn an_event_whose_row_is_missing_parks_only_its_product_until_a_retry(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    for sku in [LOST, OTHER] {
        create_product(node.client(), sku).await?;
    }
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    let row = LostRow::take(&pool).await?;
    for amount in PRICES {
        for sku in [LOST, OTHER] {
            change_price(node.client(), sku, amount).await?;
        }
    }
    node.caught_up().await?;
    only_the_product_is_parked(deployment).await?;
    has_the_last_price(&node, OTHER).await?;

    let retried = deployment.run(&["views", "retry", VIEW, LOST_KEY]).await?;
    expect_eq("exit code without the row", &retried.code, &1)?;
    only_the_product_is_parked(deployment).await?;

    row.restore(&pool).await?;
    pool.close().await;
    views(deployment, &["retry", VIEW, LOST_KEY]).await?;
    let listed = views(deployment, &["parked"]).await?;
    let nothing = "no aggregate is parked";
    ensure!(listed.contains(nothing), "no {nothing:?} in: {listed}");
    has_the_last_price(&node, LOST).await?;
    has_the_last_price(&node, OTHER).await
}

/// The deleted row of [`LOST`] in the serving build, kept in a table of its own.
struct LostRow {
    /// The table of the build.
    table: String,
    /// The columns that Postgres does not generate.
    columns: String,
}

impl LostRow {
    async fn take(pool: &PgPool) -> Result<Self> {
        let row = Self {
            table: format!("{VIEW}_b{}", serving_build(VIEW, pool).await?),
            columns: ProductRow::all().collect::<Vec<_>>().join(", "),
        };
        let Self { table, columns } = &row;
        let take = format!(
            "CREATE TABLE lost_row AS SELECT {columns} FROM {table} WHERE sku = '{LOST}'; \
             DELETE FROM {table} WHERE sku = '{LOST}'"
        );
        sqlx::raw_sql(AssertSqlSafe(take)).execute(pool).await?;
        Ok(row)
    }

    async fn restore(self, pool: &PgPool) -> Result<()> {
        let Self { table, columns } = self;
        let restore = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM lost_row");
        let restored = sqlx::raw_sql(AssertSqlSafe(restore)).execute(pool).await?;
        expect_eq("restored rows", &restored.rows_affected(), &1)
    }
}

/// Checks that the changed prices of [`LOST`] wait, with the reason, and that no other aggregate is parked.
async fn only_the_product_is_parked(deployment: &Deployment) -> Result<()> {
    let listed = views(deployment, &["parked"]).await?;
    let aggregates = listed.matches("  view ").count();
    ensure!(
        aggregates == 1,
        "{aggregates} parked aggregates instead of 1: {listed}"
    );
    let shown = views(deployment, &["show", VIEW, LOST_KEY]).await?;
    let waiting = format!("waiting  {0} commits with {0} events", PRICES.len());
    for part in ["with version 2 needs a row that is not stored", &waiting] {
        ensure!(shown.contains(part), "no {part:?} in: {shown}");
    }
    Ok(())
}

/// Checks that a product has the last of [`PRICES`], and the version after all its events.
async fn has_the_last_price(node: &Node, sku: &str) -> Result<()> {
    let found = node
        .client()
        .get_json(&format!("/api/v1/products/{sku}"))
        .await?;
    let last = (found["price"]["amount"].clone(), found["version"].clone());
    let expected = (json!(PRICES[PRICES.len() - 1]), json!(PRICES.len() + 1));
    expect_eq(&format!("price and version of {sku}"), &last, &expected)
}
