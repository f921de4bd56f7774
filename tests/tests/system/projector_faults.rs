//! Faults of a projector: kills, lost connections to Postgres, and suspensions. After faults during an import, every
//! view has the cells of the file, and a build that is projected without a fault has the same rows.

use crate::{
    FULL,
    cells::{Cells, Views},
    event_counts::each_event_counts_once,
    import::check_sources,
    importer::{Importer, shortened},
    projectors::{ORDERS, node_and_two_projectors, opened},
};
use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use projections::{versions::Versions, views::VIEWS};
use schemas::context;
use sqlx::PgPool;
use std::{net::SocketAddr, path::Path, time::Duration};
use system_tests::{
    Deployment, Expectation, Node, Poll, environment::online_retail, free_address::free_address,
    sale::sell, totals_by_source, until,
};
use tokio::time::{Instant, sleep_until};

/// Kills during one import of the shortened file.
const KILLS: usize = 5;
/// Kills during one import of the whole file, which takes `./dev test --full`.
const KILLS_FULL: usize = 50;
/// The variable with the seed of the random points. Each run draws a new seed by default; a failure prints its seed.
const SEED: &str = "DEV_TEST_SEED";
/// Longest time until a projector has opened partitions, or applies events.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time from one point of the import to the next one.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time from the last point of the import until its end.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(240);
/// Time for which a projector is suspended. It is longer than the projector's session in the group, and than the time
/// after which Postgres ends its transaction.
const SUSPENDED_TIME: Duration = Duration::from_secs(30);
/// Longest time until another projector has applied the remaining events of a suspended one.
const MOVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time until a projector that was suspended has noticed that others have applied its events.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(60);
/// The views that are also rebuilt and compared: one in each database. `./dev test --full` rebuilds every view.
const REBUILT: [&str; 2] = ["customers_v1", "order_timeline_v1"];

pub async fn a_projector_killed_at_random_points_of_an_import_leaves_every_view_right(
    deployment: &Deployment,
) -> Result<()> {
    let (file, kills) = match std::env::var_os(FULL).is_some() {
        true => (online_retail(), KILLS_FULL),
        false => (shortened(deployment)?, KILLS),
    };
    with_seed(|random| kill_during_import(deployment, &file, kills, random)).await
}

async fn kill_during_import(
    deployment: &Deployment,
    file: &Path,
    kills: usize,
    mut random: Rng,
) -> Result<()> {
    let expectation = Expectation::of(file).await?;
    let mut points: Vec<i64> = (0..kills)
        .map(|_| random.i64(1..commands(&expectation)))
        .collect();
    points.sort_unstable();
    // The restarted projector has the same address, and so the same name in the group.
    let address = free_address()?;
    let (mut node, mut projector) = node_and_projector(deployment, address).await?;

    let importer = Importer::begin(deployment, file)?;
    for (number, point) in points.iter().enumerate() {
        let killed = async {
            node.answered(*point as f64, ANSWERS_TIMEOUT).await?;
            projector.kill().await?;
            // Otherwise the import would end long before the last kill.
            importer.suspend().await?;
            projector = deployment.projector_at(address).await?;
            // Without this wait, the next kill may hit the projector while it starts.
            if random.bool() {
                has_opened_partitions(&projector).await?;
            }
            importer.resume().await
        };
        let context = || format!("kill {} of {kills}, after {point} commands", number + 1);
        killed.await.with_context(context)?;
    }
    end_import(importer).await?;
    check_views(deployment, &mut node, file, &expectation).await?;
    projector.ready().await
}

pub async fn terminated_transactions_of_a_projector_leave_every_view_right(
    deployment: &Deployment,
) -> Result<()> {
    with_seed(|random| terminate_during_import(deployment, random)).await
}

async fn terminate_during_import(deployment: &Deployment, mut random: Rng) -> Result<()> {
    let file = shortened(deployment)?;
    let expectation = Expectation::of(&file).await?;
    let (mut node, mut projector) = node_and_projector(deployment, free_address()?).await?;

    let pool = deployment.postgres().await?;
    let mut importer = Importer::begin(deployment, &file)?;
    let mut terminated = 0;
    until("the end of the import", IMPORT_TIMEOUT, async || {
        // Without pauses the projector might not commit before the import has ended.
        if random.bool() {
            terminated += terminate_writers(&pool).await?;
        }
        let has_ended = importer.has_ended()?;
        Ok(Poll::of(has_ended, || {
            format!("{terminated} transactions were terminated")
        }))
    })
    .await?;
    pool.close().await;
    end_import(importer).await?;
    ensure!(
        terminated > 0,
        "{terminated} transactions were terminated, instead of 1 or more"
    );
    println!("{terminated} transactions were terminated");
    check_views(deployment, &mut node, &file, &expectation).await?;
    projector.ready().await
}

/// Terminates the sessions that have written in an open transaction. Only projectors write. Returns their number.
async fn terminate_writers(pool: &PgPool) -> Result<usize> {
    // The call is not a part of the condition, because it might then be made for sessions of other databases.
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'daybook' AND backend_xid IS NOT NULL";
    let terminated: Vec<bool> = sqlx::query_scalar(terminate).fetch_all(pool).await?;
    Ok(terminated.into_iter().filter(|is_done| *is_done).count())
}

/// The suspended projector still believes that it has its partitions when it resumes.
pub async fn a_projector_suspended_past_its_session_applies_no_event_that_another_has_applied(
    deployment: &Deployment,
) -> Result<()> {
    with_seed(|random| suspend_during_import(deployment, random)).await
}

async fn suspend_during_import(deployment: &Deployment, mut random: Rng) -> Result<()> {
    let file = shortened(deployment)?;
    let expectation = Expectation::of(&file).await?;
    let (mut node, [first, second]) = node_and_two_projectors(deployment).await?;
    // The group divides the partitions of all journals together, so one projector may have all partitions of a journal.
    let (mut suspended, mut successor) = match opened(&second, ORDERS).await? {
        0 => (first, second),
        _ => (second, first),
    };
    // The point is in the first half of the invoices, which are sent after all other commands.
    let invoices = expectation.totals.invoices;
    let point = commands(&expectation) - random.i64(invoices / 2..invoices);
    let importer = Importer::begin(deployment, &file)?;
    node.answered(point as f64, ANSWERS_TIMEOUT).await?;
    let stale_before = stale(&suspended).await?;
    suspended.signal("STOP").await?;
    let resumed_at = Instant::now() + SUSPENDED_TIME;
    end_import(importer).await?;
    // A transaction of the suspended projector may hold locks until Postgres ends it.
    node.caught_up().await?;
    sleep_until(resumed_at).await;
    suspended.signal("CONT").await?;
    until("events that are stale", NOTICE_TIMEOUT, async || {
        let stale = stale(&suspended).await?;
        Ok(Poll::of(stale > stale_before, || format!("{stale} events")))
    })
    .await?;
    check_applied(&suspended, &successor, &expectation).await?;
    check_views(deployment, &mut node, &file, &expectation).await?;
    for projector in [&suspended, &successor] {
        each_event_counts_once(projector).await?;
    }
    suspended.ready().await?;
    successor.ready().await
}

/// The transaction of a suspended process keeps its locks until the server ends the transaction.
pub async fn a_projector_suspended_within_a_transaction_does_not_hold_up_its_successor(
    deployment: &Deployment,
) -> Result<()> {
    let (mut node, mut suspended) = node_and_projector(deployment, free_address()?).await?;
    let mut sales = sell(&node, "before").await?;
    node.caught_up().await?;

    // The projector has moved its checkpoint when it waits for this lock.
    let pool = deployment.postgres().await?;
    let mut transaction = pool.begin().await?;
    sqlx::query("LOCK TABLE orders_v3_lines_b1 IN EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    sales += sell(&node, "during").await?;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND wait_event_type = 'Lock' AND backend_xid IS NOT NULL";
    until("a transaction that waits", OPEN_TIMEOUT, async || {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&pool).await?;
        Ok(Poll::of(waiting > 0, || format!("{waiting} transactions")))
    })
    .await?;
    suspended.signal("STOP").await?;
    transaction.rollback().await?;
    pool.close().await;

    let mut successor = deployment.projector_at(free_address()?).await?;
    has_sales(deployment, sales).await?;
    suspended.signal("CONT").await?;
    sales += sell(&node, "after").await?;
    has_sales(deployment, sales).await?;
    node.caught_up().await?;
    suspended.ready().await?;
    successor.ready().await
}

/// Waits until the view in Postgres has all sales.
async fn has_sales(deployment: &Deployment, sales: usize) -> Result<()> {
    let expected = i64::try_from(sales)?;
    until("every sale in Postgres", MOVE_TIMEOUT, async || {
        let totals = totals_by_source::of_postgres(deployment).await;
        let has_all = totals.as_ref().is_ok_and(|found| found.sales == expected);
        Ok(Poll::of(has_all, || format!("{totals:?} of {sales}")))
    })
    .await
}

/// Two projectors together have applied no event twice, if each view has one build.
async fn check_applied(first: &Node, second: &Node, expectation: &Expectation) -> Result<()> {
    for view in VIEWS {
        let name = view.name;
        let (one, other) = (applied(first, name).await?, applied(second, name).await?);
        let mut events = 0;
        for topic in view.topics {
            events += events_in(topic, expectation)?;
        }
        // Neither projector counts an event whose commit was not confirmed.
        ensure!(
            one + other <= events as f64,
            "{name}: {one} + {other} events were applied, of {events}"
        );
    }
    Ok(())
}

/// The number of events that an import appends to a journal.
pub fn events_in(topic: &str, expectation: &Expectation) -> Result<i64> {
    if topic == context::ORDERS.topic {
        Ok(expectation.totals.invoices)
    } else if topic == context::CATALOG.topic {
        Ok(expectation.products + expectation.priced_products)
    } else {
        bail!("the events of an import in {topic} are not counted")
    }
}

/// The number of events that a projector has applied to a view.
async fn applied(projector: &Node, view: &str) -> Result<f64> {
    let client = projector.client();
    let label = format!("view=\"{view}\"");
    client
        .metric_with("daybook_projections_events_applied_total", &label)
        .await
}

/// The number of events that a projector has read and not applied.
async fn stale(projector: &Node) -> Result<f64> {
    let client = projector.client();
    client
        .metric("daybook_projections_events_stale_total")
        .await
}

/// Runs a test with random points. A failure names the seed.
pub async fn with_seed<Running: Future<Output = Result<()>>>(
    test: impl FnOnce(Rng) -> Running,
) -> Result<()> {
    let seed: u64 = match std::env::var(SEED) {
        Ok(seed) => seed.parse().with_context(|| format!("{SEED}={seed}"))?,
        Err(_) => fastrand::u64(..),
    };
    let running = test(Rng::with_seed(seed));
    running.await.with_context(|| format!("{SEED}={seed}"))
}

/// A node without projectors, and a projector that has opened partitions.
async fn node_and_projector(deployment: &Deployment, address: SocketAddr) -> Result<(Node, Node)> {
    let mut node = deployment.serve_without_projectors().await?;
    let projector = deployment.projector_at(address).await?;
    node.ready().await?;
    has_opened_partitions(&projector).await?;
    Ok((node, projector))
}

/// Commands that an import sends.
pub fn commands(expectation: &Expectation) -> i64 {
    expectation.products + expectation.priced_products + expectation.totals.invoices
}

async fn has_opened_partitions(projector: &Node) -> Result<()> {
    until("partitions of orders", OPEN_TIMEOUT, async || {
        let count = opened(projector, ORDERS).await?;
        Ok(Poll::of(count > 0, || format!("{count} partitions")))
    })
    .await
    .with_context(|| projector.log_tail())
}

pub async fn end_import(importer: Importer) -> Result<()> {
    let (status, error) = importer.end(IMPORT_TIMEOUT).await?;
    ensure!(
        status.success(),
        "the import ended with {status} instead of 0: {error}"
    );
    Ok(())
}

/// Checks that every view has the cells of the file, and that a build that is projected now has the same rows as the
/// serving build.
pub async fn check_views(
    deployment: &Deployment,
    node: &mut Node,
    file: &Path,
    expectation: &Expectation,
) -> Result<()> {
    node.caught_up().await?;
    check_sources(deployment, expectation).await?;
    let cells = Cells::of(file).await?;
    let views = Views { deployment, node };
    views.check_all(&cells).await?;
    expect_output(deployment, &["views", "parked"], "no aggregate is parked").await?;
    let rebuilt: Vec<&str> = match std::env::var_os(FULL).is_some() {
        true => {
            let views = Versions::of_all(VIEWS);
            views.iter().map(|view| view.newest().name).collect()
        }
        false => REBUILT.to_vec(),
    };
    for view in rebuilt {
        deployment
            .run_successfully(&["views", "rebuild", view])
            .await?;
        expect_output(deployment, &["views", "diff", view], "; 0 rows differ").await?;
    }
    Ok(())
}

/// Runs a subcommand, whose output must have a text.
async fn expect_output(deployment: &Deployment, arguments: &[&str], text: &str) -> Result<()> {
    let output = deployment.run_successfully(arguments).await?.stdout;
    ensure!(
        output.contains(text),
        "daybook {arguments:?}: no {text:?} in:\n{output}"
    );
    Ok(())
}
