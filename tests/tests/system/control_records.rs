//! A journal that ends with the control record of another program's aborted transaction. No consumer receives this
//! record, so a reader that waits for the record before the measured end would wait forever.

use crate::view_builds::views;
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use system_tests::{
    Deployment, Events, Node, OpenTransaction, expect_eq,
    sale::{import_sale, node_with_sales, sale},
    transaction::End,
};

const TOPIC: &str = "journal.orders";
/// The partition of the transaction; sales go to every partition.
const PARTITION: i32 = 1;
/// The rebuilt views: one in each database.
const VIEWS: [&str; 2] = ["orders_v3", "orders_by_customer_v2"];
const EVENTS: &str = "/api/v1/customers/eve/events";

pub async fn totals_are_compared_up_to_a_control_record(deployment: &Deployment) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let end = append_control_record(deployment).await?;
    node.caught_up().await?;
    let url = format!("http://{}", deployment.listen());
    deployment
        .run_successfully(&["reconcile", "--url", &url])
        .await?;
    expect_eq("the log's end", &log_end(deployment).await?, &end)
}

pub async fn views_are_rebuilt_and_compared_up_to_a_control_record(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let end = append_control_record(deployment).await?;
    node.caught_up().await?;
    for view in VIEWS {
        for (command, expected) in [("rebuild", "100 %"), ("diff", "; 0 rows differ")] {
            let output = views(deployment, &[command, view]).await?;
            ensure!(
                output.contains(expected),
                "{command} {view}: no {expected:?} in: {output}"
            );
        }
    }
    expect_eq("the log's end", &log_end(deployment).await?, &end)
}

pub async fn a_live_client_resumes_from_before_a_control_record(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.serve().await?;
    let first = sell_to_eve(&node, "first").await?;
    // Waits until the customer is known.
    let request = node.client().request(Method::GET, EVENTS);
    let response = request.header("daybook-position", &first).send().await?;
    expect_eq("the status", &response.status().as_u16(), &200)?;
    drop(response);
    let mut events = Events::open(node.client(), EVENTS, None).await?;
    let before = events.last_id.clone();
    let second = sell_to_eve(&node, "second").await?;
    let followed = events.next().await?.data["position"].clone();
    expect_eq("the followed position", &followed, &json!(second))?;
    drop(events);

    let end = append_control_record(deployment).await?;
    let mut resumed = Events::open(node.client(), EVENTS, Some(&before)).await?;
    let missed = resumed.next().await?.data["position"].clone();
    expect_eq("the missed position", &missed, &json!(second))?;
    expect_eq("the log's end", &log_end(deployment).await?, &end)?;
    let third = sell_to_eve(&node, "third").await?;
    let new = resumed.next().await?.data["position"].clone();
    expect_eq("the new position", &new, &json!(third))
}

/// Aborts a transaction with one record; returns the end of the log, behind the control record.
async fn append_control_record(deployment: &Deployment) -> Result<i64> {
    let (python, kafka) = (&deployment.environment.python, deployment.kafka());
    let transaction = OpenTransaction::begin(python, &kafka, TOPIC, PARTITION, End::Abort).await?;
    transaction.end().await?;
    log_end(deployment).await
}

async fn log_end(deployment: &Deployment) -> Result<i64> {
    let marks = deployment.admin()?.watermarks(TOPIC, PARTITION).await?;
    Ok(marks.high)
}

/// Imports a sale of the followed customer; returns the position of the commit.
async fn sell_to_eve(node: &Node, invoice: &str) -> Result<String> {
    let mut sale = sale(invoice);
    sale["customer"] = json!("eve");
    let line = format!("{}\n", import_sale(invoice, &sale));
    let answers = node.client().post_lines(line).await?;
    let answer = answers.first().context("no answer")?;
    ensure!(answer["status"] == 201, "status is not 201: {answer}");
    let position = answer["position"].as_str();
    let position = position.with_context(|| format!("no position: {answer}"))?;
    Ok(position.to_owned())
}
