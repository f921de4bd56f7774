//! A lost database of Postgres: the list of builds and the parked commits are lost with it, so every view is projected
//! again. The log may be lost at the same time.

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;
use schemas::topics::TOPICS;
use sqlx::{AssertSqlSafe, PgPool};
use std::time::Duration;
use system_tests::{
    Deployment, Poll, expect_eq,
    sale::{SALES, node_with_sales},
    totals_by_source, until,
};

/// A view in the CQL store, as its metrics name it.
const CQL_VIEW: &str = "view=\"orders_by_customer_v2\"";
const READ: &str = "daybook_projections_events_read_total";
/// Longest time until every view has every sale again.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest time until a deleted topic is gone.
const DELETION_TIMEOUT: Duration = Duration::from_secs(60);
/// The directory with the state of a node.
const STATE: &str = "daybook-state";

/// The CQL store still has checkpoints. If its views resumed from them, they would lack the commits that were parked.
pub async fn every_view_is_projected_again_after_the_database_of_postgres_is_lost(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    let read = node.client().metric_with(READ, CQL_VIEW).await?;
    ensure!(read >= SALES as f64, "{read} of {SALES} events were read");
    drop_database(deployment).await?;
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

/// The tables of the CQL store are older than the log. A row or a checkpoint of the lost log would hide new sales.
pub async fn only_the_sales_of_a_new_log_are_in_a_cql_store_that_is_older_than_the_log(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    node.kill().await?;
    drop_database(deployment).await?;
    delete_topics(deployment).await?;
    std::fs::remove_dir_all(deployment.folder.join(STATE))?;

    let _node = node_with_sales(deployment, "after").await?;
    let mut expected: Vec<String> = (0..SALES).map(|number| format!("after {number}")).collect();
    expected.sort();
    for table in ["orders_by_customer_v2_b1", "order_timeline_v1_b1"] {
        let invoices = invoices(deployment, table).await?;
        expect_eq(table, &invoices, &expected)?;
    }
    Ok(())
}

async fn drop_database(deployment: &Deployment) -> Result<()> {
    let environment = &deployment.environment;
    let server = PgPool::connect(&environment.postgres_database("postgres")).await?;
    let name = deployment.postgres_name();
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)")))
        .execute(&server)
        .await?;
    server.close().await;
    Ok(())
}

/// Deletes every topic; returns once all are gone from the brokers.
async fn delete_topics(deployment: &Deployment) -> Result<()> {
    let admin = deployment.admin()?;
    let names = TOPICS.map(|topic| topic.name);
    admin.delete(&names).await?;
    for name in names {
        until("the topic to be gone", DELETION_TIMEOUT, async || {
            let exists = admin.exists(name).await?;
            Ok(Poll::of(!exists, || format!("{name} exists")))
        })
        .await?;
    }
    Ok(())
}

/// The invoices in a table of the CQL store, in their order as texts.
async fn invoices(deployment: &Deployment, table: &str) -> Result<Vec<String>> {
    let session = deployment.cql_session().await?;
    let select = format!("SELECT invoice FROM {}.{table}", deployment.keyspace());
    let rows = session.query_iter(select, ()).await?;
    let rows: Vec<(String,)> = rows.rows_stream::<(String,)>()?.try_collect().await?;
    let mut invoices: Vec<String> = rows.into_iter().map(|(invoice,)| invoice).collect();
    invoices.sort();
    Ok(invoices)
}
