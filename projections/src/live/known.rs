//! Which orders and customers exist, and where their view is: from the view of orders in Postgres.

use crate::{
    databases::Databases,
    problems::{QueryError, answer},
    view::View,
    views::orders_v2::OrdersView,
};
use axum::http::StatusCode;
use journal::Checkpoint;
use service::problem::Problem;
use sqlx::types::Json;
use std::time::Duration;

use super::start::JOURNAL;

/// The view whose rows and checkpoints are read; the queries below name its table.
pub const VIEW: &str = OrdersView::NAME;
/// Longest time for reading checkpoints. Without them the hub reads the journal from its start.
const CHECKPOINTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks that there is an order or credit note with this id.
///
/// # Errors
/// 404: there is none. 503: the database does not answer.
pub async fn check_order(databases: &Databases, id: &str) -> Result<(), Problem> {
    const FIND: &str = "SELECT EXISTS (SELECT FROM orders_v2 WHERE order_id = $1)";
    let detail = format!("no order or credit note has the id {id}: pass an id from the list");
    check(databases, FIND, id, ("ORDER_NOT_FOUND", detail)).await
}

/// Checks that there is an order or credit note of this customer.
///
/// # Errors
/// 404: there is none. 503: the database does not answer.
pub async fn check_customer(databases: &Databases, id: &str) -> Result<(), Problem> {
    const FIND: &str = "SELECT EXISTS (SELECT FROM orders_v2 WHERE customer_id = $1)";
    let detail = format!("no order has the customer {id}: pass the customer of an order");
    check(databases, FIND, id, ("CUSTOMER_NOT_FOUND", detail)).await
}

async fn check(
    databases: &Databases,
    find: &'static str,
    id: &str,
    (code, detail): (&'static str, String),
) -> Result<(), Problem> {
    let found = async {
        let query = sqlx::query_scalar(find).bind(id);
        Ok::<bool, QueryError>(query.fetch_one(&databases.postgres).await?)
    };
    match answer(found).await? {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::NOT_FOUND, code, detail)),
    }
}

/// The checkpoints of the view.
///
/// # Errors
/// The database's error.
pub async fn checkpoints(databases: &Databases) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let stored = sqlx::query_scalar::<_, Json<Checkpoint>>(
        "SELECT checkpoint FROM view_checkpoints WHERE view_name = $1 AND topic = $2",
    );
    let stored = stored
        .bind(VIEW)
        .bind(JOURNAL)
        .fetch_all(&databases.postgres);
    let stored = tokio::time::timeout(CHECKPOINTS_TIMEOUT, stored).await;
    let stored = stored.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
    Ok(stored.into_iter().map(|Json(stored)| stored).collect())
}
