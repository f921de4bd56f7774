//! Looks up orders, customers and checkpoints in the view of orders in Postgres.

use super::target::JOURNAL;
use crate::{
    databases::Databases,
    postgres::with_new_statements,
    problems::{QueryError, answer},
    versions::Versions,
    views::VIEWS,
};
use axum::http::StatusCode;
use journal::Checkpoint;
use service::problem::Problem;
use sqlx::{AssertSqlSafe, types::Json};
use std::time::Duration;

/// The view whose rows and checkpoints are read, from the build that answers queries. In every version, the table that
/// is named after the version has the columns `order_id` and `customer_id`.
const VIEW: &str = "orders";
/// Longest time for reading checkpoints. Without them the hub reads the journal from its start.
const CHECKPOINTS_TIMEOUT: Duration = Duration::from_secs(5);

/// The versions of the view.
pub fn view() -> Versions {
    Versions::of(VIEW, VIEWS).expect("the view of orders is registered")
}

/// Checks that an order or credit note with this id exists.
///
/// # Errors
/// 404: no order or credit note has the id. 503: the database does not answer.
pub async fn check_order(databases: &Databases, id: &str) -> Result<(), Problem> {
    let detail =
        format!("no order or credit note has the id {id}: pass an id from GET /api/v1/orders");
    check(databases, "order_id", id, ("ORDER_NOT_FOUND", detail)).await
}

/// Checks that this customer has an order or a credit note.
///
/// # Errors
/// 404: the customer has no order or credit note. 503: the database does not answer.
pub async fn check_customer(databases: &Databases, id: &str) -> Result<(), Problem> {
    let detail = format!(
        "no order or credit note has the customer {id}: pass an id from GET /api/v1/customers"
    );
    check(databases, "customer_id", id, ("CUSTOMER_NOT_FOUND", detail)).await
}

async fn check(
    databases: &Databases,
    column: &'static str,
    id: &str,
    (code, detail): (&'static str, String),
) -> Result<(), Problem> {
    let found = || async {
        let version = view().answering(&databases.serving)?;
        let table = databases.build_of(version.name)?.table(version.name);
        let find = format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} = $1)");
        let query = sqlx::query_scalar(AssertSqlSafe(find)).bind(id);
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
/// The database's error, or a timeout, which includes the wait for the number of the serving build.
pub async fn checkpoints(databases: &Databases) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let reading = with_new_statements(|| read_checkpoints(databases));
    let stored = tokio::time::timeout(CHECKPOINTS_TIMEOUT, reading).await;
    stored.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn read_checkpoints(databases: &Databases) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let versions = view();
    let versions: Vec<&'static str> = versions.all().iter().map(|one| one.name).collect();
    let build = databases.serving.known(&versions).await;
    let stored = sqlx::query_scalar::<_, Json<Checkpoint>>(
        "SELECT checkpoint FROM view_build_checkpoints \
         WHERE view_name = $1 AND build = $2 AND topic = $3",
    );
    let stored = stored
        .bind(build.view)
        .bind(build.number)
        .bind(JOURNAL)
        .fetch_all(&databases.postgres)
        .await?;
    Ok(stored.into_iter().map(|Json(stored)| stored).collect())
}
