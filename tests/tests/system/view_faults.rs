//! Faults of a view's database: readiness names each fault, and the view continues by itself once the fault is
//! removed.

use crate::void_records::sell;
use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgPool};
use std::time::Duration;
use system_tests::{Deployment, Node, Poll, totals_by_source, until};

/// Longest time until readiness names a fault.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn a_fault_of_the_database_is_named_and_the_view_continues_once_it_is_removed(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    let mut sales = sell(&node, "before").await?;
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    let database: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&pool)
        .await?;
    // Sessions keep the setting with which they began.
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let read_only = |value: &str| {
        format!("ALTER DATABASE {database} SET default_transaction_read_only = {value}")
    };
    let rename =
        |from: &str, to: &str| format!("ALTER TABLE orders_v2_b1 RENAME COLUMN {from} TO {to}");
    for (name, breaks, repairs, reason) in [
        (
            "an altered table",
            vec![rename("country", "land")],
            vec![rename("land", "country")],
            "country",
        ),
        (
            "a read-only database",
            vec![read_only("on"), end_sessions.to_owned()],
            vec![read_only("off")],
            "read-only",
        ),
    ] {
        run_all(&pool, &breaks).await?;
        sales += sell(&node, name).await?;
        is_named(&node, reason).await?;
        run_all(&pool, &repairs).await?;
        node.ready().await?;
        node.caught_up().await?;
        let totals = totals_by_source::of_postgres(deployment).await?;
        ensure!(
            totals.sales == i64::try_from(sales)?,
            "{name}: {totals:?} instead of {sales} sales"
        );
        let parked = deployment.run_successfully(&["views", "parked"]).await?;
        ensure!(
            parked.stdout.contains("no aggregate is parked"),
            "{name}: no \"no aggregate is parked\" in: {}",
            parked.stdout
        );
    }
    pool.close().await;
    Ok(())
}

/// Runs statements in a session that may write.
async fn run_all(pool: &PgPool, statements: &[String]) -> Result<()> {
    let mut connection = pool.acquire().await?;
    sqlx::raw_sql("SET default_transaction_read_only = off")
        .execute(&mut *connection)
        .await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Waits until the view's component in the readiness contains the reason.
async fn is_named(node: &Node, reason: &str) -> Result<()> {
    until("the reason in readiness", REPORT_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?;
        let found = ready.json()?["components"]["view.orders_v2"].clone();
        let is_named = found.as_str().is_some_and(|text| text.contains(reason));
        Ok(Poll::of(is_named, || found.to_string()))
    })
    .await
}
