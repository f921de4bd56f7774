//! Pairs of a command and a query: each client creates a product, then queries the product with the command's position.
//! An answer without the product must say that it is stale. A background load of other commands runs at a fixed rate.

use crate::latencies::Latencies;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::{JoinHandle, JoinSet};

/// Number of commands per batch of the background load.
const BATCH: u64 = 100;
/// Maximum number of batches of the background load in flight. If there are more, the service can't keep up and the
/// benchmark fails.
const BATCHES_MAX: usize = 300;

/// The load.
#[derive(clap::Args)]
pub struct Arguments {
    /// The figures' name.
    #[arg(long)]
    name: String,
    /// The service's address for commands, such as http://127.0.0.1:8080.
    #[arg(long)]
    url: String,
    /// Number of pairs.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Number of connections.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Commands per second of the background load; 0: no background load.
    #[arg(long, default_value_t = 3_000)]
    offered: u64,
    /// Prefix of the ids of this run. The ids must be new.
    #[arg(long)]
    prefix: String,
}

/// The results of one client, or of all.
struct Results {
    /// Times from sending the command to receiving an answer with the product. For a stale answer, the time until the
    /// end of that answer, which is longer than any wait of a query.
    visible: Latencies,
    /// Number of stale answers.
    stale: u64,
}

/// Runs the load; returns its figures.
///
/// # Errors
/// An answer lacks the product and does not say that it is stale, or a request fails.
pub async fn run(arguments: Arguments) -> Result<Value> {
    let arguments = Arc::new(arguments);
    let sent = Arc::new(AtomicU64::new(0));
    let other = start_background_load(&arguments, &sent);
    let (started, sent_before) = (Instant::now(), sent.load(Ordering::Relaxed));
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..arguments.connections {
        clients.spawn(run_client(arguments.clone(), next.clone()));
    }
    let mut all = Results {
        visible: Latencies::new()?,
        stale: 0,
    };
    while let Some(results) = clients.join_next().await {
        let results = results??;
        all.visible.merge(&results.visible)?;
        all.stale += results.stale;
    }
    let time = started.elapsed();
    let offered = sent.load(Ordering::Relaxed) - sent_before;
    if let Some(other) = other {
        ensure!(!other.is_finished(), "the background load ended: {other:?}");
        other.abort();
    }
    ensure!(
        all.visible.count() == arguments.count,
        "{} answers of {} pairs",
        all.visible.count(),
        arguments.count
    );
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let offered_per_second = (offered as f64 / time.as_secs_f64()).round();
    let name = &arguments.name;
    Ok(json!({
        (format!("{name}.count")): arguments.count,
        (format!("{name}.stale")): all.stale,
        (format!("{name}.background_per_second")): offered_per_second,
        (format!("{name}.p50_ms")): all.visible.quantile_ms(0.5),
        (format!("{name}.p99_ms")): all.visible.quantile_ms(0.99),
        (format!("{name}.max_ms")): all.visible.quantile_ms(1.0),
    }))
}

async fn run_client(arguments: Arc<Arguments>, next: Arc<AtomicU64>) -> Result<Results> {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(1)
        .build()?;
    let mut results = Results {
        visible: Latencies::new()?,
        stale: 0,
    };
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= arguments.count {
            return Ok(results);
        }
        let sku = format!("{}-{number}", arguments.prefix);
        let started = Instant::now();
        let is_visible = pair(&client, &arguments.url, &sku).await.context(sku)?;
        results.visible.add(started.elapsed());
        results.stale += u64::from(!is_visible);
    }
}

/// Creates a product and queries it. Returns `true` if the answer has the product, `false` if the answer says that it
/// is stale.
async fn pair(client: &reqwest::Client, url: &str, sku: &str) -> Result<bool> {
    let body = json!({"sku": sku, "description": "a product of a pair"});
    let created = client.post(format!("{url}/api/v1/products")).json(&body);
    let created = created.send().await?;
    ensure!(
        created.status() == 201,
        "{}: {}",
        created.status(),
        created.text().await?
    );
    let position = created.headers().get("daybook-position");
    let position = position.context("no position")?.clone();
    created.bytes().await?;
    let query = client.get(format!("{url}/api/v1/products/{sku}"));
    let answer = query.header("daybook-position", position).send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await?;
    let is_stale = headers
        .get("daybook-stale")
        .is_some_and(|value| value == "true");
    ensure!(
        status == 200 || (status == 404 && is_stale),
        "{status} without daybook-stale: {text}"
    );
    Ok(status == 200)
}

/// Sends batches of sales at the offered rate, until it is aborted.
fn start_background_load(
    arguments: &Arc<Arguments>,
    sent: &Arc<AtomicU64>,
) -> Option<JoinHandle<Result<()>>> {
    if arguments.offered == 0 {
        return None;
    }
    let (arguments, sent) = (arguments.clone(), sent.clone());
    Some(tokio::spawn(async move {
        let client = reqwest::Client::new();
        let url = format!("{}/api/v1/admin/commands", arguments.url);
        let interval =
            Duration::from_secs(1) * u32::try_from(BATCH)? / u32::try_from(arguments.offered)?;
        let mut ticks = tokio::time::interval(interval);
        let mut batches = JoinSet::new();
        for batch in 0.. {
            ticks.tick().await;
            let (client, url, sent) = (client.clone(), url.clone(), sent.clone());
            let lines = lines(&arguments.prefix, batch);
            batches.spawn(async move {
                let request = client
                    .post(url)
                    .header("content-type", "application/x-ndjson");
                let answer = request.body(lines).send().await?.error_for_status()?;
                let text = answer.text().await?;
                let decided = text.lines().filter(|line| line.contains("\"status\":201"));
                sent.fetch_add(decided.count() as u64, Ordering::Relaxed);
                Ok::<_, anyhow::Error>(())
            });
            while let Some(ended) = batches.try_join_next() {
                ended??;
            }
            ensure!(
                batches.len() < BATCHES_MAX,
                "{BATCHES_MAX} batches are in flight: the service can't keep up"
            );
        }
        Ok(())
    }))
}

fn lines(prefix: &str, batch: u64) -> String {
    let line = |number: u64| {
        let invoice = format!("{prefix}-{batch}-{number}");
        let sale = json!({
            "invoice": invoice,
            "customer": format!("c{}", number % 50),
            "country": "EIRE",
            "currency": "GBP",
            "ordered_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": 1, "unit_price": 1_000_000}],
        });
        let line = json!({"key": format!("sale/{invoice}"), "command": "ImportSale", "body": sale});
        format!("{line}\n")
    };
    (0..BATCH).map(line).collect()
}
