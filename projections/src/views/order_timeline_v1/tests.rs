//! Given events, then rows.

use super::{EventRow, Events, OrderTimeline, query::ByVersion};
use crate::{
    paging::check_golden,
    recorded::FoldError,
    spec::given,
    view::View,
    views::samples::{at, credit_note, line, ordered_at, sale},
};
use schemas::{Timestamp, orders::Event};

fn sale_of(amount: i64) -> Event {
    sale("536365", Some("17850"), vec![line("85123A", 1, amount)])
}

/// The row of an imported sale with a total of `total` pence.
fn row(order_id: &str, version: i64, total: i64) -> EventRow {
    EventRow {
        order_id: order_id.into(),
        version,
        event: "SaleImported".into(),
        occurred_at_us: ordered_at().0,
        currency: "GBP".into(),
        total,
    }
}

#[test]
fn each_event_of_an_order_has_a_row() {
    given::<Events>([("order_1", sale_of(1))])
        .when(("order_1", sale_of(2)))
        .then([row("order_1", 1, 1), row("order_1", 2, 2)]);
}

#[test]
fn each_order_has_a_timeline_of_its_own() {
    let note = credit_note("C1", None, vec![line("85123A", -1, -5)]);
    let of_note = EventRow {
        event: "CreditNoteIssued".into(),
        ..row("creditnote_1", 1, -5)
    };
    given::<Events>([("order_1", sale_of(1))])
        .when(("creditnote_1", note))
        .then([of_note, row("order_1", 1, 1)]);
}

#[test]
fn a_time_outside_of_the_calendar_is_refused() {
    given::<Events>([])
        .when(("order_1", at(Timestamp(i64::MIN), sale_of(1))))
        .then_refused(FoldError::Time {
            key: "order_1".into(),
            offset: 10,
            time: Timestamp(i64::MIN),
        });
}

#[test]
fn the_cursor_has_its_golden_form() {
    check_golden(OrderTimeline::NAME, &ByVersion { version: 20 });
}
