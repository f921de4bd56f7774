//! Servers that are away: when the service starts, and while it works.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use system_tests::{Answer, Client, Daybook, Look, Server, World, audit_log, until};
use tokio::time::Instant;

/// From a server's end to a readiness that names it.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(15);
/// From a server's return to a readiness that has no word against it.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for the answer to a command while a server is away.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);

/// A query of each kind, and what it needs.
const QUERIES: [(&str, &str); 4] = [
    ("/api/v1/orders", "DATABASE_UNAVAILABLE"),
    ("/api/v1/customers/17850/orders", "DATABASE_UNAVAILABLE"),
    (
        "/api/v1/analytics/series?job=revenue_by_country&window=day",
        "JOB_NOT_READY",
    ),
    (
        "/api/v1/orders/order_01h455vb4pex5vsknk084sn02q",
        "DATABASE_UNAVAILABLE",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn started_without_any_server_it_waits_for_each_and_says_so() -> Result<()> {
    let world = World::wiped("away_at_start").await?;
    Server::stop_all(&world.environment).await?;
    let mut daybook = world.serve_unready().await?;
    let client = daybook.client().clone();
    client.get("/health/live").await?.expect(200)?;
    for server in Server::ALL {
        not_ready(&client, server).await?;
    }
    for (path, code) in QUERIES {
        client.get(path).await?.problem(503, code)?;
    }
    create(&client, "EARLY", None)
        .await?
        .problem(503, "JOURNAL_UNAVAILABLE")?;
    let line = json!({"key": "k", "command": "CreateProduct", "body": body_of("EARLY")});
    let batch = client.post_lines(format!("{line}\n")).await;
    ensure!(
        batch.is_err_and(|error| error.to_string().contains("503")),
        "a batch was taken"
    );

    // One that is back says nothing of the others.
    Server::Postgres.start(&world.environment).await?;
    ready_again(&client, Server::Postgres).await?;
    for server in [Server::Kafka, Server::Registry, Server::Cassandra] {
        not_ready(&client, server).await?;
    }
    Server::start_all(&world.environment).await?;
    for server in Server::ALL {
        ready_again(&client, server).await?;
    }
    daybook.ready().await?;
    create(&client, "LATE", None).await?.expect(201)?;
    daybook.caught_up().await?;
    for (path, _) in &QUERIES[..3] {
        client.get(path).await?.expect(200)?;
    }
    audit_log::verify(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_work_costs_time_and_nothing_else() -> Result<()> {
    let world = World::wiped("away_at_work").await?;
    let mut daybook = world.serve().await?;
    let mut acknowledged = Vec::new();
    for server in Server::ALL {
        let outage = outage(&world, &mut daybook, server, &mut acknowledged);
        outage.await.with_context(|| format!("{server:?}"))?;
    }
    daybook.caught_up().await?;
    let mut found: HashMap<String, usize> = HashMap::new();
    for decision in audit_log::decisions(&world, &["--context", "catalog"]).await? {
        *found.entry(decision.key).or_default() += decision.events.len();
    }
    let expected = acknowledged.iter().map(|sku| (format!("product_{sku}"), 1));
    ensure!(
        found == expected.collect(),
        "acknowledged {acknowledged:?}, found {found:?}"
    );
    audit_log::verify(&world).await.map(drop)
}

/// Kills a server, starts it again, and gives commands before, meanwhile and after.
async fn outage(
    world: &World,
    daybook: &mut Daybook,
    server: Server,
    acknowledged: &mut Vec<String>,
) -> Result<()> {
    let client = daybook.client().clone();
    let sku = |when: &str| format!("{when}-{server:?}");
    create(&client, &sku("BEFORE"), None).await?.expect(201)?;
    server.kill(&world.environment).await?;
    not_ready(&client, server).await?;
    client.get("/health/live").await?.expect(200)?;

    // What is refused meanwhile may have been done or not; its key makes the retry safe.
    let (meanwhile, key) = (sku("MEANWHILE"), sku("key"));
    let asked = Instant::now();
    let answer = create(&client, &meanwhile, Some(&key)).await?;
    let waited = asked.elapsed();
    ensure!(waited < ANSWER_TIME_MAX, "an answer took {waited:?}");
    if answer.status != 201 {
        answer.problem(503, "JOURNAL_UNAVAILABLE")?;
    }
    check_queries(&client, server).await?;

    server.start(&world.environment).await?;
    ready_again(&client, server).await?;
    daybook.ready().await?;
    let again = create(&client, &meanwhile, Some(&key)).await?;
    again.expect(201)?;
    let was_replayed = again.header("idempotent-replayed") == "true";
    ensure!(
        was_replayed || answer.status == 503,
        "what was done was done again"
    );
    create(&client, &sku("AFTER"), None).await?.expect(201)?;
    acknowledged.extend([sku("BEFORE"), meanwhile, sku("AFTER")]);
    Ok(())
}

/// Queries of the database that is away are refused, those of others are answered.
async fn check_queries(client: &Client, away: Server) -> Result<()> {
    for (path, needed) in [
        ("/api/v1/orders", Server::Postgres),
        ("/api/v1/customers/17850/orders", Server::Cassandra),
    ] {
        let answer = client.get(path).await?;
        match needed == away {
            true => answer.problem(503, "DATABASE_UNAVAILABLE").map(drop)?,
            false => answer.expect(200).map(drop)?,
        }
    }
    let progress = client.get("/api/v1/admin/progress").await?;
    match away == Server::Kafka {
        true => progress.problem(503, "KAFKA_UNAVAILABLE").map(drop),
        false => progress.expect(200).map(drop),
    }
}

fn body_of(sku: &str) -> Value {
    json!({"sku": sku, "description": "a product"})
}

async fn create(client: &Client, sku: &str, key: Option<&str>) -> Result<Answer> {
    client.post("/api/v1/products", &body_of(sku), key).await
}

/// Waits for a readiness that names the server as the one that is away.
async fn not_ready(client: &Client, server: Server) -> Result<()> {
    until(
        "a readiness that names a server",
        NOTICE_TIMEOUT,
        async || {
            let answer = client.get("/health/ready").await?;
            let reason = answer.json()?["components"][server.component()].clone();
            let is_named = answer.status == 503 && reason.is_string() && reason != "ready";
            Ok(Look::at(is_named, || answer.text))
        },
    )
    .await
    .with_context(|| format!("{server:?}"))
}

/// Waits for a readiness that has no word against the server itself.
async fn ready_again(client: &Client, server: Server) -> Result<()> {
    until("a server to be found again", RECOVERY_TIMEOUT, async || {
        let answer = client.get("/health/ready").await?;
        let state = answer.json()?["components"][server.component()].clone();
        Ok(Look::at(state == "ready", || answer.text))
    })
    .await
    .with_context(|| format!("{server:?}"))
}
