//! All servers are killed at once while a node works, and started again: no acknowledged command is lost, and the
//! node recovers by itself. This stops the servers of all other tests, so `./dev test` runs it alone.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use std::collections::BTreeSet;
use system_tests::{Deployment, Server, audit_log};

const PRODUCTS: usize = 40;

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
    audit_log::verify(&deployment).await.map(drop)
}
