//! `daybook views`: a view gets another build beside the serving one, and keeps answering queries.

use crate::void_records::{SALES, sell};
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use system_tests::{Client, Deployment, Node, totals_by_source};

/// The views: one in each database.
const VIEWS: [&str; 2] = ["orders_v2", "orders_by_customer_v2"];

pub async fn a_view_is_rebuilt_compared_switched_and_switched_back_while_it_answers(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let mut sales = sell(&node, "first").await?;
    node.caught_up().await?;
    let (stop, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    let querying = query(node.client().clone(), &stop, &answers);
    let changing = async {
        let changed = change_builds(deployment, &mut node, &mut sales).await;
        stop.store(true, Ordering::Relaxed);
        changed
    };
    let (queried, changed) = tokio::join!(querying, changing);
    changed?;
    queried?;
    println!("{} answers", answers.load(Ordering::Relaxed));
    Ok(())
}

async fn change_builds(deployment: &Deployment, node: &mut Node, sales: &mut usize) -> Result<()> {
    for view in VIEWS {
        let views = async |arguments: &[&str]| {
            let arguments: Vec<&str> = ["views"].iter().chain(arguments).copied().collect();
            deployment.run_successfully(&arguments).await
        };
        let rebuilt = views(&["rebuild", view]).await?.stdout;
        ensure!(rebuilt.contains("100 %"), "{rebuilt}");
        let compared = views(&["diff", view]).await?.stdout;
        ensure!(compared.contains("; 0 rows differ"), "{compared}");
        serves(deployment, view, 1).await?;
        views(&["switch", view]).await?;
        serves(deployment, view, 2).await?;
        *sales += sell(node, &format!("{view} switched")).await?;
        has_all(deployment, node, *sales).await?;
        views(&["undo", view]).await?;
        serves(deployment, view, 1).await?;
        *sales += sell(node, &format!("{view} undone")).await?;
        has_all(deployment, node, *sales).await?;
        let described = views(&["describe", view]).await?.stdout;
        ensure!(described.contains("PREVIOUS"), "{described}");
        views(&["drop", view, "--build", "2"]).await?;
        let described = views(&["describe", view]).await?.stdout;
        ensure!(!described.contains("PREVIOUS"), "{described}");
        node.ready().await?;
    }
    Ok(())
}

/// Sends queries to both views without a pause; each must be answered with a full page.
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
    ensure!(
        build == expected,
        "{view}: build {build} instead of {expected}"
    );
    Ok(())
}

/// Checks that the serving build of each view has every sale.
async fn has_all(deployment: &Deployment, node: &mut Node, sales: usize) -> Result<()> {
    node.caught_up().await?;
    let sales = i64::try_from(sales)?;
    for (source, totals) in [
        ("Postgres", totals_by_source::of_postgres(deployment).await?),
        ("CQL", totals_by_source::of_cql(deployment).await?),
    ] {
        ensure!(totals.sales == sales, "{source}: {totals:?}, not {sales}");
    }
    Ok(())
}

pub async fn a_differing_row_is_shown_with_its_events(deployment: &Deployment) -> Result<()> {
    let mut node = deployment.serve().await?;
    sell(&node, "first").await?;
    node.caught_up().await?;
    deployment
        .run_successfully(&["views", "rebuild", "orders_v2"])
        .await?;
    let pool = deployment.postgres().await?;
    let altered =
        "UPDATE orders_v2_b2 SET country = 'Nowhere' WHERE invoice = 'first 7' RETURNING order_id";
    let order: String = sqlx::query_scalar(altered).fetch_one(&pool).await?;
    let compared = deployment.run(&["views", "diff", "orders_v2"]).await?;
    ensure!(compared.code == 1, "{compared:?}");
    for part in [
        "1 rows differ in build 2",
        order.as_str(),
        "Nowhere",
        "its events give",
        "SaleImported",
    ] {
        ensure!(
            compared.stdout.contains(part),
            "no {part:?} in {}",
            compared.stdout
        );
    }
    // A reset drops the build and starts a new one from the beginning of the log, so the altered row is gone.
    deployment
        .run_successfully(&["views", "reset", "orders_v2", "--build", "2"])
        .await?;
    node.caught_up().await?;
    let left: Option<String> = sqlx::query_scalar("SELECT to_regclass('orders_v2_b2')::text")
        .fetch_one(&pool)
        .await?;
    ensure!(left.is_none(), "orders_v2_b2 still exists");
    let builds: Vec<(i32, String)> = sqlx::query_as(
        "SELECT build, state FROM view_builds WHERE view_name = 'orders_v2' ORDER BY build",
    )
    .fetch_all(&pool)
    .await?;
    pool.close().await;
    let expected = [(1, "SERVING"), (2, "DROPPED"), (3, "BUILDING")];
    let expected = expected.map(|(build, state)| (build, state.to_owned()));
    ensure!(builds == expected, "{builds:?}");
    Ok(())
}
