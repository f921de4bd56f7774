//! Invoices, their lines and products, as the file lists them.

use schemas::{Quantity, Timestamp, UnitPrice};
use std::sync::Arc;

/// Kind of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sale or an adjustment.
    Sale,
    /// A credit note: its number starts with C.
    CreditNote,
}

/// One invoice.
#[derive(Debug)]
pub struct Invoice {
    /// The invoice number.
    pub number: Arc<str>,
    /// Sale or credit note.
    pub kind: Kind,
    /// The customer's id, the same in all lines.
    pub customer: Option<Arc<str>>,
    /// The country, the same in all lines.
    pub country: Arc<str>,
    /// The first line's time.
    pub ordered_at: Timestamp,
    /// Position of the first line in the file, counted from 1.
    pub first_line: u64,
    /// At least one, in the file's order.
    pub lines: Vec<Line>,
    /// Whether its lines are adjacent in the file.
    pub is_contiguous: bool,
    /// The sum of its lines' amounts, in minor units.
    pub total_minor: i64,
}

/// One line of an invoice.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The stock code.
    pub sku: Arc<str>,
    /// The trimmed description; `None` if it is empty.
    pub description: Option<Arc<str>>,
    /// Pieces, signed.
    pub quantity: Quantity,
    /// Price per piece, signed.
    pub unit_price: UnitPrice,
    /// The line's own time.
    pub at: Timestamp,
}

/// One stock code.
#[derive(Debug)]
pub struct Product {
    /// The stock code; case-sensitive.
    pub sku: Arc<str>,
    /// The first description that is not empty.
    pub description: Option<Arc<str>>,
    /// Position of the code's first line in the file, counted from 1.
    pub first_line: u64,
    /// The last known price; `None` if no sale has one.
    pub price: Option<LastPrice>,
}

/// The price of one piece in the sale with the latest time; among lines with that time, the last one in the file. Lines
/// without a price of at least one minor unit are left out. Credit notes are left out, because they repeat an earlier
/// price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastPrice {
    /// Minor units, above zero: the unit price, rounded half-even.
    pub amount: i64,
    /// The line's time.
    pub at: Timestamp,
    /// Position of the line in the file, counted from 1.
    pub line: u64,
}

impl Kind {
    /// The kind of an invoice, by its number.
    pub fn of(number: &str) -> Self {
        if number.starts_with('C') {
            Self::CreditNote
        } else {
            Self::Sale
        }
    }
}
