//! The decisions of operators about parked aggregates are recorded for good.

use crate::view_builds::views;
use anyhow::{Result, ensure};
use sqlx::PgPool;
use system_tests::{Deployment, expect_eq, product::create_product};

/// The view whose table refuses one product.
const VIEW: &str = "catalog_v1";
/// The product's key.
const KEY: &str = "product_REFUSED";

pub async fn the_decisions_about_a_parked_product_are_listed_also_after_a_retry_and_a_reset(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    node.caught_up().await?;
    let pool = deployment.postgres().await?;
    alter(&pool, "ADD CONSTRAINT poison CHECK (sku <> 'REFUSED')").await?;
    create_product(node.client(), "REFUSED").await?;
    node.caught_up().await?;

    let reason = "not for sale";
    let discard = [
        "discard",
        VIEW,
        KEY,
        "--reason",
        reason,
        "--by",
        "the first",
    ];
    views(deployment, &discard).await?;
    let retry = ["retry", VIEW, KEY, "--by", "the second"];
    let refused = deployment.run(&[&["views"][..], &retry].concat()).await?;
    expect_eq("the exit code", &refused.code, &1)?;
    alter(&pool, "DROP CONSTRAINT poison").await?;
    pool.close().await;
    views(deployment, &retry).await?;
    let parked = views(deployment, &["parked"]).await?;
    expect_eq("the list", &parked.trim(), &"no aggregate is parked")?;

    let recorded = views(deployment, &["decisions"]).await?;
    let first_lines = recorded.lines().filter(|line| !line.starts_with(' '));
    let decisions: Vec<String> = first_lines.map(str::to_owned).collect();
    let expected = ["RETRY", "RETRY", "DISCARD"].map(|decision| format!("{decision} {KEY}"));
    expect_eq("the decisions", &decisions, &expected.to_vec())?;
    for part in [
        format!("  reason   {reason}"),
        format!("  view     {VIEW} build 1"),
        "  waiting  1 commits with 1 events, journal.catalog/".to_owned(),
        " by the first\n".to_owned(),
        " by the second\n".to_owned(),
    ] {
        ensure!(recorded.contains(&part), "no {part:?} in: {recorded}");
    }
    views(deployment, &["reset", VIEW]).await?;
    node.ready().await?;
    let after_reset = views(deployment, &["decisions", VIEW, KEY]).await?;
    expect_eq("the decisions after a reset", &after_reset, &recorded)
}

/// Alters the table of products of the first build.
async fn alter(pool: &PgPool, change: &str) -> Result<()> {
    let statement = format!("ALTER TABLE catalog_v1_b1 {change}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(pool)
        .await?;
    Ok(())
}
