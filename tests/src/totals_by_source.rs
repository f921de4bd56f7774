//! The totals of every source that holds the imported data. Each source is read by separate code, which
//! shares nothing with `daybook reconcile`.

use crate::{
    audit_log,
    deployment::Deployment,
    expectation::{Group, Totals, Windows},
    poll::{Poll, until},
};
use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use kafka::{BoundedReader, Decoder};
use schemas::{aggregates::RevenueByCountry, topics::TopicSpec};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

/// Longest wait for an aggregate topic to be read to its end.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The totals in the report of an importer; the file must be in one currency.
pub fn of_report(report: &Value) -> Result<Totals> {
    let by_currency: BTreeMap<String, Totals> = serde_json::from_value(report["totals"].clone())?;
    let only = by_currency.values().next().copied();
    ensure!(
        by_currency.len() == 1,
        "{} currencies instead of 1: {by_currency:?}",
        by_currency.len()
    );
    only.context("no totals")
}

/// The totals of the journal of orders. Each invoice and each command must be there once, and a total must
/// be the sum of its lines.
pub async fn of_journal(deployment: &Deployment) -> Result<Totals> {
    let mut totals = Totals::default();
    let (mut invoices, mut commands) = (HashSet::new(), HashSet::new());
    audit_log::read(deployment, &["--context", "orders"], |decision| {
        let position = decision.position();
        ensure!(
            commands.insert(decision.command_id),
            "{position}: this command was decided before"
        );
        for event in decision.events {
            let invoice = event.invoice.with_context(|| position.clone())?;
            ensure!(
                invoices.insert(invoice),
                "{position}: this invoice is in the journal twice"
            );
            match event.name.as_str() {
                "SaleImported" => totals.sales += 1,
                "CreditNoteIssued" => totals.credit_notes += 1,
                other => anyhow::bail!("{position}: unknown event {other}"),
            }
            let sum: i64 = event.lines.iter().map(|line| line.amount).sum();
            ensure!(
                event.total == Some(sum),
                "{position}: the total is {:?}, but the lines add up to {sum}",
                event.total
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

/// The number of created products and the number of price changes in the journal of the catalog.
pub async fn products_in_journal(deployment: &Deployment) -> Result<(i64, i64)> {
    let (mut created, mut price_changes) = (0, 0);
    audit_log::read(deployment, &["--context", "catalog"], |decision| {
        for event in &decision.events {
            match event.name.as_str() {
                "ProductCreated" => created += 1,
                "ProductPriceChanged" => price_changes += 1,
                other => anyhow::bail!("{}: unknown event {other}", decision.position()),
            }
        }
        Ok(())
    })
    .await?;
    Ok((created, price_changes))
}

/// The totals of the view in Postgres, from its orders; its lines must have the same totals.
pub async fn of_postgres(deployment: &Deployment) -> Result<Totals> {
    let pool = deployment.postgres().await?;
    let build = serving_build("orders_v3", &pool).await?;
    let (invoices, sales, credit_notes, lines, total_minor): (i64, i64, i64, i64, i64) =
        sqlx::query_as(AssertSqlSafe(format!(
            "SELECT count(*), count(*) FILTER (WHERE kind = 'SALE'), \
                 count(*) FILTER (WHERE kind = 'CREDIT_NOTE'), \
                 coalesce(sum(line_count), 0)::bigint, coalesce(sum(total), 0)::bigint \
             FROM orders_v3_b{build}"
        )))
        .fetch_one(&pool)
        .await?;
    let (lines_found, lines_total): (i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT count(*), coalesce(sum(amount), 0)::bigint FROM orders_v3_lines_b{build}"
    )))
    .fetch_one(&pool)
    .await?;
    pool.close().await;
    ensure!(
        (lines_found, lines_total) == (lines, total_minor),
        "orders_v3: {lines} lines, total {total_minor}; orders_v3_lines: {lines_found} lines, total \
         {lines_total}"
    );
    Ok(Totals {
        invoices,
        sales,
        credit_notes,
        lines,
        total_minor,
    })
}

/// The number of the view's build that answers queries.
pub async fn serving_build(view: &str, pool: &PgPool) -> Result<i32> {
    let find = "SELECT build FROM view_builds WHERE view_name = $1 AND state = 'SERVING'";
    let query = sqlx::query_scalar(find).bind(view);
    Ok(query.fetch_one(pool).await?)
}

/// The totals of the view in the CQL store.
pub async fn of_cql(deployment: &Deployment) -> Result<Totals> {
    let pool = deployment.postgres().await?;
    let build = serving_build("orders_by_customer_v2", &pool).await?;
    pool.close().await;
    let session = deployment.cql_session().await?;
    let table = format!("{}.orders_by_customer_v2_b{build}", deployment.keyspace());
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
            other => anyhow::bail!("{id}: unknown kind {other}"),
        }
        ensure!(ids.insert(id.clone()), "{id} is in two partitions");
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
    /// Reads the topic from its beginning to its current end. A window only grows, so no later record of it may have
    /// fewer lines; a job that publishes before it has caught up would write such a record.
    pub async fn read(deployment: &Deployment, topic: &TopicSpec) -> Result<Self> {
        let decoder = Decoder::new(deployment.registry()?);
        let (kafka, admin) = (deployment.kafka(), deployment.admin()?);
        let mut reader = BoundedReader::open(&kafka, &admin, "system-tests", topic.name).await?;
        let mut aggregates = Self::default();
        until(topic.name, READ_TIMEOUT, async || {
            while let Some(records) = reader.next().await? {
                for record in records {
                    let value = record.value.context("a record without a value")?;
                    let value: RevenueByCountry = decoder.decode(&value).await?;
                    let key = String::from_utf8(record.key.unwrap_or_default().to_vec())?;
                    let (lines, offset) = (value.lines, record.offset);
                    let before = aggregates.latest.insert(key.clone(), value);
                    ensure!(
                        before.as_ref().is_none_or(|before| before.lines <= lines),
                        "{} at offset {offset}: {key} has {lines} lines after {:?}",
                        topic.name,
                        before.map(|before| before.lines)
                    );
                }
            }
            Ok(Poll::Ready(()))
        })
        .await?;
        Ok(aggregates)
    }

    /// The sum over all keys.
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

    /// Groups by window and country.
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

/// Compares windows; the error has the first difference only, because whole maps are long.
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
