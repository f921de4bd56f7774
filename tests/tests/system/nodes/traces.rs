//! The trace context of a client reaches the log from each node that may receive the command.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::HashMap;
use system_tests::{Deployment, Node, http::send};

const JOURNAL: &str = "journal.catalog";
/// Commands at each node, which forwards some of them to their owners.
const COMMANDS: usize = 4;
/// Characters of a trace context.
const TRACEPARENT_LENGTH: usize = 55;
const CALLER_SPAN: &str = "b7ad6b7169203331";

/// Sends commands with and without a trace context, one by one and in a batch.
pub async fn check(deployment: &Deployment, nodes: &[Node]) -> Result<()> {
    let mut named: Vec<(String, String)> = Vec::new();
    let mut unnamed = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let client = node.client();
        for command in 0..COMMANDS {
            let trace_id = format!("{:032x}", 1 + number * COMMANDS + command);
            let body = json!({"sku": format!("T-{trace_id}"), "description": "a product"});
            let request = client.request(reqwest::Method::POST, "/api/v1/products");
            let request = request.header("traceparent", format!("00-{trace_id}-{CALLER_SPAN}-01"));
            let answer = send(request.json(&body)).await?;
            answer.expect(201)?;
            named.push((answer.header("daybook-position").to_owned(), trace_id));
        }
        let body = json!({"sku": format!("U-{number}"), "description": "a product"});
        let answer = client.post("/api/v1/products", &body, None).await?;
        unnamed.push(answer.expect(201)?.header("daybook-position").to_owned());
        let line = json!({"key": format!("trace/{number}"), "command": "CreateProduct",
            "body": {"sku": format!("V-{number}"), "description": "a product"}});
        let answers = client.post_lines(format!("{line}\n")).await?;
        let position = answers[0]["position"].as_str();
        unnamed.push(position.context("no position")?.to_owned());
    }
    let found = traces_in_log(deployment).await?;
    for (position, trace_id) in named {
        let traceparent = traceparent(&found, &position)?;
        let beginning = format!("00-{trace_id}-");
        ensure!(
            traceparent.starts_with(&beginning) && !traceparent.contains(CALLER_SPAN),
            "{position}: {traceparent} instead of {beginning} and a span of ours"
        );
    }
    for position in unnamed {
        let traceparent = traceparent(&found, &position)?;
        ensure!(
            traceparent.len() == TRACEPARENT_LENGTH,
            "{position}: {traceparent} instead of {TRACEPARENT_LENGTH} characters"
        );
    }
    Ok(())
}

/// By position, the trace context of each decision, as a foreign client reads it.
async fn traces_in_log(deployment: &Deployment) -> Result<HashMap<String, Value>> {
    let environment = &deployment.environment;
    let topic = deployment.topic(JOURNAL);
    let arguments = [
        environment.kafka_brokers.as_str(),
        &environment.registry_url,
        &topic,
    ];
    let found = deployment.python("traces.py", &arguments).await?;
    let found: HashMap<String, Value> = serde_json::from_str(&found)?;
    // Our positions have the topic's name without the deployment's prefix.
    let logical = |(position, traces): (String, Value)| {
        let offset = position.strip_prefix(&topic).unwrap_or(&position);
        (format!("{JOURNAL}{offset}"), traces)
    };
    Ok(found.into_iter().map(logical).collect())
}

/// The trace context at a position; the record's header and the decision must have the same.
fn traceparent<'a>(found: &'a HashMap<String, Value>, position: &str) -> Result<&'a str> {
    let traces = found.get(position);
    let traces = traces.with_context(|| format!("{position} is not in the log"))?;
    let (header, decision) = (&traces["header"], &traces["decision"]);
    ensure!(
        header == decision,
        "{position}: {header} in the header, {decision} in the decision"
    );
    header
        .as_str()
        .with_context(|| format!("{position}: no trace context"))
}
