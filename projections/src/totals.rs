//! The totals of a whole view, to compare with the journal and with the source.

use serde::Serialize;

/// The totals of a view of orders. Amounts of all currencies are added up, so they mean something only for
/// data in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
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
