//! Tables of views that are dropped while a node serves: the views are projected again from the start.

use anyhow::Result;
use std::time::Duration;
use system_tests::{
    Deployment, Poll, Totals,
    sale::{SALES, node_with_sales, sell},
    totals_by_source, until,
};

/// Longest time until a view has every sale.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn views_whose_tables_are_dropped_are_projected_again(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let pool = deployment.postgres().await?;
    sqlx::query("DROP TABLE orders_v2_lines_b1")
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
