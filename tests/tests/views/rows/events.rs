//! Values that a database may distort, and the events of orders.

use schemas::{
    Timestamp,
    orders::{CreditNoteEvent, CreditNoteIssued, Event, OrderEvent, SaleImported},
};

/// Quotes, a backslash, placeholders of statements, a combining accent, a character beyond 16 bits, and a blank at the
/// end.
pub const TEXT: &str = "O'Brien \"\\\" $1 ? {build} {keyspace} e\u{301} \u{1f9c2} ";

/// A text whose last letter is a single character.
pub const COMPOSED: &str = "Caf\u{e9}";

/// Looks like [`COMPOSED`], but its accent is a character of its own.
pub const DECOMPOSED: &str = "Cafe\u{301}";

/// The first microsecond of the year 1, the earliest time that a view accepts.
pub const EARLIEST: Timestamp = Timestamp(-62_135_596_800_000_000);

/// The last microsecond before 1970.
pub const BEFORE_1970: Timestamp = Timestamp(-1);

/// The last microsecond of the year 9999, the latest time that a view accepts.
pub const LATEST: Timestamp = Timestamp(253_402_300_799_999_999);

pub fn imported(sale: SaleImported) -> Event {
    Event::Order(OrderEvent::SaleImported(sale))
}

pub fn issued(note: CreditNoteIssued) -> Event {
    Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note))
}
