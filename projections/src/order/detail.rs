//! One order with its lines, as all versions of the view `orders` answer with it.

use super::{
    Amount, OrderSummary,
    list::{StoredOrder, summary},
};
use crate::{builds::Build, databases::Databases, problems::QueryError};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};
use utoipa::ToSchema;

/// An order or credit note with its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderDetail {
    /// The order without its lines.
    #[serde(flatten)]
    pub order: OrderSummary,
    /// The lines, in the source's order.
    pub lines: Vec<OrderLine>,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderLine {
    /// The product.
    #[schema(example = "85123A")]
    pub sku: String,
    /// The source's description; null if the source has none.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: Option<String>,
    /// Pieces, signed.
    #[schema(example = 6)]
    pub quantity: i64,
    /// Price of one piece in millionths of the major unit, signed.
    #[schema(example = 2_550_000)]
    pub unit_price_millionths: i64,
    /// Quantity x unit price, rounded half to even.
    pub amount: Amount,
}

/// An order joined with one of its lines.
#[derive(FromRow)]
struct OrderAndLine {
    #[sqlx(flatten)]
    order: StoredOrder,
    #[sqlx(flatten)]
    line: StoredLine,
}

/// The columns of a line that the table of every version has.
#[derive(FromRow)]
struct StoredLine {
    sku: String,
    description: Option<String>,
    quantity: i64,
    unit_price: i64,
    amount: i64,
}

/// The names of a build's tables of orders and of their lines.
pub(super) fn tables(build: Build) -> (String, String) {
    let lines = format!("{}_lines", build.view);
    (build.table(build.view), build.table(&lines))
}

/// Reads an order and its lines from a build with one statement, so that both have the same version.
///
/// # Errors
/// The database's error.
pub async fn find_one(
    databases: &Databases,
    build: Build,
    id: &str,
) -> Result<Option<OrderDetail>, QueryError> {
    let (orders, lines) = tables(build);
    let statement = format!(
        "SELECT o.order_id, kind, invoice, customer_id, country, ordered_at, currency, total, \
             line_count, version, sku, description, quantity, unit_price, amount \
         FROM {orders} o JOIN {lines} l ON l.order_id = o.order_id \
         WHERE o.order_id = $1 ORDER BY line_number"
    );
    let rows: Vec<OrderAndLine> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(id)
        .fetch_all(&databases.postgres)
        .await?;
    let Some(OrderAndLine { order, .. }) = rows.first() else {
        return Ok(None);
    };
    let order = summary(order.clone())?;
    let currency = order.total.currency.clone();
    let lines = rows.into_iter().map(|row| order_line(row.line, &currency));
    let lines = lines.collect();
    Ok(Some(OrderDetail { order, lines }))
}

fn order_line(row: StoredLine, currency: &str) -> OrderLine {
    OrderLine {
        sku: row.sku,
        description: row.description,
        quantity: row.quantity,
        unit_price_millionths: row.unit_price,
        amount: Amount::new(row.amount, currency),
    }
}
