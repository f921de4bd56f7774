//! All servers are killed at once while a node works, and started again: no acknowledged command is lost, the node
//! recovers by itself, and the views then have every event once. This stops the servers of all other tests, so
//! `./dev test` runs it alone.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use std::collections::BTreeSet;
use system_tests::{Deployment, Node, Server, audit_log, sale::sell_many, totals_by_source};

const PRODUCTS: usize = 40;
/// Sales of GBP 1 before the servers are killed, and as many afterwards.
const SALES: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_command_survives_a_kill_of_all_servers() -> Result<()> {
    let deployment = Deployment::new("power_cut")?;
    let environment = &deployment.environment;
    let mut node = deployment.serve().await?;
    let skus: BTreeSet<String> = (0..PRODUCTS).map(|number| format!("P-{number}")).collect();
    for sku in &skus {
        let body = json!({"sku": sku, "description": "a product"});
        let answer = node.client().post("/api/v1/products", &body, None).await?;
        answer.expect(201)?;
    }
    // The views have not necessarily applied them when the servers are killed.
    sell_many(&node, "before", SALES).await?;
    try_join_all(Server::ALL.map(|server| server.kill(environment))).await?;
    try_join_all(Server::ALL.map(|server| server.start(environment))).await?;
    node.ready().await?;
    node.caught_up().await?;

    let found = audit_log::decisions(&deployment, &["--event", "ProductCreated"]).await?;
    let found: BTreeSet<String> = found
        .into_iter()
        .map(|decision| decision.key.trim_start_matches("product_").to_owned())
        .collect();
    ensure!(found == skus, "{found:?} instead of {skus:?}");
    let body = json!({"sku": "AFTER", "description": "a product"});
    let answer = node.client().post("/api/v1/products", &body, None).await?;
    answer.expect(201)?;
    audit_log::verify(&deployment).await?;
    check_views(&deployment, &node, SALES).await?;
    sell_many(&node, "after", SALES).await?;
    node.caught_up().await?;
    check_views(&deployment, &node, 2 * SALES).await
}

/// Views in both databases have all sales: as rows of their own, and in sums over all of them.
async fn check_views(deployment: &Deployment, node: &Node, sales: usize) -> Result<()> {
    let expected = (i64::try_from(sales)?, 100 * i64::try_from(sales)?);
    let postgres = totals_by_source::of_postgres(deployment).await?;
    let cql = totals_by_source::of_cql(deployment).await?;
    for (source, totals) in [("Postgres", postgres), ("CQL", cql)] {
        let found = (totals.sales, totals.total_minor);
        ensure!(
            found == expected,
            "{source}: {found:?} instead of {expected:?}"
        );
    }
    let countries = node.client().get_json("/api/v1/countries").await?;
    let country = &countries["countries"][0];
    let (orders, total) = (&country["orders"], &country["total"]["amount"]);
    ensure!(
        *orders == expected.0 && *total == expected.1,
        "not {expected:?}: {countries}"
    );
    Ok(())
}
