//! Events that a view can't apply: the view parks only the aggregate of such an event, and continues with all others.

use crate::{
    FULL,
    cells::{Cells, Views},
    importer::{Importer, shortened},
    projector_faults::end_import,
    void_records::{SALES, sell},
};
use anyhow::{Result, ensure};
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::time::Duration;
use system_tests::{
    Deployment, Node, Output, Poll,
    environment::online_retail,
    sale::{import_sale, sale},
    totals_by_source, until,
};

/// The view whose table refuses one invoice.
const VIEW: &str = "orders_v2";
/// Longest time until a view shows an order again.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn an_event_that_a_view_refuses_parks_its_order_only_until_a_retry(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    sqlx::raw_sql("ALTER TABLE orders_v2_b1 ADD CONSTRAINT poison CHECK (invoice <> 'poison')")
        .execute(&pool)
        .await?;
    let order = import(&node, "poison").await?;
    sell(&node, "after").await?;
    node.caught_up().await?;
    node.ready().await?;
    let totals = totals_by_source::of_postgres(deployment).await?;
    ensure!(totals.sales == 2 * sales()?, "{totals:?}");
    // The other views have the order.
    let of_cql = totals_by_source::of_cql(deployment).await?;
    ensure!(of_cql.sales == 2 * sales()? + 1, "{of_cql:?}");

    let listed = views(deployment, &["parked"]).await?.stdout;
    ensure!(listed.contains(&order), "{listed}");
    ensure!(listed.matches("  view ").count() == 1, "{listed}");
    let shown = views(deployment, &["show", VIEW, &order]).await?.stdout;
    ensure!(shown.contains("\"invoice\":\"poison\""), "{shown}");
    check_metrics(&node, 1.0).await?;
    check_marks(&node, &order).await?;
    let url = format!("http://{}", deployment.listen());
    let compared = deployment.run(&["reconcile", "--url", &url]).await?;
    ensure!(compared.code == 1, "{compared:?}");
    let warning = "1 events are parked, so the totals of view orders_v2 lack them";
    ensure!(compared.stderr.contains(warning), "{compared:?}");

    // The table still refuses the invoice, so a retry fails.
    let retried = deployment.run(&["views", "retry", VIEW, &order]).await?;
    ensure!(retried.code == 1, "{retried:?}");
    views(
        deployment,
        &[
            "discard",
            VIEW,
            &order,
            "--reason",
            "not an invoice",
            "--by",
            "tester",
        ],
    )
    .await?;
    let listed = views(deployment, &["parked", VIEW]).await?.stdout;
    ensure!(
        listed.contains("discarded by tester: not an invoice"),
        "{listed}"
    );

    sqlx::raw_sql("ALTER TABLE orders_v2_b1 DROP CONSTRAINT poison")
        .execute(&pool)
        .await?;
    pool.close().await;
    views(deployment, &["retry", VIEW, &order]).await?;
    until("the parked order", APPLY_TIMEOUT, async || {
        let answer = node
            .client()
            .get(&format!("/api/v1/orders/{order}"))
            .await?;
        Ok(Poll::of(answer.status == 200, || answer.text))
    })
    .await?;
    await_marks(&node, &format!("/api/v1/orders/{order}"), ("", "")).await?;
    let totals = totals_by_source::of_postgres(deployment).await?;
    ensure!(totals.sales == 2 * sales()? + 1, "{totals:?}");
    let listed = views(deployment, &["parked"]).await?.stdout;
    ensure!(listed.contains("no aggregate is parked"), "{listed}");
    Ok(())
}

pub async fn a_poisoned_invoice_of_an_import_parks_its_order_only_until_a_retry(
    deployment: &Deployment,
) -> Result<()> {
    let file = match std::env::var_os(FULL).is_some() {
        true => online_retail(),
        false => shortened(deployment)?,
    };
    let cells = Cells::of(&file).await?;
    let invoice = cells.middle_invoice()?;
    let mut node = deployment.serve().await?;
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "ALTER TABLE orders_v2_b1 ADD CONSTRAINT poison CHECK (invoice <> '{invoice}')"
    )))
    .execute(&pool)
    .await?;
    end_import(Importer::begin(deployment, &file)?).await?;
    node.caught_up().await?;
    let of_node = Views {
        deployment,
        node: &node,
    };
    of_node
        .check_orders(&cells.without_invoice(invoice))
        .await?;
    of_node.check_history(&cells).await?;
    check_metrics(&node, 1.0).await?;

    sqlx::raw_sql("ALTER TABLE orders_v2_b1 DROP CONSTRAINT poison")
        .execute(&pool)
        .await?;
    pool.close().await;
    views(deployment, &["retry", VIEW]).await?;
    until("no parked aggregate", APPLY_TIMEOUT, async || {
        let listed = views(deployment, &["parked"]).await?.stdout;
        let is_empty = listed.contains("no aggregate is parked");
        Ok(Poll::of(is_empty, || listed))
    })
    .await?;
    of_node.check_all(&cells).await
}

fn sales() -> Result<i64> {
    Ok(i64::try_from(SALES)?)
}

async fn views(deployment: &Deployment, arguments: &[&str]) -> Result<Output> {
    let arguments: Vec<&str> = ["views"].iter().chain(arguments).copied().collect();
    deployment.run_successfully(&arguments).await
}

/// Imports one sale; returns the order's id.
async fn import(node: &Node, invoice: &str) -> Result<String> {
    let command = import_sale(invoice, &sale(invoice));
    let answers = node.client().post_lines(format!("{command}\n")).await?;
    let answer = answers.first().cloned().unwrap_or_else(|| json!({}));
    ensure!(answer["status"] == 201, "{answer}");
    Ok(answer["id"].as_str().unwrap_or_default().to_owned())
}

/// Checks the marks of answers that lack one parked order.
async fn check_marks(node: &Node, order: &str) -> Result<()> {
    let path = format!("/api/v1/orders/{order}");
    await_marks(node, &path, ("parked", "1")).await?;
    let page = node.client().get_json("/api/v1/orders?limit=1").await?;
    let other = page["orders"][0]["id"].as_str().unwrap_or_default();
    for path in ["/api/v1/orders?limit=1", &format!("/api/v1/orders/{other}")] {
        await_marks(node, path, ("", "1")).await?;
    }
    // The other views have the order.
    let timeline = format!("/api/v1/orders/{order}/timeline");
    for path in [&*timeline, "/api/v1/countries"] {
        await_marks(node, path, ("", "")).await?;
    }
    Ok(())
}

/// Waits until an answer has these values of `Daybook-Stale` and `Daybook-Parked`; an empty value stands for a missing
/// header. The node reads the parked aggregates every second.
async fn await_marks(node: &Node, path: &str, expected: (&str, &str)) -> Result<()> {
    until(&format!("the marks of {path}"), APPLY_TIMEOUT, async || {
        let answer = node.client().get(path).await?;
        let found = (
            answer.header("daybook-stale"),
            answer.header("daybook-parked"),
        );
        Ok(Poll::of(found == expected, || format!("{found:?}")))
    })
    .await
}

/// Checks that the metrics count `parked` aggregates with one parked event each, and count each event that was read as
/// applied, parked or stale.
async fn check_metrics(node: &Node, parked: f64) -> Result<()> {
    until(
        "the number of parked aggregates",
        APPLY_TIMEOUT,
        async || {
            let metric = |name: &'static str| node.client().metric(name);
            let keys = metric("daybook_projections_parked_keys").await?;
            let events = metric("daybook_projections_parked_events").await?;
            let is_counted = keys == parked && events == parked;
            Ok(Poll::of(is_counted, || {
                format!("{keys} keys, {events} events")
            }))
        },
    )
    .await?;
    let mut counts = Vec::new();
    for kind in ["read", "applied", "parked", "stale"] {
        let name = format!("daybook_projections_events_{kind}_total");
        counts.push(node.client().metric(&name).await?);
    }
    let [read, done @ ..] = counts.as_slice() else {
        anyhow::bail!("no counters");
    };
    ensure!(*read > 0.0, "{counts:?}");
    ensure!(*read == done.iter().sum::<f64>(), "{counts:?}");
    Ok(())
}
