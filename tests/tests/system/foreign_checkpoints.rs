//! A view whose stored checkpoint does not fit the log: the record that the checkpoint names has another hash.

use anyhow::{Result, ensure};
use std::time::Duration;
use system_tests::{
    Deployment, Node, Poll, expect_eq,
    node::READY_TIMEOUT,
    sale::{SALES, node_with_sales, sell},
    totals_by_source, until,
};

const VIEW: &str = "orders_v3";
/// The view's component in the readiness.
const COMPONENT: &str = "view.orders_v3";
/// The beginning of the reason that readiness must give.
const REASON: &str = "another log: journal.orders/";
/// The metric of an alerting rule.
const REFUSED: &str = "daybook_projections_checkpoints_refused_total";
/// Longest time until the other views have every sale.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn a_view_with_a_checkpoint_of_another_log_applies_nothing_until_it_is_reset(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    node.kill().await?;
    alter_checkpoints(deployment).await?;

    let mut node = deployment.serve_unready().await?;
    only_the_view_is_refused(&node).await?;
    sell(&node, "after").await?;
    let all = i64::try_from(2 * SALES)?;
    until("every sale in CQL", PROJECTION_TIMEOUT, async || {
        let sales = totals_by_source::of_cql(deployment).await?.sales;
        Ok(Poll::of(sales == all, || format!("{sales} of {all}")))
    })
    .await?;
    only_the_view_is_refused(&node).await?;
    let totals = totals_by_source::of_postgres(deployment).await?;
    let before = i64::try_from(SALES)?;
    expect_eq("sales of the refused view", &totals.sales, &before)?;
    let refused = node.client().metric_with(REFUSED, VIEW).await?;
    ensure!(
        refused > 0.0,
        "{refused} refused checkpoints instead of 1 or more"
    );

    deployment
        .run_successfully(&["views", "reset", VIEW])
        .await?;
    node.ready().await?;
    node.caught_up().await?;
    let totals = totals_by_source::of_postgres(deployment).await?;
    expect_eq("sales of the view after its reset", &totals.sales, &all)
}

/// Gives every checkpoint of the view another hash, as if it had been taken from another log.
async fn alter_checkpoints(deployment: &Deployment) -> Result<()> {
    let pool = deployment.postgres().await?;
    let alter = "UPDATE view_build_checkpoints SET checkpoint = \
        jsonb_set(checkpoint, '{hash}', to_jsonb(reverse(checkpoint->>'hash'))) \
        WHERE view_name = $1 AND checkpoint->>'probe_offset' IS NOT NULL RETURNING partition";
    let altered = sqlx::query_scalar(alter).bind(VIEW);
    let altered: Vec<i32> = altered.fetch_all(&pool).await?;
    let stored = "SELECT partition FROM view_build_checkpoints WHERE view_name = $1";
    let stored = sqlx::query_scalar(stored).bind(VIEW);
    let stored: Vec<i32> = stored.fetch_all(&pool).await?;
    pool.close().await;
    // Otherwise the view would continue in some partitions.
    ensure!(
        !altered.is_empty() && altered.len() == stored.len(),
        "the checkpoints of partitions {altered:?} of {stored:?} name a record"
    );
    Ok(())
}

/// Waits until the view is the only component that is not ready, and has the reason.
async fn only_the_view_is_refused(node: &Node) -> Result<()> {
    until("the reason in readiness", READY_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?.json()?;
        let mut components = ready["components"].as_object().into_iter().flatten();
        let is_only_one = components.all(|(name, state)| (name == COMPONENT) == (state != "ready"));
        let reason = ready["components"][COMPONENT].as_str();
        let is_named = reason.is_some_and(|reason| reason.starts_with(REASON));
        Ok(Poll::of(is_only_one && is_named, || ready.to_string()))
    })
    .await
}
