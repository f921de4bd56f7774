//! `daybook views`: a view gets another build beside the serving one, and keeps answering queries.

use anyhow::{Context, Result, ensure};
use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};
use system_tests::{
    Client, Deployment, Node, Poll, expect_eq,
    free_address::free_address,
    sale::{SALES, node_with_sales, sell},
    totals_by_source, until,
};

/// The views: one in each database.
const VIEWS: [&str; 2] = ["orders_v3", "orders_by_customer_v2"];
/// The state of the build that answered before the last switch.
const PREVIOUS: &str = "PREVIOUS";
/// A query whose page has every order of one batch.
pub const ORDERS: &str = "/api/v1/orders?limit=100";
/// Longest time until a node notices that a view is projected again, or has caught up.
const REBUILD_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn a_rebuilt_view_answers_after_a_switch_and_the_former_build_after_undo(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "first").await?;
    let client = node.client().clone();
    while_queried(client, switch_and_undo(deployment, &mut node)).await
}

async fn switch_and_undo(deployment: &Deployment, node: &mut Node) -> Result<()> {
    let mut sales = SALES;
    for view in VIEWS {
        let rebuilt = views(deployment, &["rebuild", view]).await?;
        ensure!(rebuilt.contains("100 %"), "no \"100 %\" in: {rebuilt}");
        serves(deployment, view, 1).await?;
        views(deployment, &["switch", view]).await?;
        serves(deployment, view, 2).await?;
        sales += sell(node, &format!("{view} switched")).await?;
        has_all(deployment, node, sales).await?;
        views(deployment, &["undo", view]).await?;
        serves(deployment, view, 1).await?;
        sales += sell(node, &format!("{view} undone")).await?;
        has_all(deployment, node, sales).await?;
    }
    node.ready().await
}

pub async fn a_dropped_build_is_no_longer_described(deployment: &Deployment) -> Result<()> {
    let mut node = node_with_sales(deployment, "first").await?;
    for view in VIEWS {
        for change in ["rebuild", "switch", "undo"] {
            views(deployment, &[change, view]).await?;
        }
        let described = views(deployment, &["describe", view]).await?;
        ensure!(described.contains(PREVIOUS), "no {PREVIOUS}: {described}");
        views(deployment, &["drop", view, "--build", "2"]).await?;
        let described = views(deployment, &["describe", view]).await?;
        ensure!(
            !described.contains(PREVIOUS),
            "still {PREVIOUS}: {described}"
        );
    }
    node.ready().await
}

pub async fn reset_replaces_a_build_by_one_from_the_beginning_of_the_log(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "first").await?;
    views(deployment, &["rebuild", "orders_v3"]).await?;
    alter_row(deployment).await?;
    views(deployment, &["reset", "orders_v3", "--build", "2"]).await?;
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    let left: Option<String> = sqlx::query_scalar("SELECT to_regclass('orders_v3_b2')::text")
        .fetch_one(&pool)
        .await?;
    expect_eq("the table of build 2", &left, &None)?;
    let builds: Vec<(i32, String)> = sqlx::query_as(
        "SELECT build, state FROM view_builds WHERE view_name = 'orders_v3' ORDER BY build",
    )
    .fetch_all(&pool)
    .await?;
    pool.close().await;
    let expected = [(1, "SERVING"), (2, "DROPPED"), (3, "BUILDING")];
    let expected = expected.map(|(build, state)| (build, state.to_owned()));
    expect_eq("builds", &builds, &Vec::from(expected))
}

pub async fn a_reset_view_refuses_its_queries_until_it_has_caught_up(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve_without_projectors().await?;
    let mut projector = deployment.projector_at(free_address()?).await?;
    projector.ready().await?;
    node.ready().await?;
    sell(&node, "first").await?;
    node.caught_up().await?;
    projector.kill().await?;
    views(deployment, &["reset", "orders_v3"]).await?;
    until_refused(&node).await?;
    until_noted(&node).await?;
    let listed = views(deployment, &["list"]).await?;
    ensure!(
        listed.contains("refused: still being projected, 0 of "),
        "no refused queries in: {listed}"
    );

    let mut projector = deployment.projector_at(free_address()?).await?;
    until("every order again", REBUILD_TIMEOUT, async || {
        let answer = node.client().get(ORDERS).await?;
        if answer.status != 200 {
            return Ok(Poll::Pending(answer.text));
        }
        let found = answer.json()?["orders"].as_array().map_or(0, Vec::len);
        ensure!(found == SALES, "{found} orders instead of {SALES}");
        Ok(Poll::Ready(()))
    })
    .await?;
    projector.ready().await?;
    node.ready().await
}

/// Waits until a node refuses a query because its view is projected again. No answer may have only a part of the orders.
async fn until_refused(node: &Node) -> Result<()> {
    until("a refused query", REBUILD_TIMEOUT, async || {
        let answer = node.client().get(ORDERS).await?;
        let body = answer.json()?;
        let found = body["orders"].as_array().map_or(SALES, Vec::len);
        ensure!(found == SALES, "{found} orders instead of {SALES}");
        let is_refused = answer.status == 503 && body["code"] == "VIEW_REBUILDING";
        Ok(Poll::of(is_refused, || answer.text))
    })
    .await
}

/// Waits until a node is ready, with a note of the progress of the view. No projector projects the view.
async fn until_noted(node: &Node) -> Result<()> {
    until("a note of the view", REBUILD_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?.json()?;
        let note = ready["notes"]["rebuild.orders_v3"].as_str();
        let is_noted = note.is_some_and(|note| note.contains("0 of "));
        Ok(Poll::of(ready["ready"] == true && is_noted, || {
            ready.to_string()
        }))
    })
    .await
}

/// Runs `daybook views`, which must end with exit code 0; returns its standard output.
pub async fn views(deployment: &Deployment, arguments: &[&str]) -> Result<String> {
    let arguments = [&["views"], arguments].concat();
    Ok(deployment.run_successfully(&arguments).await?.stdout)
}

/// Alters one row of build 2.
async fn alter_row(deployment: &Deployment) -> Result<()> {
    let pool = deployment.postgres().await?;
    let alter = "UPDATE orders_v3_b2 SET country = 'Nowhere' WHERE invoice = 'first 7'";
    let altered = sqlx::query(alter).execute(&pool).await?.rows_affected();
    pool.close().await;
    expect_eq("altered rows", &altered, &1)
}

/// Makes a change while a client sends queries to a view of orders and a view of customers without a pause. Each query
/// must be answered.
///
/// # Errors
/// The change fails, or a query gets no full page.
pub async fn while_queried(client: Client, change: impl Future<Output = Result<()>>) -> Result<()> {
    let (stop, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    let querying = query(client, &stop, &answers);
    let changing = async {
        let changed = change.await;
        stop.store(true, Ordering::Relaxed);
        changed
    };
    let (queried, changed) = tokio::join!(querying, changing);
    changed?;
    queried?;
    println!("{} answers", answers.load(Ordering::Relaxed));
    Ok(())
}

/// Sends queries to both views without a pause until `stop`; each must be answered with a full page.
async fn query(client: Client, stop: &AtomicBool, answers: &AtomicU32) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let page = client.get_json("/api/v1/orders?limit=100").await?;
        let found = page["orders"].as_array().context("no orders")?.len();
        ensure!(found >= SALES, "{found} orders instead of at least {SALES}");
        client.get_json("/api/v1/customers/1/orders").await?;
        answers.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn serves(deployment: &Deployment, view: &str, expected: i32) -> Result<()> {
    let pool = deployment.postgres().await?;
    let build = totals_by_source::serving_build(view, &pool).await?;
    pool.close().await;
    expect_eq(&format!("the build of {view}"), &build, &expected)
}

/// Checks that the serving build of each view has every sale.
async fn has_all(deployment: &Deployment, node: &mut Node, sales: usize) -> Result<()> {
    node.caught_up().await?;
    let sales = i64::try_from(sales)?;
    for (source, totals) in [
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("CQL", totals_by_source::of_cql(deployment).await?),
    ] {
        expect_eq(&format!("sales in {source}"), &totals.sales, &sales)?;
    }
    Ok(())
}
