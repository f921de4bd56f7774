//! Servers that do not answer: when a node starts, while it works, and when it stops. A fault proxy in front of each
//! server makes the outage.

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use system_tests::{
    Answer, Client, Deployment, FaultProxy, Node, Poll, Server, audit_log, expect_eq, until,
};
use tokio::time::{Instant, timeout};

/// Longest time from the beginning of an outage to a readiness that names the server.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time from the end of an outage to a readiness that no longer names the server.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for the answer to a command during an outage.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);
/// Longest time from SIGTERM to the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which a command that was not refused at once is sent again.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// The smallest budget that the settings accept, in bytes.
const WAITING_BYTES_MAX: u32 = 32 << 20;
/// Number of requests with one long line each. The requests' own shares fit into the budget, but not together with the
/// shares of their lines.
const LONG_LINES: usize = 24;
/// Length of a long line without its line feed, in bytes: one byte less than the maximum.
const LONG_LINE_BYTES: usize = (1 << 20) - 1;

const PRODUCTS: &str = "/api/v1/products";
const ORDERS: &str = "/api/v1/orders";
const HISTORY: &str = "/api/v1/customers/17850/orders";
const SERIES: &str = "/api/v1/analytics/series?job=revenue_by_country&window=day";
const ORDER: &str = "/api/v1/orders/order_01h455vb4pex5vsknk084sn02q";

pub async fn a_node_started_without_servers_waits_for_each_and_names_it(
    deployment: &Deployment,
) -> Result<()> {
    let mut proxies = Vec::new();
    let mut deployment = deployment.clone();
    for server in Server::ALL {
        let mut proxy = FaultProxy::before(server, &deployment.environment).await?;
        deployment = deployment.behind(&proxy);
        proxy.close().await;
        proxies.push(proxy);
    }
    let mut node = deployment.serve_unready().await?;
    let client = node.client().clone();
    for server in Server::ALL {
        not_ready(&client, server).await?;
    }
    for (path, code) in [
        (ORDERS, "DATABASE_UNAVAILABLE"),
        (HISTORY, "DATABASE_UNAVAILABLE"),
        (ORDER, "DATABASE_UNAVAILABLE"),
        (SERIES, "JOB_NOT_READY"),
    ] {
        client.get(path).await?.problem(503, code)?;
    }
    let early = create(&client, "EARLY", None).await?;
    early.problem(503, "JOURNAL_UNAVAILABLE")?;
    let line = json!({"key": "k", "command": "CreateProduct", "body": body_of("EARLY")});
    let batch = client.post_lines(format!("{line}\n")).await;
    ensure!(
        batch
            .as_ref()
            .is_err_and(|error| error.to_string().contains("503")),
        "a batch was not refused with 503: {batch:?}"
    );

    // A server that answers is no longer named, but the others still are.
    for (index, server) in Server::ALL.into_iter().enumerate() {
        proxies[index].open().await?;
        ready_again(&client, server).await?;
        for down in &Server::ALL[index + 1..] {
            not_ready(&client, *down).await?;
        }
    }
    node.ready().await?;
    create(&client, "LATE", None).await?.expect(201)?;
    node.caught_up().await?;
    for path in [ORDERS, HISTORY, SERIES] {
        client.get(path).await?.expect(200)?;
    }
    audit_log::verify(&deployment).await.map(drop)
}

pub async fn a_kafka_outage_refuses_commands_and_ends_by_itself(
    deployment: &Deployment,
) -> Result<()> {
    let mut outage = Outage::prepare(Server::Kafka, deployment).await?;
    outage.begin().await?;
    // The command may be in the log or not. Its key makes the repetition safe.
    let refused = outage.create_timed("DURING").await?;
    refused.problem(503, "JOURNAL_UNAVAILABLE")?;
    outage.expect(ORDERS, None).await?;
    outage.expect(HISTORY, None).await?;
    let progress = "/api/v1/admin/progress";
    outage.expect(progress, Some("KAFKA_UNAVAILABLE")).await?;
    outage.end(&refused).await
}

pub async fn a_node_whose_memory_budget_is_used_up_refuses_requests_and_stays_alive(
    deployment: &Deployment,
) -> Result<()> {
    let mut proxy = FaultProxy::before(Server::Kafka, &deployment.environment).await?;
    let deployment = deployment.clone().behind(&proxy);
    let smallest = |command: &mut tokio::process::Command| {
        command.env(
            "DAYBOOK_HTTP_WAITING_BYTES_MAX",
            WAITING_BYTES_MAX.to_string(),
        );
    };
    let node = deployment.commands_with(deployment.listen(), smallest);
    let mut node = node.await?;
    node.ready().await?;
    let client = node.client().clone();
    create(&client, "BEFORE", None).await?.expect(201)?;
    proxy.close().await;
    not_ready(&client, Server::Kafka).await?;

    let batches = (0..LONG_LINES).map(|number| client.post_lines(long_line(number)));
    let (batches, used_up) = tokio::join!(join_all(batches), wait_until_budget_is_used_up(&client));
    used_up?;
    let mut codes: HashMap<String, usize> = HashMap::new();
    for batch in batches {
        let Ok(answers) = &batch else {
            // Other requests had used up the budget before this request came.
            ensure!(
                format!("{batch:?}").contains("OVERLOADED"),
                "not refused with OVERLOADED: {batch:?}"
            );
            *codes.entry("OVERLOADED".to_owned()).or_default() += 1;
            continue;
        };
        for answer in answers {
            ensure!(answer["status"] == 503, "status is not 503: {answer}");
            let code = answer["code"].as_str().context("no code")?;
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }
    for code in ["OVERLOADED", "JOURNAL_UNAVAILABLE"] {
        ensure!(codes.contains_key(code), "no {code} among {codes:?}");
    }

    proxy.open().await?;
    node.ready().await?;
    create(&client, "AFTER", None).await?.expect(201).map(drop)
}

/// Waits until a single request is refused because the budget is used up. The node must still report that it is live.
async fn wait_until_budget_is_used_up(client: &Client) -> Result<()> {
    until("a used-up budget", NOTICE_TIMEOUT, async || {
        // A command that comes before the budget is used up waits for Kafka.
        let Ok(refused) = timeout(REFUSAL_WAIT, create(client, "DURING", None)).await else {
            return Ok(Poll::Pending("a command waits for its answer".to_owned()));
        };
        let refused = refused?;
        if refused.problem(503, "OVERLOADED").is_err() {
            return Ok(Poll::Pending(refused.text));
        }
        let retry_after = refused.header("retry-after");
        expect_eq("Retry-After", &retry_after, &"1")?;
        client.get("/health/live").await?.expect(200)?;
        Ok(Poll::Ready(()))
    })
    .await
}

/// A line that creates a product, padded to [`LONG_LINE_BYTES`].
fn long_line(number: usize) -> String {
    let sku = format!("LONG-{number}");
    let line = json!({"key": sku, "command": "CreateProduct", "body": body_of(&sku)}).to_string();
    let padding = " ".repeat(LONG_LINE_BYTES - line.len());
    format!("{line}{padding}\n")
}

pub async fn a_registry_outage_is_named_and_ends_by_itself(deployment: &Deployment) -> Result<()> {
    let mut outage = Outage::prepare(Server::Registry, deployment).await?;
    outage.begin().await?;
    let during = outage.create_timed("DURING").await?;
    during.expect(201)?;
    outage.expect(ORDERS, None).await?;
    outage.expect(HISTORY, None).await?;
    outage.end(&during).await
}

pub async fn a_postgres_outage_refuses_its_queries_only_and_ends_by_itself(
    deployment: &Deployment,
) -> Result<()> {
    let mut outage = Outage::prepare(Server::Postgres, deployment).await?;
    outage.begin().await?;
    let during = outage.create_timed("DURING").await?;
    during.expect(201)?;
    outage.expect(ORDERS, Some("DATABASE_UNAVAILABLE")).await?;
    outage.expect(HISTORY, None).await?;
    outage.end(&during).await
}

pub async fn a_cql_outage_refuses_its_queries_only_and_ends_by_itself(
    deployment: &Deployment,
) -> Result<()> {
    let mut outage = Outage::prepare(Server::Cassandra, deployment).await?;
    outage.begin().await?;
    let during = outage.create_timed("DURING").await?;
    during.expect(201)?;
    outage.expect(ORDERS, None).await?;
    outage.expect(HISTORY, Some("DATABASE_UNAVAILABLE")).await?;
    outage.end(&during).await
}

pub async fn a_node_told_to_stop_while_postgres_is_down_ends_cleanly(
    deployment: &Deployment,
) -> Result<()> {
    let mut outage = Outage::prepare(Server::Postgres, deployment).await?;
    outage.begin().await?;
    outage.stops_cleanly().await
}

pub async fn a_node_told_to_stop_while_postgres_hangs_ends_cleanly(
    deployment: &Deployment,
) -> Result<()> {
    let outage = Outage::prepare(Server::Postgres, deployment).await?;
    outage.begin_to_hang().await?;
    outage.stops_cleanly().await
}

pub async fn a_node_told_to_stop_while_the_cql_store_is_down_ends_cleanly(
    deployment: &Deployment,
) -> Result<()> {
    let mut outage = Outage::prepare(Server::Cassandra, deployment).await?;
    outage.begin().await?;
    outage.stops_cleanly().await
}

pub async fn a_node_told_to_stop_while_the_cql_store_hangs_ends_cleanly(
    deployment: &Deployment,
) -> Result<()> {
    let outage = Outage::prepare(Server::Cassandra, deployment).await?;
    outage.begin_to_hang().await?;
    outage.stops_cleanly().await
}

/// An outage of one server while a node works.
struct Outage {
    deployment: Deployment,
    proxy: FaultProxy,
    node: Node,
}

impl Outage {
    /// Starts a node behind a proxy, and creates a product.
    async fn prepare(server: Server, deployment: &Deployment) -> Result<Self> {
        let proxy = FaultProxy::before(server, &deployment.environment).await?;
        let deployment = deployment.clone().behind(&proxy);
        let node = deployment.serve().await?;
        create(node.client(), "BEFORE", None).await?.expect(201)?;
        Ok(Self {
            deployment,
            proxy,
            node,
        })
    }

    /// Ends the connections; returns once the readiness names the server.
    async fn begin(&mut self) -> Result<()> {
        self.proxy.close().await;
        not_ready(self.node.client(), self.proxy.server()).await?;
        self.node
            .client()
            .get("/health/live")
            .await?
            .expect(200)
            .map(drop)
    }

    /// Lets the server hang; returns once the readiness names it.
    async fn begin_to_hang(&self) -> Result<()> {
        self.proxy.hang();
        not_ready(self.node.client(), self.proxy.server()).await
    }

    /// Stops the node while it has an event to apply. It must end in time and with exit code 0, and a node that is
    /// started after the outage must have everything.
    async fn stops_cleanly(mut self) -> Result<()> {
        let during = self.create_timed("DURING").await?;
        during.expect(201)?;
        let (status, time) = self.node.terminate(SHUTDOWN_TIMEOUT).await?;
        ensure!(
            status.success(),
            "it ended with {status} instead of 0 after {time:?}"
        );
        self.proxy.open().await?;
        self.node = self.deployment.serve().await?;
        self.end(&during).await
    }

    /// Creates a product under a key of its own; the answer must come in time.
    async fn create_timed(&self, sku: &str) -> Result<Answer> {
        let started = Instant::now();
        let answer = create(self.node.client(), sku, Some(sku)).await?;
        let waited = started.elapsed();
        ensure!(
            waited < ANSWER_TIME_MAX,
            "an answer after {waited:?}, more than {ANSWER_TIME_MAX:?}"
        );
        Ok(answer)
    }

    /// Checks that the answer to a query is a 503 with this code, or a 200 if no code is given.
    async fn expect(&self, path: &str, refusal: Option<&str>) -> Result<()> {
        let answer = self.node.client().get(path).await?;
        match refusal {
            Some(code) => answer.problem(503, code).map(drop),
            None => answer.expect(200).map(drop),
        }
    }

    /// Accepts connections again. The node must recover, and every command must be decided once, including the
    /// one that was sent during the outage.
    async fn end(mut self, during: &Answer) -> Result<()> {
        self.proxy.open().await?;
        let client = self.node.client().clone();
        ready_again(&client, self.proxy.server()).await?;
        self.node.ready().await?;
        let again = create(&client, "DURING", Some("DURING")).await?;
        let is_replayed = again.expect(201)?.header("idempotent-replayed") == "true";
        ensure!(
            is_replayed || during.status == 503,
            "decided again after {}: {again:?}",
            during.status
        );
        create(&client, "AFTER", None).await?.expect(201)?;
        self.node.caught_up().await?;
        let mut events: HashMap<String, usize> = HashMap::new();
        let arguments = ["--context", "catalog"];
        for decision in audit_log::decisions(&self.deployment, &arguments).await? {
            *events.entry(decision.key).or_default() += decision.events.len();
        }
        let expected = ["BEFORE", "DURING", "AFTER"];
        let expected = expected.map(|sku| (format!("product_{sku}"), 1)).into();
        expect_eq("events", &events, &expected)?;
        audit_log::verify(&self.deployment).await.map(drop)
    }
}

fn body_of(sku: &str) -> Value {
    json!({"sku": sku, "description": "a product"})
}

async fn create(client: &Client, sku: &str, key: Option<&str>) -> Result<Answer> {
    client.post(PRODUCTS, &body_of(sku), key).await
}

/// Waits until the readiness reports the server as not ready.
async fn not_ready(client: &Client, server: Server) -> Result<()> {
    component(client, server, NOTICE_TIMEOUT, |status, state| {
        status == 503 && state.is_string() && state != "ready"
    })
    .await
    .with_context(|| format!("no reason against {server:?}"))
}

/// Waits until the readiness reports the server as ready again.
async fn ready_again(client: &Client, server: Server) -> Result<()> {
    component(client, server, RECOVERY_TIMEOUT, |_, state| {
        state == "ready"
    })
    .await
    .with_context(|| format!("{server:?} is not ready again"))
}

async fn component(
    client: &Client,
    server: Server,
    limit: Duration,
    is_expected: impl Fn(u16, &Value) -> bool,
) -> Result<()> {
    until("a state of the readiness", limit, async || {
        let answer = client.get("/health/ready").await?;
        let state = answer.json()?["components"][server.component()].clone();
        Ok(Poll::of(is_expected(answer.status, &state), || answer.text))
    })
    .await
}
