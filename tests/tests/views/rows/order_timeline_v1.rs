//! The rows of `order_timeline_v1`.

use crate::{
    backends::{CqlBackend, run},
    queries::{credit_note, sale},
    rows::events::{BEFORE_1970, EARLIEST, LATEST, TEXT, imported, issued},
    spec::{InCql, in_cql, recorded_at},
};
use projections::views::order_timeline_v1::{EntryRow, OrderTimeline};
use schemas::{
    Timestamp,
    orders::{CreditNoteIssued, Event, SaleImported},
};

type Timeline = InCql<OrderTimeline>;

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_rows_are_those_of_the_events() {
    run(async |backend: &CqlBackend| {
        let mut timeline = in_cql::<OrderTimeline>(backend).await;
        each_event_of_an_order_has_a_row(&mut timeline).await;
        an_empty_customer_is_not_a_missing_one(&mut timeline).await;
        texts_are_kept(&mut timeline).await;
        a_credit_note_may_be_read_before_its_order(&mut timeline).await;
    })
    .await;
}

/// The row of `sale(1)` with a version of its order.
fn entry(order_id: &str, version: i64) -> EntryRow {
    EntryRow {
        order_id: order_id.into(),
        version,
        event: "SaleImported".into(),
        happened_at_us: sale(1).ordered_at.0,
        recorded_at_us: recorded_at(version).0,
        invoice: "1".into(),
        customer_id: Some("1".into()),
        country: "Norway".into(),
        currency: "GBP".into(),
        total: 255,
        line_count: 1,
    }
}

async fn each_event_of_an_order_has_a_row(timeline: &mut Timeline) {
    let (first, last) = ((EARLIEST, i64::MIN), (LATEST, i64::MAX));
    let event = |(ordered_at, total)| {
        imported(SaleImported {
            ordered_at,
            total,
            ..sale(1)
        })
    };
    let row = |version, (ordered_at, total): (Timestamp, i64)| EntryRow {
        happened_at_us: ordered_at.0,
        total,
        ..entry("order_1", version)
    };
    timeline
        .given([("order_1", event(first)), ("order_2", imported(sale(1)))])
        .when(("order_1", event(last)))
        .then((vec![row(1, first), row(2, last), entry("order_2", 1)],))
        .await;
}

async fn an_empty_customer_is_not_a_missing_one(timeline: &mut Timeline) {
    let sold_to = |customer: Option<&str>| -> Event {
        imported(SaleImported {
            customer: customer.map(str::to_owned),
            ordered_at: BEFORE_1970,
            ..sale(1)
        })
    };
    let row = |order_id: &str, customer: Option<&str>| EntryRow {
        happened_at_us: -1,
        customer_id: customer.map(str::to_owned),
        ..entry(order_id, 1)
    };
    timeline
        .given([("order_3", sold_to(None))])
        .when(("order_4", sold_to(Some(""))))
        .then((vec![row("order_3", None), row("order_4", Some(""))],))
        .await;
}

async fn texts_are_kept(timeline: &mut Timeline) {
    let event = SaleImported {
        invoice: TEXT.into(),
        customer: Some(TEXT.into()),
        country: TEXT.into(),
        ..sale(1)
    };
    let row = EntryRow {
        invoice: TEXT.into(),
        customer_id: Some(TEXT.into()),
        country: TEXT.into(),
        ..entry("order_5", 1)
    };
    timeline
        .given([])
        .when(("order_5", imported(event)))
        .then((vec![row],))
        .await;
}

async fn a_credit_note_may_be_read_before_its_order(timeline: &mut Timeline) {
    let note = CreditNoteIssued {
        order_id: Some("order_6".into()),
        total: -255,
        ..credit_note(1)
    };
    let note_row = EntryRow {
        event: "CreditNoteIssued".into(),
        invoice: "C1".into(),
        total: -255,
        ..entry("creditnote_1", 1)
    };
    timeline
        .given([("creditnote_1", issued(note))])
        .when(("order_6", imported(sale(1))))
        .then((vec![note_row, entry("order_6", 1)],))
        .await;
}
