//! Sales to import, as clients write them, and batches of them.

use crate::{deployment::Deployment, expect::expect_eq, node::Node, totals_by_source};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Sales of a batch of [`sell`].
pub const SALES: usize = 40;

/// The body of a sale with one line, worth GBP 1.
pub fn sale(invoice: &str) -> Value {
    json!({"invoice": invoice, "country": "EIRE", "currency": "GBP",
        "ordered_at": "2010-12-01T08:26:00Z", "lines": [line("A")]})
}

/// A line of a sale: one piece, worth one major unit of the sale's currency.
pub fn line(sku: &str) -> Value {
    json!({"sku": sku, "quantity": 1, "unit_price": 1_000_000})
}

/// A line of a batch that imports a sale.
pub fn import_sale(key: &str, sale: &Value) -> Value {
    json!({"key": key, "command": "ImportSale", "body": sale})
}

/// Imports [`SALES`] sales, or repeats their import. Returns their number.
///
/// # Errors
/// A sale is not accepted.
pub async fn sell(node: &Node, batch: &str) -> Result<usize> {
    sell_many(node, batch, SALES).await
}

/// Imports `count` sales of GBP 1 in one batch, or repeats their import. Returns their number. The invoices are named
/// after the batch: `<batch> 0` is the first one.
///
/// # Errors
/// A sale is not accepted.
pub async fn sell_many(node: &Node, batch: &str, count: usize) -> Result<usize> {
    let command = |number: usize| {
        let sale = sale(&format!("{batch} {number}"));
        format!("{}\n", import_sale(&format!("{batch}/{number}"), &sale))
    };
    let lines: String = (0..count).map(command).collect();
    let answers = node.client().post_lines(lines).await?;
    let accepted = answers.iter().filter(|answer| answer["status"] == 201);
    let accepted = accepted.count();
    ensure!(
        accepted == count,
        "{batch}: {accepted} of {count} sales were accepted: {answers:?}"
    );
    Ok(count)
}

/// Starts a node. Its views have applied one batch of sales.
///
/// # Errors
/// The node does not start, a sale is not accepted, or a view does not apply it in time.
pub async fn node_with_sales(deployment: &Deployment, batch: &str) -> Result<Node> {
    let mut node = deployment.serve().await?;
    sell(&node, batch).await?;
    node.caught_up().await?;
    Ok(node)
}

/// Waits until a node is ready and has caught up, then checks that the view of orders in Postgres has every sale of
/// this many batches of [`sell`].
///
/// # Errors
/// The node is not ready in time, or the view has another number of sales.
pub async fn all_in_postgres(
    node: &mut Node,
    deployment: &Deployment,
    batches: usize,
) -> Result<()> {
    node.ready().await?;
    node.caught_up().await?;
    let found = totals_by_source::of_postgres(deployment).await?.sales;
    let expected = i64::try_from(batches * SALES)?;
    expect_eq("sales in Postgres", &found, &expected)
}
