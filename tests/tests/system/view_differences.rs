//! `daybook views diff`: the rows that differ between two builds of a view, each explained by its events.

use crate::view_builds::views;
use anyhow::{Context, Result, bail, ensure};
use futures_util::TryStreamExt;
use scylla::client::session::Session;
use sqlx::AssertSqlSafe;
use system_tests::{Deployment, expect_eq, sale::node_with_sales};

/// A view in Postgres.
const ORDERS: &str = "orders_v3";
/// A view in the CQL store.
const HISTORY: &str = "orders_by_customer_v2";
/// The invoices whose rows build 2 has changed and lost, and one whose row it has twice.
const CHANGED: &str = "first 7";
const LOST: &str = "first 8";
const COPIED: &str = "first 9";
/// The order of the copied row, which has no events.
const SURPLUS: &str = "order_surplus";
/// The output for a row that a build does not have.
const NO_ROW: &str = "no row";

pub async fn a_build_of_the_same_events_does_not_differ(deployment: &Deployment) -> Result<()> {
    let _node = node_with_sales(deployment, "first").await?;
    for view in [ORDERS, HISTORY] {
        views(deployment, &["rebuild", view]).await?;
        let compared = views(deployment, &["diff", view]).await?;
        let none = "; 0 rows differ";
        ensure!(compared.contains(none), "no {none:?} in: {compared}");
    }
    Ok(())
}

pub async fn each_difference_in_postgres_is_explained_by_its_events(
    deployment: &Deployment,
) -> Result<()> {
    let _node = node_with_sales(deployment, "first").await?;
    views(deployment, &["rebuild", ORDERS]).await?;
    let altered = alter_orders(deployment).await?;
    altered.is_explained(deployment, ORDERS).await
}

pub async fn each_difference_in_the_cql_store_is_explained_by_its_events(
    deployment: &Deployment,
) -> Result<()> {
    let _node = node_with_sales(deployment, "first").await?;
    views(deployment, &["rebuild", HISTORY]).await?;
    let altered = alter_history(deployment).await?;
    altered.is_explained(deployment, HISTORY).await
}

/// The orders whose rows build 2 has changed and lost. It also has a row of [`SURPLUS`].
struct Altered {
    changed: String,
    lost: String,
}

async fn alter_orders(deployment: &Deployment) -> Result<Altered> {
    let pool = deployment.postgres().await?;
    let table = format!("{ORDERS}_b2");
    let run = async |statement: String| {
        let order = sqlx::query_scalar::<_, String>(AssertSqlSafe(statement));
        order.fetch_one(&pool).await
    };
    let change = format!(
        "UPDATE {table} SET country = 'Nowhere' WHERE invoice = '{CHANGED}' RETURNING order_id"
    );
    let lose = format!("DELETE FROM {table} WHERE invoice = '{LOST}' RETURNING order_id");
    let copy = format!(
        "INSERT INTO {table} \
         SELECT (jsonb_populate_record(copied, '{{\"order_id\": \"{SURPLUS}\"}}')).* \
         FROM {table} AS copied WHERE invoice = '{COPIED}' RETURNING order_id"
    );
    let altered = Altered {
        changed: run(change).await?,
        lost: run(lose).await?,
    };
    run(copy).await?;
    pool.close().await;
    Ok(altered)
}

async fn alter_history(deployment: &Deployment) -> Result<Altered> {
    let session = deployment.cql_session().await?;
    let table = format!("{}.{HISTORY}_b2", deployment.keyspace());
    let of_key = "WHERE customer_id = ? AND ordered_at_us = ? AND order_id = ?";
    let changed = key_of(CHANGED, &table, &session).await?;
    let change = format!("UPDATE {table} SET country = 'Nowhere' {of_key}");
    session.query_unpaged(change, &changed).await?;
    let lost = key_of(LOST, &table, &session).await?;
    let lose = format!("DELETE FROM {table} {of_key}");
    session.query_unpaged(lose, &lost).await?;
    let (customer, ordered_at_us, _) = key_of(COPIED, &table, &session).await?;
    let copy = format!(
        "INSERT INTO {table} (customer_id, ordered_at_us, order_id, kind, invoice, country, currency, \
         total, line_count, version) VALUES (?, ?, ?, 'SALE', '{COPIED}', 'EIRE', 'GBP', 100, 1, 1)"
    );
    let surplus = (customer, ordered_at_us, SURPLUS);
    session.query_unpaged(copy, surplus).await?;
    Ok(Altered {
        changed: changed.2,
        lost: lost.2,
    })
}

/// The key of an invoice's row: its partition, its time and its order.
async fn key_of(invoice: &str, table: &str, session: &Session) -> Result<(String, i64, String)> {
    let select = format!("SELECT customer_id, ordered_at_us, order_id, invoice FROM {table}");
    let rows = session.query_iter(select, ()).await?;
    let mut rows = rows.rows_stream::<(String, i64, String, String)>()?;
    while let Some((customer, ordered_at_us, order, found)) = rows.try_next().await? {
        if found == invoice {
            return Ok((customer, ordered_at_us, order));
        }
    }
    bail!("{table} has no row of {invoice}")
}

impl Altered {
    /// Checks the output of `daybook views diff`.
    async fn is_explained(&self, deployment: &Deployment, view: &str) -> Result<()> {
        let compared = deployment.run(&["views", "diff", view]).await?;
        let output = &compared.stdout;
        let count = "; 3 rows differ in build 2";
        ensure!(
            compared.code == 1 && output.contains(count),
            "not exit code 1 with {count:?}: {compared:?}"
        );

        let changed = Difference::of(&self.changed, output)?;
        let countries = [
            (changed.serving, "\"EIRE\""),
            (changed.other, "\"Nowhere\""),
        ];
        for (row, country) in countries {
            ensure!(row.contains(country), "no {country} in: {row}");
        }
        changed.comes_from_one_sale(&self.changed, CHANGED)?;

        let lost = Difference::of(&self.lost, output)?;
        expect_eq("the lost row", &lost.other, &NO_ROW)?;
        ensure!(lost.serving.contains(LOST), "no {LOST:?} in: {lost:?}");
        lost.comes_from_one_sale(&self.lost, LOST)?;

        let surplus = Difference::of(SURPLUS, output)?;
        let found = (surplus.serving, surplus.folded, surplus.events.len());
        expect_eq(
            "the surplus row and its events",
            &found,
            &(NO_ROW, NO_ROW, 0),
        )?;
        let row = surplus.other;
        ensure!(row.contains(SURPLUS), "no {SURPLUS:?} in: {row}");
        Ok(())
    }
}

/// A difference in the output of `daybook views diff`.
#[derive(Debug)]
struct Difference<'o> {
    /// The row of build 1.
    serving: &'o str,
    /// The row of build 2.
    other: &'o str,
    /// The row that the events give.
    folded: &'o str,
    /// The events.
    events: Vec<&'o str>,
}

impl<'o> Difference<'o> {
    /// The difference of an order's row.
    fn of(order: &str, output: &'o str) -> Result<Self> {
        let mut differences = output.split("\n\n").skip(1);
        let found = differences.find(|one| {
            let head = one.lines().next();
            head.is_some_and(|head| head.contains(order))
        });
        let found = found.with_context(|| format!("no difference of {order} in: {output}"))?;
        let mut lines = found.lines().skip(1);
        let mut next = |label: &str| -> Result<&'o str> {
            let line = lines.next().unwrap_or_default();
            let row = line.strip_prefix(label);
            row.with_context(|| format!("{label:?} does not begin {line:?} in: {found}"))
        };
        let serving = next("  build 1: ")?;
        let other = next("  build 2: ")?;
        let folded = next("  its events give: ")?;
        Ok(Self {
            serving,
            other,
            folded,
            events: lines.collect(),
        })
    }

    /// Checks that the events give the row of the serving build, and that the only one is the import of the invoice.
    fn comes_from_one_sale(&self, order: &str, invoice: &str) -> Result<()> {
        expect_eq("the row that the events give", &self.folded, &self.serving)?;
        let [event] = self.events.as_slice() else {
            bail!(
                "{} events of {order} instead of 1: {self:?}",
                self.events.len()
            )
        };
        let version = format!("{order} version 1: ");
        for part in ["  journal.orders/", &version, "SaleImported", invoice] {
            ensure!(event.contains(part), "no {part:?} in: {event}");
        }
        Ok(())
    }
}
