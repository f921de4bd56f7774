//! What a whole view adds up to, to be compared with the journal and with the source.

use crate::{
    cql::{CqlError, Session},
    problems::QueryError,
    views,
};
use serde::Serialize;
use sqlx::PgPool;

/// What a whole view adds up to. Currencies are not told apart: it is meant for data of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Sales.
    pub sales: i64,
    /// Credit notes.
    pub credit_notes: i64,
    /// Lines of both.
    pub lines: i64,
    /// Minor units, signed.
    pub total_minor: i64,
}

/// Why totals can't be had.
#[derive(Debug, thiserror::Error)]
#[error("the totals of view {view} can't be had: {source}")]
pub struct TotalsError {
    view: &'static str,
    source: QueryError,
}

/// What `orders_v1` adds up to.
pub async fn postgres_totals(pool: &PgPool) -> Result<Totals, TotalsError> {
    let view = "orders_v1";
    views::orders_v1::totals(pool)
        .await
        .map_err(|source| TotalsError { view, source })
}

/// What `orders_by_customer_v1` adds up to.
pub async fn cql_totals(session: &Session) -> Result<Totals, TotalsError> {
    let view = "orders_by_customer_v1";
    views::orders_by_customer_v1::totals(session)
        .await
        .map_err(|source| TotalsError { view, source })
}

impl From<CqlError> for TotalsError {
    /// The store has no session yet.
    fn from(error: CqlError) -> Self {
        let view = "orders_by_customer_v1";
        let source = QueryError::Cql(error);
        Self { view, source }
    }
}
