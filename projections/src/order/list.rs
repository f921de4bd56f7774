//! The list of orders, newest first: its filters and its statement, which all versions of the view `orders` share. A
//! version checks the parameters of a request itself, and sets the filters for which it has indexes.

use super::{Amount, Kind, OrderPage, OrderSummary};
use crate::{
    builds::Build,
    databases::Databases,
    paging::{self, NewestFirst},
    postgres::Instant,
    problems::QueryError,
};
use schemas::Timestamp;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};

/// The columns of [`StoredOrder`].
const COLUMNS: &str = "order_id, kind, invoice, customer_id, country, ordered_at, currency, total, line_count, version";

/// A request for a page.
#[derive(Debug)]
pub struct Filter {
    /// The name of the list with these filters: cursors of another list are rejected.
    pub list: String,
    /// Only this customer.
    pub customer: Option<String>,
    /// Only this country.
    pub country: Option<String>,
    /// Only this invoice number.
    pub invoice: Option<String>,
    /// Only sales, or only credit notes.
    pub kind: Option<Kind>,
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// Orders per page.
    pub limit: u16,
    /// The last order of the previous page.
    pub after: Option<NewestFirst>,
}

/// The columns of an order that the table of every version has.
#[derive(Debug, Clone, FromRow)]
pub(super) struct StoredOrder {
    order_id: String,
    kind: String,
    invoice: String,
    customer_id: Option<String>,
    country: String,
    ordered_at: Instant,
    currency: String,
    total: i64,
    line_count: i32,
    version: i64,
}

/// A page of a build's orders.
///
/// # Errors
/// The database's error.
pub async fn find_page(
    databases: &Databases,
    build: Build,
    filter: &Filter,
) -> Result<OrderPage, QueryError> {
    let mut query = QueryBuilder::new("");
    push_page(&mut query, build, filter);
    let rows = query.build_query_as().fetch_all(&databases.postgres);
    let rows: Vec<StoredOrder> = rows.await?;
    let (rows, next_cursor) = paging::cut(&filter.list, rows, filter.limit, |row| NewestFirst {
        ordered_at: row.ordered_at.0,
        order_id: row.order_id.clone(),
    });
    let orders = rows.into_iter().map(summary).collect::<Result<_, _>>()?;
    Ok(OrderPage {
        orders,
        next_cursor,
    })
}

/// The plan of a page of a build, as returned by `EXPLAIN (ANALYZE, FORMAT JSON)`.
///
/// # Errors
/// The database's error.
pub async fn explain(
    pool: &PgPool,
    build: Build,
    filter: &Filter,
) -> Result<serde_json::Value, QueryError> {
    let mut query = QueryBuilder::new("EXPLAIN (ANALYZE, FORMAT JSON) ");
    push_page(&mut query, build, filter);
    Ok(query.build_query_scalar().fetch_one(pool).await?)
}

pub(super) fn summary(row: StoredOrder) -> Result<OrderSummary, QueryError> {
    Ok(OrderSummary {
        id: row.order_id,
        kind: Kind::stored(&row.kind)?,
        invoice: row.invoice,
        customer: row.customer_id,
        country: row.country,
        ordered_at: row.ordered_at.0.to_string(),
        total: Amount {
            amount: row.total,
            currency: row.currency,
        },
        line_count: row.line_count,
        version: row.version,
    })
}

/// Appends the statement of a page. It reads one row more than the page, to know whether there is a next page.
///
/// The statement is a union of one part per kind, each with the sort order and the limit of the page. The index of a
/// part begins with the columns that the filters compare for equality (the kind included) and ends with the sort key,
/// so a part reads only the rows that it returns. A statement over both kinds would need two more indexes for this. An
/// invoice number has an index of its own: it belongs to a few orders, so the other filters read no more rows than
/// these.
fn push_page(query: &mut QueryBuilder<Postgres>, build: Build, filter: &Filter) {
    const NEWEST_FIRST: &str = " ORDER BY ordered_at DESC, order_id DESC LIMIT ";
    let count = filter.limit + 1;
    let kinds = match filter.kind {
        Some(kind) => vec![kind],
        None => vec![Kind::Sale, Kind::CreditNote],
    };
    query.push("SELECT ").push(COLUMNS).push(" FROM (");
    for (index, kind) in kinds.into_iter().enumerate() {
        if index > 0 {
            query.push(" UNION ALL ");
        }
        query.push("(");
        push_part(query, build, filter, kind);
        // The limit is a literal, because the plan depends on it.
        query.push(NEWEST_FIRST).push(count).push(")");
    }
    query.push(") AS parts").push(NEWEST_FIRST).push(count);
}

/// Appends the rows of one kind that match the filter and follow the cursor.
fn push_part(query: &mut QueryBuilder<Postgres>, build: Build, filter: &Filter, kind: Kind) {
    let (table, kind) = (build.table(build.view), kind.as_str());
    query.push(format!(
        "SELECT {COLUMNS} FROM {table} WHERE kind = '{kind}'"
    ));
    for (column, text) in [
        ("customer_id", &filter.customer),
        ("country", &filter.country),
        ("invoice", &filter.invoice),
    ] {
        if let Some(text) = text {
            query.push(format!(" AND {column} = "));
            query.push_bind(text.clone());
        }
    }
    if let Some(from) = filter.from {
        query.push(" AND ordered_at >= ").push_bind(Instant(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND ordered_at < ").push_bind(Instant(to));
    }
    if let Some(after) = &filter.after {
        query
            .push(" AND (ordered_at, order_id) < (")
            .push_bind(Instant(after.ordered_at))
            .push(", ")
            .push_bind(after.order_id.clone())
            .push(")");
    }
}
