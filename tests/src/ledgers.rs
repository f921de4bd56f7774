//! Every place that must add up to the same, each read by code of its own: nothing here calls what
//! `daybook reconcile` calls.

use crate::{
    audit_log,
    expectation::{Group, Totals, Windows},
    wait::{Look, until},
    world::World,
};
use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use kafka::{BatchConsumer, Decoder, Registry};
use schemas::{aggregates::RevenueByCountry, topics::TopicSpec};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::Duration,
};

/// Longest wait for an aggregate topic to be read to its end.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What the importer counted in the file.
pub fn of_report(path: &Path) -> Result<(Totals, Value)> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok((serde_json::from_str(&text)?, serde_json::from_str(&text)?))
}

/// What the journal of orders holds. Each invoice and each command must be there once, and a total
/// must be the sum of its lines.
pub async fn of_journal(world: &World) -> Result<Totals> {
    let mut totals = Totals::default();
    let (mut invoices, mut commands) = (HashSet::new(), HashSet::new());
    audit_log::read(world, &["--context", "orders"], |decision| {
        let position = decision.position();
        ensure!(
            commands.insert(decision.command_id),
            "{position}: a command twice"
        );
        for event in decision.events {
            let invoice = event.invoice.with_context(|| position.clone())?;
            ensure!(invoices.insert(invoice), "{position}: an invoice twice");
            match event.name.as_str() {
                "SaleImported" => totals.sales += 1,
                "CreditNoteIssued" => totals.credit_notes += 1,
                other => anyhow::bail!("{position}: what is a {other}?"),
            }
            let sum: i64 = event.lines.iter().map(|line| line.amount).sum();
            ensure!(
                event.total == Some(sum),
                "{position}: the lines add up to {sum}"
            );
            totals.invoices += 1;
            totals.lines += i64::try_from(event.lines.len())?;
            totals.total_minor += sum;
        }
        Ok(())
    })
    .await?;
    Ok(totals)
}

/// Products that the journal of the catalog has created.
pub async fn products_in_journal(world: &World) -> Result<i64> {
    let mut count = 0;
    audit_log::read(world, &["--context", "catalog"], |decision| {
        count += i64::try_from(decision.events.len())?;
        Ok(())
    })
    .await?;
    Ok(count)
}

/// What the view in Postgres holds, in its orders and again in its lines.
pub async fn of_postgres(world: &World) -> Result<Totals> {
    let pool = world.postgres().await?;
    let (invoices, sales, credit_notes, lines, total_minor): (i64, i64, i64, i64, i64) =
        sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE kind = 'SALE'), \
                 count(*) FILTER (WHERE kind = 'CREDIT_NOTE'), \
                 coalesce(sum(line_count), 0)::bigint, coalesce(sum(total), 0)::bigint \
             FROM orders_v1",
        )
        .fetch_one(&pool)
        .await?;
    let (lines_found, lines_total): (i64, i64) =
        sqlx::query_as("SELECT count(*), coalesce(sum(amount), 0)::bigint FROM orders_v1_lines")
            .fetch_one(&pool)
            .await?;
    pool.close().await;
    ensure!(
        (lines_found, lines_total) == (lines, total_minor),
        "orders_v1 speaks of {lines} lines and {total_minor}, orders_v1_lines has {lines_found} \
         lines that add up to {lines_total}"
    );
    Ok(Totals {
        invoices,
        sales,
        credit_notes,
        lines,
        total_minor,
    })
}

/// What the view in the CQL store holds.
pub async fn of_cql(world: &World) -> Result<Totals> {
    let session = world.cql_session().await?;
    let table = format!("{}.orders_by_customer_v1", world.keyspace());
    let rows = session
        .query_iter(
            format!("SELECT order_id, kind, line_count, total FROM {table}"),
            (),
        )
        .await?;
    let mut rows = rows.rows_stream::<(String, String, i32, i64)>()?;
    let (mut totals, mut ids) = (Totals::default(), HashSet::new());
    while let Some((id, kind, line_count, total)) = rows.try_next().await? {
        match kind.as_str() {
            "SALE" => totals.sales += 1,
            "CREDIT_NOTE" => totals.credit_notes += 1,
            other => anyhow::bail!("{id}: what is a {other}?"),
        }
        ensure!(ids.insert(id.clone()), "{id} stands in two partitions");
        totals.invoices += 1;
        totals.lines += i64::from(line_count);
        totals.total_minor += total;
    }
    Ok(totals)
}

/// The last value per key of an aggregate topic.
#[derive(Debug, Clone, Default)]
pub struct Aggregates {
    /// By key.
    latest: BTreeMap<String, RevenueByCountry>,
}

impl Aggregates {
    /// Reads the topic from its beginning to its end as of now. A window only ever grows, so none may
    /// be published with less in it than before, as one that was only half read again would be.
    pub async fn read(world: &World, topic: &TopicSpec) -> Result<Self> {
        let (mut starts, mut ends) = (Vec::new(), BTreeMap::new());
        let admin = world.admin()?;
        for partition in 0..topic.partitions {
            let marks = admin.watermarks(topic.name, partition).await?;
            if marks.low < marks.high {
                starts.push((partition, marks.low));
                ends.insert(partition, marks.high);
            }
        }
        let decoder = Decoder::new(Registry::new(&world.registry())?);
        let mut consumer =
            BatchConsumer::start(&world.kafka(), "system-tests", topic.name, &starts)?;
        let mut aggregates = Self::default();
        until(topic.name, READ_TIMEOUT, async || {
            while !ends.is_empty() {
                for record in consumer.next().await? {
                    let value = record.value.context("a record without a value")?;
                    let value: RevenueByCountry = decoder.decode(&value).await?;
                    let key = String::from_utf8(record.key.unwrap_or_default().to_vec())?;
                    let (lines, place) = (value.lines, record.offset);
                    let before = aggregates.latest.insert(key.clone(), value);
                    ensure!(
                        before.is_none_or(|before| before.lines <= lines),
                        "{}, {key}: at offset {place} it has less in it than before",
                        topic.name
                    );
                    if ends
                        .get(&record.partition)
                        .is_some_and(|end| record.offset + 1 >= *end)
                    {
                        ends.remove(&record.partition);
                    }
                }
            }
            Ok(Look::Done(()))
        })
        .await?;
        Ok(aggregates)
    }

    /// What they add up to.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for value in self.latest.values() {
            totals.invoices += value.orders + value.credit_notes;
            totals.sales += value.orders;
            totals.credit_notes += value.credit_notes;
            totals.lines += value.lines;
            totals.total_minor += value.revenue;
        }
        totals
    }

    /// The same by window and country.
    pub fn windows(&self) -> Windows {
        let mut windows = Windows::new();
        for value in self.latest.values() {
            let group = Group {
                invoices: value.orders + value.credit_notes,
                lines: value.lines,
                total_minor: value.revenue,
            };
            let window = windows.entry(value.window_start.to_string()).or_default();
            window.insert(value.country.clone(), group);
        }
        windows
    }
}

/// Compares windows and names the first that differs, for whole maps would fill screens.
pub fn compare_windows(source: &str, found: &Windows, expected: &Windows) -> Result<()> {
    let starts: HashSet<&String> = found.keys().chain(expected.keys()).collect();
    for start in starts {
        let (found, expected) = (found.get(start), expected.get(start));
        ensure!(
            found == expected,
            "{source}, {start}: {found:?} instead of {expected:?}"
        );
    }
    Ok(())
}
