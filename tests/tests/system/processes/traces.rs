//! The trace that a client names arrives in the log, whichever process it asked.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use system_tests::{Daybook, World, http::send};

/// Commands at each process; those of them that it does not own are forwarded.
const COMMANDS: usize = 4;
const CALLER_SPAN: &str = "b7ad6b7169203331";

/// Commands with and without a trace, singly and in a batch.
pub async fn check(world: &World, processes: &[Daybook]) -> Result<()> {
    let mut named: Vec<(String, String)> = Vec::new();
    let mut unnamed = Vec::new();
    for (number, process) in processes.iter().enumerate() {
        let client = process.client();
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
    let found = world
        .python(
            "traces.py",
            &[
                &world.environment.kafka_brokers,
                &world.environment.registry_url,
                "journal.catalog",
            ],
        )
        .await?;
    let found: Value = serde_json::from_str(&found)?;
    for (position, trace_id) in named {
        let traceparent = traceparent(&found, &position)?;
        let is_of_it = traceparent.starts_with(&format!("00-{trace_id}-"));
        ensure!(is_of_it, "{position}: {traceparent}, not of {trace_id}");
        ensure!(
            !traceparent.contains(CALLER_SPAN),
            "{position}: {traceparent}"
        );
    }
    for position in unnamed {
        let traceparent = traceparent(&found, &position)?;
        ensure!(traceparent.len() == 55, "{position}: {traceparent}");
    }
    Ok(())
}

/// What the record at a position says in both places.
fn traceparent<'a>(found: &'a Value, position: &str) -> Result<&'a str> {
    let traces = &found[position];
    ensure!(
        traces["header"] == traces["decision"],
        "{position}: {traces}"
    );
    traces["header"]
        .as_str()
        .with_context(|| format!("{position}: no trace"))
}
