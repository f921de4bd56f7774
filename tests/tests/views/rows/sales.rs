//! Sales and credit notes whose totals are the bounds of their type, for views that add them up.

use crate::{
    queries::{credit_note, sale},
    spec::partition_of,
};
use schemas::{
    Currency, Timestamp,
    orders::{CreditNoteIssued, SaleImported},
};

/// The keys of an order and of a credit note. The order's partition is the lower one, so the two builds apply the
/// events in opposite sequences.
pub fn keys_in_two_partitions() -> (&'static str, &'static str) {
    let (order_key, note_key) = ("order_1", "creditnote_1");
    let partitions = (partition_of(order_key), partition_of(note_key));
    assert!(partitions.0 < partitions.1, "{partitions:?} do not ascend");
    (order_key, note_key)
}

/// `sale(1)` with this time and the greatest total.
pub fn greatest_sale(ordered_at: Timestamp) -> SaleImported {
    SaleImported {
        ordered_at,
        total: i64::MAX,
        ..sale(1)
    }
}

/// `credit_note(1)` with this time, two lines and the least total. Its total and that of [`greatest_sale`] add up to
/// -1.
pub fn least_credit_note(issued_at: Timestamp) -> CreditNoteIssued {
    CreditNoteIssued {
        issued_at,
        lines: [credit_note(1).lines, credit_note(1).lines].concat(),
        total: i64::MIN,
        ..credit_note(1)
    }
}

/// `sale(1)` in yen, with the greatest total.
pub fn sale_in_yen() -> SaleImported {
    SaleImported {
        currency: Currency::parse("JPY").unwrap(),
        total: i64::MAX,
        ..sale(1)
    }
}
