//! Tests the rows that events produce.

use super::{Entries, EntryRow, OrderTimeline, query::ByVersion};
use crate::{
    paging::check_golden,
    recorded::FoldError,
    spec::{given, recorded_at},
    view::View,
    views::samples::{at, credit_note, line, ordered_at, sale},
};
use schemas::Timestamp;

/// The entry of a sale with one line, recorded at an offset.
fn entry(order_id: &str, version: i64, offset: i64, total: i64) -> EntryRow {
    EntryRow {
        order_id: order_id.into(),
        version,
        event: "SaleImported".into(),
        happened_at_us: ordered_at().0,
        recorded_at_us: recorded_at(offset).0,
        invoice: "536365".into(),
        customer_id: Some("17850".into()),
        country: "United Kingdom".into(),
        currency: "GBP".into(),
        total,
        line_count: 1,
    }
}

#[test]
fn each_event_of_an_order_has_an_entry_with_its_time_and_total() {
    let event = |amount| sale("536365", Some("17850"), vec![line("A", 1, amount)]);
    given::<Entries>([("order_1", event(100)), ("order_2", event(200))])
        .when(("order_1", event(300)))
        .then([
            entry("order_1", 1, 10, 100),
            entry("order_1", 2, 12, 300),
            entry("order_2", 1, 11, 200),
        ]);
}

#[test]
fn a_credit_note_has_a_timeline_of_its_own() {
    let note = credit_note("C1", None, vec![line("A", -1, -100), line("B", -1, -1)]);
    let row = EntryRow {
        event: "CreditNoteIssued".into(),
        invoice: "C1".into(),
        customer_id: None,
        line_count: 2,
        ..entry("creditnote_1", 1, 10, -101)
    };
    given::<Entries>([])
        .when(("creditnote_1", note))
        .then([row]);
}

#[test]
fn a_time_outside_of_the_calendar_is_refused() {
    let time = Timestamp(i64::MAX);
    given::<Entries>([])
        .when(("order_1", at(time, sale("1", None, vec![line("A", 1, 1)]))))
        .then_refused(FoldError::Time {
            key: "order_1".into(),
            offset: 10,
            time,
        });
}

#[test]
fn the_cursor_has_its_golden_form() {
    check_golden(OrderTimeline::NAME, &ByVersion { version: 2 });
}
