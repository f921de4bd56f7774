//! Topics whose configuration or log was changed: their owners stop writing to them.

use super::{CHANGE_TIMEOUT, LINES, create, expect_status, sale, start_with};
use anyhow::Result;
use kafka::admin::AdminError;
use schemas::topics::TOPICS;
use serde_json::json;
use system_tests::{Deployment, Node, Poll, free_address::free_addresses, until};

/// Interval of the nodes' checks of their topics, in milliseconds.
const CHECK_INTERVAL_MS: &str = "1000";
const CATALOG: &str = "journal.catalog";
const ORDERS: &str = "journal.orders";

pub async fn a_journal_with_a_changed_configuration_is_not_written_to_until_it_is_restored(
    deployment: &Deployment,
) -> Result<()> {
    let nodes = start_two(deployment).await?;
    set_retention(deployment, "86400000").await?;
    not_ready(&nodes, "topic journal.catalog has retention.ms = 86400000").await?;
    let client = nodes[0].client();
    let body = json!({"sku": "P-1", "description": "a product"});
    let refused = client.post("/api/v1/products", &body, Some("P-1")).await?;
    refused.problem(503, "JOURNAL_UNAVAILABLE")?;
    // The other journal is written to.
    let answers = client.post_lines(format!("{}\n", sale(LINES))).await?;
    expect_status(&answers, 201)?;

    set_retention(deployment, "-1").await?;
    until(
        "commands to be accepted again",
        CHANGE_TIMEOUT,
        async || {
            Ok(match create(client, "P-1").await {
                Ok(()) => Poll::Ready(()),
                Err(error) => Poll::Pending(format!("{error:#}")),
            })
        },
    )
    .await
}

pub async fn a_recreated_journal_is_never_written_to(deployment: &Deployment) -> Result<()> {
    let nodes = start_two(deployment).await?;
    let client = nodes[0].client();
    let answers = client.post_lines(format!("{}\n", sale(0))).await?;
    expect_status(&answers, 201)?;
    // The configuration of another topic is wrong at the same time.
    set_retention(deployment, "86400000").await?;
    not_ready(&nodes, "topic journal.catalog has retention.ms = 86400000").await?;

    let admin = deployment.admin()?;
    let orders = TOPICS.iter().find(|topic| topic.name == ORDERS);
    let orders = *orders.expect("the journal is in the list of topics");
    admin.delete(&[ORDERS]).await?;
    // A broker lists a topic for a moment after it was deleted.
    until("the topic to be gone", CHANGE_TIMEOUT, async || {
        Ok(match admin.partitions(ORDERS).await {
            Err(AdminError::NotSettled { .. }) => Poll::Ready(()),
            Ok(partitions) => Poll::Pending(format!("it has {partitions} partitions")),
            Err(error) => Poll::Pending(error.to_string()),
        })
    })
    .await?;
    until(
        "the topic to be created again",
        CHANGE_TIMEOUT,
        async || {
            Ok(match admin.ensure(&[orders]).await {
                Ok(_) => Poll::Ready(()),
                Err(error) => Poll::Pending(error.to_string()),
            })
        },
    )
    .await?;
    not_ready(&nodes, "topic journal.orders has log id of partition").await?;
    let answers = client.post_lines(format!("{}\n", sale(1))).await?;
    expect_status(&answers, 503)?;
    // The other journal is written to once its configuration is right.
    set_retention(deployment, "-1").await?;
    until(
        "products to be accepted again",
        CHANGE_TIMEOUT,
        async || {
            Ok(match create(client, "P-1").await {
                Ok(()) => Poll::Ready(()),
                Err(error) => Poll::Pending(format!("{error:#}")),
            })
        },
    )
    .await?;
    let answers = client.post_lines(format!("{}\n", sale(2))).await?;
    expect_status(&answers, 503)
}

async fn start_two(deployment: &Deployment) -> Result<Vec<Node>> {
    start_with(deployment, &free_addresses(2)?, |command| {
        command.env("DAYBOOK_KAFKA_TOPIC_CHECK_INTERVAL_MS", CHECK_INTERVAL_MS);
    })
    .await
}

async fn set_retention(deployment: &Deployment, value: &str) -> Result<()> {
    let (brokers, topic) = (
        &deployment.environment.kafka_brokers,
        deployment.topic(CATALOG),
    );
    let arguments = [brokers.as_str(), &topic, "retention.ms", value];
    deployment
        .python("alter_topic.py", &arguments)
        .await
        .map(drop)
}

/// Waits until every node is not ready for this reason.
async fn not_ready(nodes: &[Node], reason: &str) -> Result<()> {
    for node in nodes {
        until("a reason against readiness", CHANGE_TIMEOUT, async || {
            let answer = node.client().get("/health/ready").await?;
            let is_given = answer.status == 503 && answer.text.contains(reason);
            Ok(Poll::of(is_given, || answer.text))
        })
        .await?;
    }
    Ok(())
}
