//! Read-your-writes: a query that names the position of a write finds it, at any node, or says that it is stale.

use crate::{import::imported, locked_checkpoints::lock_partition};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use system_tests::{
    Answer, Client, Deployment, FaultProxy, Node, Poll, Server,
    free_address::free_address,
    http::send,
    product::{create_product, sku_in},
    sale::{import_sale, line},
    until,
};

/// Number of clients. Each has a connection to every node.
const CLIENTS: usize = 64;
/// Number of writes of each client. After each write, the client queries every view at every node.
const WRITES: usize = 20;
/// Longest time until a view has a write, under load. Both nodes project every view. A projector that finds a batch
/// applied by the other node waits before it opens its build again, longer each time, for up to 1 s. If the projectors
/// of both nodes wait at once, nobody moves the view.
const FRESH_TIMEOUT: Duration = Duration::from_secs(30);
/// Positions that no test reaches.
const FAR: &str = "journal.orders/0@1000000000";
const FAR_OF_CATALOG: &str = "journal.catalog/0@1000000000";
/// The view of which one partition is stalled, its journal, and a query that it answers.
const CATALOG: &str = "catalog_v1";
const CATALOG_JOURNAL: &str = "journal.catalog";
const PRODUCTS: &str = "/api/v1/products?limit=100";
/// The stalled partition.
const STALLED: i32 = 0;
/// Queries of views and of a job that read the journal of orders only.
const QUERIES: [&str; 4] = [
    "/api/v1/orders",
    "/api/v1/orders/order_01h455vb4pex5vsknk084sn02q",
    "/api/v1/customers/1/orders",
    "/api/v1/analytics/series?job=revenue_by_country&window=day",
];

/// A write of a client.
struct Write {
    id: String,
    position: String,
}

pub async fn a_query_finds_the_write_of_its_position_at_every_node(
    deployment: &Deployment,
) -> Result<()> {
    let mut nodes = two_nodes(deployment).await?;
    let clients = (0..CLIENTS).map(|number| write_and_read(&nodes, number));
    let (stale, last): (Vec<usize>, Vec<Write>) = try_join_all(clients).await?.into_iter().unzip();
    let stale: usize = stale.into_iter().sum();
    let queries = CLIENTS * WRITES * nodes.len() * 3;
    println!("{stale} of {queries} first answers were stale and said so");
    ensure!(
        stale < queries / 2,
        "{stale} of {queries} first answers were stale, instead of less than half"
    );
    // Once every node has applied every write, no query has to wait.
    for node in &mut nodes {
        node.caught_up().await?;
    }
    for node in &nodes {
        for (number, written) in last.iter().enumerate() {
            let stale = check(node.client(), written, number, WRITES).await?;
            ensure!(
                stale == 0,
                "{stale} answers instead of 0 are stale at a node that has caught up"
            );
        }
    }
    Ok(())
}

pub async fn an_answer_that_lacks_a_position_says_how_far_its_view_is_behind(
    deployment: &Deployment,
) -> Result<()> {
    let node = deployment.serve().await?;
    let client = Client::new(node.client().base().to_owned())?;
    for path in QUERIES {
        let answer = read(&client, path, FAR).await?;
        ensure!(is_stale(&answer), "{path}: not stale: {:?}", answer.headers);
        let lag = answer.header("daybook-lag");
        let part = "journal.orders/0=";
        ensure!(
            lag.starts_with(part),
            "{path}: Daybook-Lag is {lag:?} instead of {part:?} and a number"
        );
    }
    Ok(())
}

/// A partition of the catalog is stalled, so an answer is complete only if the query waits for each of its positions.
pub async fn a_query_with_several_positions_waits_for_each_of_them(
    deployment: &Deployment,
) -> Result<()> {
    let mut nodes = two_nodes(deployment).await?;
    for node in &mut nodes {
        node.caught_up().await?;
    }
    let partitions = deployment.admin()?.partitions(CATALOG_JOURNAL).await?;
    let pool = deployment.postgres().await?;
    let lock = lock_partition(CATALOG, STALLED, &pool).await?;
    let [stalled, other] = [
        sku_in(STALLED, partitions)?,
        sku_in(STALLED + 1, partitions)?,
    ];
    let client = nodes[0].client();
    let stalled_at = create_product(client, &stalled).await?;
    let other_at = create_product(client, &other).await?;
    let both = [
        format!("{stalled_at}, {other_at}"),
        format!("{other_at},{stalled_at}, {FAR}"),
    ];
    for node in &nodes {
        let has_other = |answer: &Answer| has_product(answer, &other);
        is_stale_before_found(node.client(), PRODUCTS, &other_at, has_other).await?;
        for positions in &both {
            let answer = read(node.client(), PRODUCTS, positions).await?;
            let (lag, part) = (
                answer.header("daybook-lag"),
                format!("{CATALOG_JOURNAL}/{STALLED}="),
            );
            ensure!(
                is_stale(&answer) && lag.starts_with(&part) && !lag.contains(','),
                "{positions}: not stale with {part:?} alone: {:?}",
                answer.headers
            );
        }
    }
    lock.rollback().await?;
    pool.close().await;
    for (node, positions) in nodes.iter().zip(&both) {
        let has_both = |answer: &Answer| {
            [&stalled, &other]
                .iter()
                .all(|sku| has_product(answer, sku))
        };
        is_stale_before_found(node.client(), PRODUCTS, positions, has_both).await?;
    }
    Ok(())
}

pub async fn an_invalid_position_is_refused() -> Result<()> {
    let imported = imported().await?;
    for path in QUERIES {
        for invalid in [
            "journal.orders/0",
            "journal.orders/1000@1",
            "journal.none/0@1",
        ] {
            let answer = read(imported.node.client(), path, invalid).await?;
            answer.problem(400, "POSITION_INVALID").context(invalid)?;
        }
    }
    Ok(())
}

pub async fn a_position_of_a_journal_that_a_view_does_not_read_makes_no_answer_stale() -> Result<()>
{
    let imported = imported().await?;
    for path in QUERIES {
        let answer = read(imported.node.client(), path, FAR_OF_CATALOG).await?;
        ensure!(!is_stale(&answer), "{path}: stale: {:?}", answer.headers);
    }
    Ok(())
}

pub async fn a_view_without_its_database_refuses_or_marks_its_answers_as_stale(
    deployment: &Deployment,
) -> Result<()> {
    for (server, path) in [
        (Server::Postgres, "/api/v1/orders"),
        (Server::Cassandra, "/api/v1/customers/1/orders"),
    ] {
        let mut proxy = FaultProxy::before(server, &deployment.environment).await?;
        let mut node = deployment.clone().behind(&proxy).serve().await?;
        let client = Client::new(node.client().base().to_owned())?;
        let before = write(&client, "before", 0).await?;
        let answer = read(&client, path, &before.position).await?;
        let id = &before.id;
        ensure!(holds(&answer, id), "{path}: no order {id} in {answer:?}");
        proxy.close().await;
        let during = write(&client, &format!("during {server:?}"), 0).await?;
        for _ in 0..5 {
            let answer = read(&client, path, &during.position).await?;
            let is_marked_or_refused = answer.status == 503 || is_stale(&answer);
            ensure!(
                is_marked_or_refused,
                "{path}: an old answer is not marked as stale: {answer:?}"
            );
        }
        proxy.open().await?;
        node.ready().await?;
        node.caught_up().await?;
        let answer = read(&client, path, &during.position).await?;
        ensure!(!is_stale(&answer), "{path}: stale: {:?}", answer.headers);
        let id = &during.id;
        ensure!(holds(&answer, id), "{path}: no order {id} in {answer:?}");
        node.kill().await?;
    }
    Ok(())
}

async fn two_nodes(deployment: &Deployment) -> Result<Vec<Node>> {
    let first = deployment.serve().await?;
    let second = deployment.serve_at(free_address()?).await?;
    Ok(vec![first, second])
}

/// Writes as one client, and reads each write from every view at every node. Returns the number of first answers that
/// are marked as stale, and the last write.
async fn write_and_read(nodes: &[Node], number: usize) -> Result<(usize, Write)> {
    let clients = nodes
        .iter()
        .map(|node| Client::new(node.client().base().to_owned()));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let (mut stale, mut last) = (0, None);
    for count in 1..=WRITES {
        let writer = &clients[(number + count) % clients.len()];
        let written = write(writer, &format!("{number}"), count).await?;
        for client in &clients {
            stale += check(client, &written, number, count).await?;
        }
        last = Some(written);
    }
    Ok((stale, last.context("no write")?))
}

/// Checks that every view has a client's write number `count`. Returns the number of views whose first answer is
/// marked as stale.
async fn check(client: &Client, written: &Write, number: usize, count: usize) -> Result<usize> {
    let Write { id, position } = written;
    let order = format!("/api/v1/orders/{id}");
    let history = format!("/api/v1/customers/{number}/orders?limit=100");
    let series = format!(
        "/api/v1/analytics/series?job=revenue_by_country&window=day&country={}",
        country(number)
    );
    let are_stale = [
        is_stale_before_found(client, &order, position, |answer| answer.status == 200).await?,
        is_stale_before_found(client, &history, position, |answer| holds(answer, id)).await?,
        is_stale_before_found(client, &series, position, |answer| {
            orders_in(answer) == Some(count)
        })
        .await?,
    ];
    Ok(are_stale.into_iter().filter(|is_stale| *is_stale).count())
}

/// Sends a query with a position until its answer is not marked as stale. This answer must have the position's write.
/// Returns whether the first answer is marked.
async fn is_stale_before_found(
    client: &Client,
    path: &str,
    position: &str,
    has_write: impl Fn(&Answer) -> bool,
) -> Result<bool> {
    let mut stale = 0;
    until("an answer that is not stale", FRESH_TIMEOUT, async || {
        let answer = read(client, path, position).await?;
        if is_stale(&answer) {
            stale += 1;
            let lag = answer.header("daybook-lag");
            return Ok(Poll::Pending(format!("{path}: {lag} behind {position}")));
        }
        ensure!(
            has_write(&answer),
            "{path}: the write at {position} is missing from {answer:?}"
        );
        Ok(Poll::Ready(()))
    })
    .await?;
    Ok(stale > 0)
}

/// Imports a sale of a client's own customer and country.
async fn write(client: &Client, name: &str, count: usize) -> Result<Write> {
    let number = name.split(' ').next_back().unwrap_or_default();
    let customer = number.parse::<usize>().map_or(1, |number| number);
    let sale = json!({"invoice": format!("{name} {count}"), "customer": customer.to_string(),
        "country": country(customer), "currency": "GBP", "ordered_at": "2010-12-01T08:26:00Z",
        "lines": [line("A")]});
    let command = import_sale(&format!("{name}/{count}"), &sale);
    let answers = client.post_lines(format!("{command}\n")).await?;
    let answer = answers.first().context("no answer")?;
    ensure!(answer["status"] == 201, "status is not 201: {answer}");
    let text = |name: &str| {
        let text = answer[name].as_str().map(str::to_owned);
        text.with_context(|| format!("no {name}: {answer}"))
    };
    Ok(Write {
        id: text("id")?,
        position: text("position")?,
    })
}

/// The name of a country for a client's sales, which has letters only.
fn country(number: usize) -> String {
    let letter = |digit: usize| char::from(b'a' + u8::try_from(digit % 26).unwrap_or_default());
    format!("Land{}{}", letter(number / 26), letter(number))
}

async fn read(client: &Client, path: &str, position: &str) -> Result<Answer> {
    let request = client.request(Method::GET, path);
    send(request.header("daybook-position", position)).await
}

fn is_stale(answer: &Answer) -> bool {
    answer.header("daybook-stale") == "true"
}

/// Whether a page of orders has an order.
fn holds(answer: &Answer, id: &str) -> bool {
    let body = answer.json().unwrap_or_default();
    let orders = body["orders"].as_array().map_or(&[][..], Vec::as_slice);
    orders.iter().any(|order| order["id"] == id)
}

/// Whether a page of products has a product.
fn has_product(answer: &Answer, sku: &str) -> bool {
    let body = answer.json().unwrap_or_default();
    let products = body["products"].as_array().map_or(&[][..], Vec::as_slice);
    products.iter().any(|product| product["sku"] == sku)
}

/// The number of orders in all windows of a series.
fn orders_in(answer: &Answer) -> Option<usize> {
    let body: Value = answer.json().ok()?;
    let windows = body["series"].as_array()?.iter();
    let orders = windows.map(|window| window["orders"].as_u64());
    usize::try_from(orders.sum::<Option<u64>>()?).ok()
}
