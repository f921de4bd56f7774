//! An order that a view's fold refuses, and a retry with the corrected fold. A copy of the source tree has the fold
//! with the fault. Its build takes minutes, so only `./dev test --full` runs this.

use crate::{
    cells::{Cells, Views},
    importer::Importer,
    parked_events::VIEW,
    view_builds::views,
};
use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, time::Duration};
use system_tests::{
    Deployment, Node, Poll,
    environment::online_retail,
    expect_eq,
    generated_tree::{Build, Copy},
    until,
};

/// Number of invoices in the file.
const INVOICES: usize = 25_900;
/// The folder of the other build that only `--full` makes, because it has compiled libraries. The test of that build
/// has ended.
const BUILD: &str = "many_contexts";
/// The expression in the view's fold in place of which the copy has a fault.
const LINE_COUNT: &str = "sale.lines.len()";
/// A part of the fold's error.
const REASON: &str = "more than a row can count";
/// Longest time for the import at a node whose code is not optimised.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(900);
/// Longest time from the end of the import until its events are applied.
const APPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest time for a node to shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// An order of the import has one event, so the order of a key's events is a matter of other tests.
pub async fn an_order_that_a_fold_refuses_is_applied_by_a_retry_with_the_corrected_fold(
    deployment: &Deployment,
) -> Result<()> {
    let file = online_retail();
    let cells = Cells::of(&file).await?;
    expect_eq("invoices of the file", &cells.invoices(), &INVOICES)?;
    let invoice = cells.middle_invoice()?;
    let mut faulty = deployment.clone();
    faulty.environment.daybook = binary_that_refuses(invoice).await?;
    let mut node = faulty.serve().await?;
    node.caught_up().await?;
    let importer = Importer::begin(deployment, &file)?;
    let (status, error) = importer.end(IMPORT_TIMEOUT).await?;
    ensure!(
        status.success(),
        "the import ended with {status} instead of 0: {error}"
    );
    has_applied_all(&node).await?;
    only_one_order_is_missing(deployment, &node, &cells, invoice).await?;
    let (status, _) = node.terminate(SHUTDOWN_TIMEOUT).await?;
    ensure!(
        status.success(),
        "{status} instead of 0: {}",
        node.log_tail()
    );

    // Only an operator asks for another attempt.
    let mut node = deployment.serve().await?;
    node.caught_up().await?;
    only_one_order_is_missing(deployment, &node, &cells, invoice).await?;
    views(deployment, &["retry", VIEW]).await?;
    let listed = views(deployment, &["parked"]).await?;
    let nothing = "no aggregate is parked";
    ensure!(listed.contains(nothing), "no {nothing:?} in: {listed}");
    let node = &node;
    Views { deployment, node }.check_all(&cells).await
}

/// Builds a copy of the source tree in which the fold of [`VIEW`] refuses an invoice; returns the path of its binary.
async fn binary_that_refuses(invoice: &str) -> Result<PathBuf> {
    let copy = Copy::new()?;
    let fault = format!("match sale.invoice {{ \"{invoice}\" => usize::MAX, _ => {LINE_COUNT} }}");
    let fold = format!("projections/src/views/{VIEW}/tables.rs");
    copy.replace(&fold, LINE_COUNT, &fault)?;
    Build::of(&copy, BUILD)?.daybook().await
}

/// Waits until every view and job has applied every event.
async fn has_applied_all(node: &Node) -> Result<()> {
    until("every event in every view", APPLY_TIMEOUT, async || {
        let progress = node.client().get_json("/api/v1/admin/progress").await?;
        let is_done = progress["caught_up"] == true;
        Ok(Poll::of(is_done, || progress.to_string()))
    })
    .await
}

/// Checks that [`VIEW`] has every order but one, which is the only parked aggregate, and that every other view has all.
async fn only_one_order_is_missing(
    deployment: &Deployment,
    node: &Node,
    cells: &Cells,
    invoice: &str,
) -> Result<()> {
    let of_node = Views { deployment, node };
    of_node
        .check_orders(&cells.without_invoice(invoice))
        .await?;
    of_node.check_history(cells).await?;
    of_node.check_timelines(cells).await?;
    of_node.check_customers(cells).await?;
    of_node.check_countries(cells).await?;
    of_node.check_catalog(cells).await?;

    let listed = views(deployment, &["parked"]).await?;
    let aggregates = listed.matches("  view ").count();
    ensure!(
        aggregates == 1,
        "{aggregates} parked aggregates instead of 1: {listed}"
    );
    let key = listed.split_whitespace().next().context("no key")?;
    let shown = views(deployment, &["show", VIEW, key]).await?;
    let of_invoice = format!("\"invoice\":\"{invoice}\"");
    for part in ["waiting  1 commits with 1 events", REASON, &of_invoice] {
        ensure!(shown.contains(part), "no {part:?} in: {shown}");
    }
    Ok(())
}
