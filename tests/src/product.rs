//! Products, as clients create them and change their prices.

use crate::http::{Client, send};
use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::json;

/// Number of SKUs among which one in a partition is searched.
const SKUS_MAX: i32 = 1_000;

/// Creates a product without a price. Returns the position of the commit.
///
/// # Errors
/// The command is not accepted.
pub async fn create_product(client: &Client, sku: &str) -> Result<String> {
    let product = json!({"sku": sku, "description": "a product"});
    let answer = client.post("/api/v1/products", &product, None).await?;
    Ok(answer.expect(201)?.header("daybook-position").to_owned())
}

/// Changes a product's price to an amount in pence. Returns the position of the commit.
///
/// # Errors
/// The command is not accepted.
pub async fn change_price(client: &Client, sku: &str, amount: i64) -> Result<String> {
    let price = json!({"price": {"amount": amount, "currency": "GBP"}});
    let path = format!("/api/v1/products/{sku}/price");
    let answer = send(client.request(Method::PUT, &path).json(&price)).await?;
    Ok(answer.expect(201)?.header("daybook-position").to_owned())
}

/// An SKU whose product is in one of the `partitions` partitions of the catalog's journal.
///
/// # Errors
/// None of the first thousand SKUs is in the partition.
pub fn sku_in(partition: i32, partitions: i32) -> Result<String> {
    let mut skus = (0..SKUS_MAX).map(|number| format!("P{number}"));
    let sku = skus.find(|sku| {
        let key = format!("product_{sku}");
        kafka::partition::of_key(key.as_bytes(), partitions) == partition
    });
    sku.with_context(|| format!("no SKU in partition {partition} of {partitions}"))
}
