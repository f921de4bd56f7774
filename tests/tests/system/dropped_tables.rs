//! Tables, columns and keyspaces of views that are dropped while a node serves: the views are projected again from the
//! start. A column that is renamed has kept its values, so its view waits for the name.

use crate::view_builds::views;
use anyhow::{Result, ensure};
use std::time::Duration;
use system_tests::{
    Deployment, Node, Poll, Totals,
    sale::{SALES, node_with_sales, sell},
    totals_by_source, until,
};

/// A view in the CQL store.
const CQL_VIEW: &str = "orders_by_customer_v2";
/// Longest time until readiness names a renamed column.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time until a view has every sale.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn views_whose_tables_are_dropped_are_projected_again(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let pool = deployment.postgres().await?;
    sqlx::query("DROP TABLE orders_v3_lines_b1")
        .execute(&pool)
        .await?;
    pool.close().await;
    let session = deployment.cql_session().await?;
    let table = format!("{}.orders_by_customer_v2_b1", deployment.keyspace());
    session
        .query_unpaged(format!("DROP TABLE {table}"), ())
        .await?;

    // A view notices a missing table only when it applies a batch.
    sell(&node, "after").await?;
    has_all_sales("Postgres", async || {
        totals_by_source::of_postgres(deployment).await
    })
    .await?;
    has_all_sales("CQL", async || totals_by_source::of_cql(deployment).await).await?;
    node.ready().await
}

pub async fn a_view_whose_column_is_dropped_is_projected_again(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let session = deployment.cql_session().await?;
    let table = format!("{}.{CQL_VIEW}_b1", deployment.keyspace());
    session
        .query_unpaged(format!("ALTER TABLE {table} DROP country"), ())
        .await?;
    sell(&node, "after").await?;
    has_all_sales("CQL", async || totals_by_source::of_cql(deployment).await).await?;
    node.ready().await?;
    let parked = views(deployment, &["parked"]).await?;
    let nothing = "no aggregate is parked";
    ensure!(parked.contains(nothing), "no {nothing:?} in: {parked}");
    Ok(())
}

pub async fn a_view_whose_column_is_renamed_names_it_and_continues_once_it_has_its_name_again(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let session = deployment.cql_session().await?;
    let rename = |from: &str, to: &str| {
        let keyspace = deployment.keyspace();
        format!("ALTER TABLE {keyspace}.{CQL_VIEW}_b1 RENAME {from} TO {to}")
    };
    session
        .query_unpaged(rename("order_id", "sale_id"), ())
        .await?;
    sell(&node, "after").await?;
    is_named(&node, "order_id").await?;
    session
        .query_unpaged(rename("sale_id", "order_id"), ())
        .await?;
    has_all_sales("CQL", async || totals_by_source::of_cql(deployment).await).await?;
    node.ready().await
}

pub async fn views_whose_keyspace_is_dropped_are_projected_again(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let session = deployment.cql_session().await?;
    session
        .query_unpaged(format!("DROP KEYSPACE {}", deployment.keyspace()), ())
        .await?;
    sell(&node, "after").await?;
    has_all_sales("CQL", async || totals_by_source::of_cql(deployment).await).await?;
    node.ready().await
}

/// Waits until the component of [`CQL_VIEW`] in the readiness contains the reason.
async fn is_named(node: &Node, reason: &str) -> Result<()> {
    let component = format!("view.{CQL_VIEW}");
    until("the reason in readiness", REPORT_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?;
        let found = ready.json()?["components"][&component].clone();
        let is_named = found.as_str().is_some_and(|text| text.contains(reason));
        Ok(Poll::of(is_named, || found.to_string()))
    })
    .await
}

/// Waits until a view has the sales of both batches.
async fn has_all_sales(source: &str, totals: impl AsyncFn() -> Result<Totals>) -> Result<()> {
    let expected = i64::try_from(2 * SALES)?;
    until(source, PROJECTION_TIMEOUT, async || {
        Ok(match totals().await {
            Ok(totals) if totals.sales == expected => Poll::Ready(()),
            Ok(totals) => Poll::Pending(format!("{totals:?} instead of {expected} sales")),
            // The table does not exist until the view is opened again.
            Err(error) => Poll::Pending(format!("{error:#}")),
        })
    })
    .await
}
