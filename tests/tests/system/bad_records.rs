//! Records in a journal that are none of ours: counted, and nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use system_tests::{Daybook, Look, World, audit_log, ledgers, until};

const TOPIC: &str = "journal.orders";
/// From the writing of stray records to their being counted.
const COUNT_TIMEOUT: Duration = Duration::from_secs(15);
/// One aggregate's partition gets the stray records, and other sales go to every partition.
const SALES: usize = 40;
const PARTITION: &str = "1";

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_no_commits_are_void_and_stop_nobody() -> Result<()> {
    let world = World::wiped("bad_records").await?;
    let mut daybook = world.serve().await?;
    sell(&daybook, "before").await?;
    let written = write_garbage(&world).await?;
    // The owner, which has read no further than its own commits, finds them in its way.
    sell(&daybook, "after").await?;
    let void = "daybook_journal_void_records_total";
    until("void records to be counted", COUNT_TIMEOUT, async || {
        let counted = daybook.client().metric(void).await?;
        Ok(Look::at(counted >= written, || {
            format!("{counted} of {written}")
        }))
    })
    .await?;
    daybook.ready().await?;
    daybook.caught_up().await?;
    check(&world, 2 * SALES, written).await?;

    let more = write_garbage(&world).await?;
    daybook.kill().await?;
    let mut daybook = world.serve().await?;
    sell(&daybook, "after a restart").await?;
    daybook.caught_up().await?;
    check(&world, 3 * SALES, written + more).await
}

/// Imports sales, which must all be taken, or have been taken before; gives how many.
pub async fn sell(daybook: &Daybook, when: &str) -> Result<usize> {
    let sale = |number: usize| {
        let body = json!({"invoice": format!("{when} {number}"), "country": "EIRE",
            "currency": "GBP", "ordered_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": 1, "unit_price": 1_000_000}]});
        json!({"key": format!("{when}/{number}"), "command": "ImportSale", "body": body})
    };
    let body: String = (0..SALES)
        .map(|number| format!("{}\n", sale(number)))
        .collect();
    let answers = daybook.client().post_lines(body).await?;
    let taken = answers
        .iter()
        .filter(|answer| answer["status"] == 201)
        .count();
    ensure!(
        taken == SALES,
        "{when}: {taken} of {SALES} were taken: {answers:?}"
    );
    Ok(SALES)
}

/// Writes stray records; gives how many.
async fn write_garbage(world: &World) -> Result<f64> {
    let brokers = &world.environment.kafka_brokers;
    let written = world
        .python("garbage.py", &[brokers, TOPIC, PARTITION])
        .await?;
    written.trim().parse().with_context(|| written.clone())
}

/// The journal, both views and the audit must show the sales, and the audit all that is void.
async fn check(world: &World, sales: usize, written: f64) -> Result<()> {
    let sales = i64::try_from(sales)?;
    for (source, totals) in [
        ("journal", ledgers::of_journal(world).await?),
        ("Postgres", ledgers::of_postgres(world).await?),
        ("CQL", ledgers::of_cql(world).await?),
    ] {
        ensure!(
            totals.sales == sales,
            "{source}: {totals:?} instead of {sales} sales"
        );
        ensure!(totals.total_minor == 100 * sales, "{source}: {totals:?}");
    }
    let report = audit_log::verify(world).await?;
    let partitions = report["partitions"].as_array().context("no partitions")?;
    let counts = partitions
        .iter()
        .filter_map(|partition| partition["void"].as_object());
    let void: f64 = counts
        .flat_map(|counts| counts.values())
        .filter_map(Value::as_f64)
        .sum();
    ensure!(
        void >= written,
        "{void} void records, {written} were written: {report:#}"
    );
    Ok(())
}
