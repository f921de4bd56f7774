//! Requests that `schemathesis` generates from the served OpenAPI document. The document must describe every answer,
//! and no answer may be a server error.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;
use system_tests::{Deployment, Node, python::python};

/// Longest time for all requests.
const TIMEOUT: Duration = Duration::from_secs(240);
/// Maximum number of random requests per operation.
const EXAMPLES_MAX: &str = "12";

pub async fn the_document_describes_the_answer_to_every_generated_request(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let order = fill(&node).await?;
    node.caught_up().await?;
    let url = node.client().base().to_owned();
    let arguments = [url.as_str(), EXAMPLES_MAX, &order];
    let report = python(&deployment.environment, "openapi.py", &arguments, TIMEOUT).await?;
    println!("{report}");
    Ok(())
}

/// Adds the resources of the document's examples, so that they are found. Returns the id of an order.
async fn fill(node: &Node) -> Result<String> {
    let client = node.client();
    let description = "WHITE HANGING HEART T-LIGHT HOLDER";
    let line = json!({"sku": "85123A", "description": description, "quantity": 6, "unit_price": 2_550_000});
    let lines = [
        json!({"key": "product", "command": "CreateProduct", "body": {"sku": "85123A", "description": description}}),
        json!({"key": "sale", "command": "ImportSale", "body": {"invoice": "536365", "customer": "17850",
            "country": "United Kingdom", "ordered_at": "2010-12-01T08:26:00Z", "currency": "GBP", "lines": [line]}}),
    ];
    let body = lines.map(|line| format!("{line}\n")).concat();
    let answers = client.post_lines(body).await?;
    let refused = answers.iter().find(|answer| answer["status"] != 201);
    ensure!(refused.is_none(), "{refused:?} instead of status 201");
    let ids = answers.iter().filter_map(|answer| answer["id"].as_str());
    let mut orders = ids.filter(|id| id.starts_with("order_"));
    Ok(orders.next().context("no order")?.to_owned())
}
