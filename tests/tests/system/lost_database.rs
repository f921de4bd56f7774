//! A lost database of Postgres: the list of builds and the parked commits are lost with it, so every view is projected again.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgPool};
use std::time::Duration;
use system_tests::{
    Deployment, Poll,
    sale::{SALES, node_with_sales},
    totals_by_source, until,
};

/// A view in the CQL store, as its metrics name it.
const CQL_VIEW: &str = "view=\"orders_by_customer_v2\"";
const READ: &str = "daybook_projections_events_read_total";
/// Longest time until every view has every sale again.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(90);

/// The CQL store still has checkpoints. If its views resumed from them, they would lack the commits that were parked.
pub async fn every_view_is_projected_again_after_the_database_of_postgres_is_lost(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let read = node.client().metric_with(READ, CQL_VIEW).await?;
    ensure!(read >= SALES as f64, "{read} of {SALES} events were read");
    let environment = &deployment.environment;
    let server = PgPool::connect(&environment.postgres_database("postgres")).await?;
    let name = deployment.postgres_name();
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
        .execute(&server)
        .await?;
    server.close().await;

    until("every sale again", PROJECTION_TIMEOUT, async || {
        let postgres = totals_by_source::of_postgres(deployment).await;
        let cql = totals_by_source::of_cql(deployment).await;
        let expected = i64::try_from(SALES)?;
        let have_all = [&postgres, &cql]
            .into_iter()
            .all(|totals| totals.as_ref().is_ok_and(|found| found.sales == expected));
        let read_again = node.client().metric_with(READ, CQL_VIEW).await?;
        let is_read_again = read_again >= 2.0 * read;
        Ok(Poll::of(have_all && is_read_again, || {
            format!("{read_again} events read, at first {read}; {postgres:?}; {cql:?}")
        }))
    })
    .await?;
    node.ready().await
}
