//! The fields that a sale and a credit note have in common, for views that count both.

use crate::order::Kind;
use schemas::{
    Currency, Timestamp,
    orders::{CreditNoteEvent, Event, OrderEvent, SaleLine},
};

/// A sale or a credit note, borrowed from its event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sale<'a> {
    /// Sale or credit note.
    pub kind: Kind,
    /// The source's invoice number.
    pub invoice: &'a str,
    /// Opaque id; `None` if the source has none.
    pub customer: Option<&'a str>,
    /// The country, spelled as in the source.
    pub country: &'a str,
    /// Time of the sale or of the credit note.
    pub at: Timestamp,
    /// The currency of all amounts.
    pub currency: Currency,
    /// The lines; at least one.
    pub lines: &'a [SaleLine],
    /// Minor units, signed.
    pub total: i64,
}

impl<'a> Sale<'a> {
    /// The sale or credit note that an event records.
    pub fn of(event: &'a Event) -> Self {
        match event {
            Event::Order(OrderEvent::SaleImported(sale)) => Self {
                kind: Kind::Sale,
                invoice: &sale.invoice,
                customer: sale.customer.as_deref(),
                country: &sale.country,
                at: sale.ordered_at,
                currency: sale.currency,
                lines: &sale.lines,
                total: sale.total,
            },
            Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => Self {
                kind: Kind::CreditNote,
                invoice: &note.invoice,
                customer: note.customer.as_deref(),
                country: &note.country,
                at: note.issued_at,
                currency: note.currency,
                lines: &note.lines,
                total: note.total,
            },
        }
    }

    /// The contribution to the number of orders and to the number of credit notes: (1, 0) or (0, 1).
    pub fn counts(&self) -> (i64, i64) {
        match self.kind {
            Kind::Sale => (1, 0),
            Kind::CreditNote => (0, 1),
        }
    }
}
