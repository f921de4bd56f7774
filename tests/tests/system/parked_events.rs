//! Events that a view can't apply: the view parks only the aggregate of such an event, and continues with all others.

use crate::{
    FULL,
    cells::{Cells, Views},
    event_counts::{EventCounts, each_event_counts_once},
    importer::{Importer, shortened},
    projector_faults::{end_import, events_in},
    view_builds::views,
};
use anyhow::{Result, ensure};
use projections::{
    metrics::{PARKED_EVENTS, PARKED_KEYS},
    versions::Versions,
    views::VIEWS,
};
use reqwest::Method;
use schemas::context;
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::time::Duration;
use system_tests::{
    Deployment, Expectation, Node, Poll,
    environment::online_retail,
    expect_eq,
    free_address::free_address,
    http::send,
    product::{change_price, create_product},
    sale::{SALES, import_sale, node_with_sales, sale, sell},
    totals_by_source, until,
};

/// The view whose table refuses one invoice.
pub const VIEW: &str = "orders_v3";
/// Longest time until a view shows an order again.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The prices of a product, one after the other.
const PRICES: [i64; 3] = [300, 100, 200];
/// The output of `daybook views parked` if it lists nothing.
const NOTHING_PARKED: &str = "no aggregate is parked";

pub async fn an_event_that_a_view_refuses_parks_only_its_order(
    deployment: &Deployment,
) -> Result<()> {
    let ParkedOrder { mut node, order } = ParkedOrder::make(deployment).await?;
    node.ready().await?;
    check_sales(deployment, 2 * sales()?).await?;
    let listed = views(deployment, &["parked"]).await?;
    ensure!(listed.contains(&order), "no {order} in: {listed}");
    let aggregates = listed.matches("  view ").count();
    ensure!(
        aggregates == 1,
        "{aggregates} parked aggregates instead of 1: {listed}"
    );
    let shown = views(deployment, &["show", VIEW, &order]).await?;
    let invoice = "\"invoice\":\"poison\"";
    ensure!(shown.contains(invoice), "no {invoice} in: {shown}");
    Ok(())
}

pub async fn metrics_count_the_events_of_a_parked_order(deployment: &Deployment) -> Result<()> {
    let ParkedOrder { node, .. } = ParkedOrder::make(deployment).await?;
    let orders = 2 * sales()? + 1;
    check_metrics(&node, |topic| {
        Ok(match topic == context::ORDERS.topic {
            true => orders,
            false => 0,
        })
    })
    .await
}

pub async fn answers_without_a_parked_order_say_that_it_is_parked(
    deployment: &Deployment,
) -> Result<()> {
    let ParkedOrder { node, order } = ParkedOrder::make(deployment).await?;
    check_marks(&node, &order).await
}

pub async fn reconcile_says_that_an_order_is_parked(deployment: &Deployment) -> Result<()> {
    let ParkedOrder { node: _node, .. } = ParkedOrder::make(deployment).await?;
    let url = format!("http://{}", deployment.listen());
    let compared = deployment.run(&["reconcile", "--url", &url]).await?;
    let warning = "1 events are parked, so the totals of view orders_v3 lack them";
    ensure!(
        compared.code == 1 && compared.stderr.contains(warning),
        "not exit code 1 with {warning:?}: {compared:?}"
    );
    Ok(())
}

pub async fn a_retry_applies_a_parked_order_once_the_view_accepts_it(
    deployment: &Deployment,
) -> Result<()> {
    let ParkedOrder { node, order } = ParkedOrder::make(deployment).await?;
    let retried = deployment.run(&["views", "retry", VIEW, &order]).await?;
    ensure!(
        retried.code == 1,
        "exit code {} instead of 1: {retried:?}",
        retried.code
    );
    alter_orders(deployment, "DROP CONSTRAINT poison").await?;
    views(deployment, &["retry", VIEW, &order]).await?;
    let path = format!("/api/v1/orders/{order}");
    is_found(&node, &path).await?;
    await_marks(&node, &path, ("", "")).await?;
    check_sales(deployment, 2 * sales()? + 1).await?;
    let listed = views(deployment, &["parked"]).await?;
    ensure!(
        listed.contains(NOTHING_PARKED),
        "no {NOTHING_PARKED:?} in: {listed}"
    );
    Ok(())
}

/// No batch follows that would find the loss.
pub async fn a_retry_on_an_idle_journal_projects_a_view_again_that_lost_a_column(
    deployment: &Deployment,
) -> Result<()> {
    let ParkedOrder { mut node, order } = ParkedOrder::make(deployment).await?;
    alter_orders(deployment, "DROP COLUMN country").await?;
    // The new build has no constraint.
    views(deployment, &["retry", VIEW, &order]).await?;
    is_found(&node, &format!("/api/v1/orders/{order}")).await?;
    node.ready().await
}

pub async fn a_discarded_order_is_listed_with_the_reason_until_a_retry_applies_it(
    deployment: &Deployment,
) -> Result<()> {
    let ParkedOrder { node, order } = ParkedOrder::make(deployment).await?;
    let discard = [
        "discard",
        VIEW,
        &order,
        "--reason",
        "not an invoice",
        "--by",
        "tester",
    ];
    views(deployment, &discard).await?;
    let listed = views(deployment, &["parked", VIEW]).await?;
    let record = "discarded by tester: not an invoice";
    ensure!(listed.contains(record), "no {record:?} in: {listed}");
    alter_orders(deployment, "DROP CONSTRAINT poison").await?;
    views(deployment, &["retry", VIEW, &order]).await?;
    is_found(&node, &format!("/api/v1/orders/{order}")).await?;
    let listed = views(deployment, &["parked"]).await?;
    ensure!(
        listed.contains(NOTHING_PARKED),
        "no {NOTHING_PARKED:?} in: {listed}"
    );
    Ok(())
}

/// The node learns of the parked order by the position, and not by its reading of all parked aggregates every second.
pub async fn an_answer_at_the_position_of_a_parked_order_is_marked_at_a_node_without_projectors(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve_without_projectors().await?;
    let mut projector = deployment.projector_at(free_address()?).await?;
    projector.ready().await?;
    node.ready().await?;
    alter_orders(
        deployment,
        "ADD CONSTRAINT poison CHECK (invoice <> 'poison')",
    )
    .await?;
    let command = import_sale("poison", &sale("poison"));
    let answers = node.client().post_lines(format!("{command}\n")).await?;
    let answer = answers.first().cloned().unwrap_or_else(|| json!({}));
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let (path, position) = (format!("/api/v1/orders/{}", text("id")), text("position"));
    until("an answer at the position", APPLY_TIMEOUT, async || {
        let request = node.client().request(Method::GET, &path);
        let answer = send(request.header("daybook-position", &position)).await?;
        if !answer.header("daybook-lag").is_empty() {
            return Ok(Poll::Pending(format!("{:?}", answer.headers)));
        }
        expect_eq("Daybook-Stale", &answer.header("daybook-stale"), &"parked")?;
        Ok(Poll::Ready(()))
    })
    .await
}

pub async fn a_retry_applies_the_waiting_commits_of_a_product_in_their_order(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    sqlx::raw_sql("ALTER TABLE catalog_v1_b1 ADD CONSTRAINT poison CHECK (sku <> 'QUEUED')")
        .execute(&pool)
        .await?;
    create_product(node.client(), "QUEUED").await?;
    for amount in PRICES {
        change_price(node.client(), "QUEUED", amount).await?;
    }
    node.caught_up().await?;
    let shown = views(deployment, &["show", "catalog_v1", "product_QUEUED"]).await?;
    let waiting = format!("{0} commits with {0} events", PRICES.len() + 1);
    ensure!(shown.contains(&waiting), "no {waiting:?} in: {shown}");

    sqlx::raw_sql("ALTER TABLE catalog_v1_b1 DROP CONSTRAINT poison")
        .execute(&pool)
        .await?;
    pool.close().await;
    views(deployment, &["retry", "catalog_v1", "product_QUEUED"]).await?;
    let found = node.client().get_json("/api/v1/products/QUEUED").await?;
    let expected = (json!(PRICES[PRICES.len() - 1]), json!(PRICES.len() + 1));
    let last = (found["price"]["amount"].clone(), found["version"].clone());
    expect_eq("the last price and the version", &last, &expected)
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
    let refuse = format!("ADD CONSTRAINT poison CHECK (invoice <> '{invoice}')");
    alter_orders(deployment, &refuse).await?;
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
    let expectation = Expectation::of(&file).await?;
    check_metrics(&node, |topic| events_in(topic, &expectation)).await?;

    alter_orders(deployment, "DROP CONSTRAINT poison").await?;
    views(deployment, &["retry", VIEW]).await?;
    until("no parked aggregate", APPLY_TIMEOUT, async || {
        let listed = views(deployment, &["parked"]).await?;
        let is_empty = listed.contains(NOTHING_PARKED);
        Ok(Poll::of(is_empty, || listed))
    })
    .await?;
    of_node.check_all(&cells).await
}

/// A node whose view [`VIEW`] has parked one order, between two batches of sales. All other views have the order.
struct ParkedOrder {
    node: Node,
    order: String,
}

impl ParkedOrder {
    async fn make(deployment: &Deployment) -> Result<Self> {
        let mut node = node_with_sales(deployment, "before").await?;
        let refuse = "ADD CONSTRAINT poison CHECK (invoice <> 'poison')";
        alter_orders(deployment, refuse).await?;
        let order = import(&node, "poison").await?;
        sell(&node, "after").await?;
        node.caught_up().await?;
        Ok(Self { node, order })
    }
}

/// Alters the table of orders of [`VIEW`].
async fn alter_orders(deployment: &Deployment, change: &str) -> Result<()> {
    let pool = deployment.postgres().await?;
    let statement = format!("ALTER TABLE orders_v3_b1 {change}");
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&pool)
        .await?;
    pool.close().await;
    Ok(())
}

/// The sales of one batch.
fn sales() -> Result<i64> {
    Ok(i64::try_from(SALES)?)
}

/// Checks the number of sales in [`VIEW`], and that the view in the CQL store also has the parked order.
async fn check_sales(deployment: &Deployment, in_view: i64) -> Result<()> {
    let of_postgres = totals_by_source::of_postgres(deployment).await?;
    expect_eq("sales in Postgres", &of_postgres.sales, &in_view)?;
    let of_cql = totals_by_source::of_cql(deployment).await?;
    let expected = 2 * sales()? + 1;
    expect_eq("sales in the CQL store", &of_cql.sales, &expected)
}

/// Waits until a path is found.
async fn is_found(node: &Node, path: &str) -> Result<()> {
    until(path, APPLY_TIMEOUT, async || {
        let answer = node.client().get(path).await?;
        Ok(Poll::of(answer.status == 200, || answer.text))
    })
    .await
}

/// Imports one sale; returns the order's id.
async fn import(node: &Node, invoice: &str) -> Result<String> {
    let command = import_sale(invoice, &sale(invoice));
    let answers = node.client().post_lines(format!("{command}\n")).await?;
    let answer = answers.first().cloned().unwrap_or_else(|| json!({}));
    ensure!(answer["status"] == 201, "status is not 201: {answer}");
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
        Ok(Poll::of(found == expected, || {
            format!("{found:?} instead of {expected:?}")
        }))
    })
    .await
}

/// Checks that the metrics count one parked aggregate with one event, of [`VIEW`], and that each view has counted each
/// event of its journals once. `in_journal` returns the number of events of a journal. The node must be the only
/// process that has projected the views, so no event is stale: events read = applied + parked.
async fn check_metrics(node: &Node, in_journal: impl Fn(&str) -> Result<i64>) -> Result<()> {
    until("one parked aggregate", APPLY_TIMEOUT, async || {
        let metric = |name: &'static str| node.client().metric(name);
        let keys = metric(PARKED_KEYS).await?;
        let events = metric(PARKED_EVENTS).await?;
        let is_counted = keys == 1.0 && events == 1.0;
        Ok(Poll::of(is_counted, || {
            format!("{keys} keys and {events} events instead of 1")
        }))
    })
    .await?;
    let counts = each_event_counts_once(node).await?;
    for view in Versions::of_all(VIEWS).iter().map(Versions::newest) {
        let mut read = 0;
        for topic in view.topics {
            read += u64::try_from(in_journal(topic)?)?;
        }
        let parked = u64::from(view.name == VIEW);
        let expected = EventCounts {
            read,
            applied: read - parked,
            parked,
            stale: 0,
        };
        let found = counts.get(&(view.name.to_owned(), 1)).copied();
        expect_eq(view.name, &found, &Some(expected))?;
    }
    Ok(())
}
