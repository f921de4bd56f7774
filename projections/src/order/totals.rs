//! The totals of all orders, from the tables of any version of the view `orders`.

use super::{add_totals, detail::tables};
use crate::{builds::Build, databases::Databases, postgres::read_position, problems::QueryError};
use schemas::{Totals, TotalsAt, TotalsByCurrency, context::ORDERS};
use sqlx::AssertSqlSafe;

/// The totals of a whole build. The amounts are summed over the lines, which checks the orders' own totals. Rows and
/// checkpoints are read in one snapshot, so the totals belong exactly to the returned position.
///
/// # Errors
/// The database's error, or a sum that overflows.
pub async fn totals(databases: &Databases, build: Build) -> Result<TotalsAt, QueryError> {
    let (orders, lines) = tables(build);
    let mut transaction = databases.postgres.begin().await?;
    for setting in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        // All rows are read, which may take longer than the usual timeout.
        "SET LOCAL statement_timeout = '10min'",
    ] {
        sqlx::query(setting).execute(&mut *transaction).await?;
    }
    let position = read_position(build, ORDERS.topic, &mut transaction).await?;
    let mut totals = TotalsByCurrency::default();
    let statement = format!(
        "SELECT currency, count(*) FILTER (WHERE kind = 'SALE'), \
             count(*) FILTER (WHERE kind = 'CREDIT_NOTE') \
         FROM {orders} GROUP BY currency"
    );
    let of_currencies: Vec<(String, i64, i64)> = sqlx::query_as(AssertSqlSafe(statement))
        .fetch_all(&mut *transaction)
        .await?;
    for (currency, sales, credit_notes) in of_currencies {
        let of_orders = Totals {
            invoices: sales + credit_notes,
            sales,
            credit_notes,
            ..Totals::default()
        };
        add_totals(&mut totals, &currency, of_orders)?;
    }
    let statement = format!(
        "SELECT currency, count(*), sum(amount)::bigint \
         FROM {lines} LEFT JOIN {orders} USING (order_id) GROUP BY currency"
    );
    let of_lines: Vec<(Option<String>, i64, i64)> = sqlx::query_as(AssertSqlSafe(statement))
        .fetch_all(&mut *transaction)
        .await?;
    for (currency, lines, total_minor) in of_lines {
        let of_lines = Totals {
            lines,
            total_minor,
            ..Totals::default()
        };
        // Lines without an order have no currency.
        add_totals(&mut totals, &currency.unwrap_or_default(), of_lines)?;
    }
    transaction.commit().await?;
    Ok(TotalsAt { position, totals })
}
