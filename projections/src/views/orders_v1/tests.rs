//! Given facts, then rows.

use super::{Changes, Line, View};
use crate::{
    facts::{Fact, FoldError},
    order::Kind,
    store::Projection,
    views::samples::{credit_note, line, sale},
};
use schemas::{Timestamp, orders::Event};

fn given(facts: &[(&str, i64, Event)]) -> Result<Changes, FoldError> {
    let facts: Vec<_> = facts
        .iter()
        .zip(10..)
        .map(|((key, version, event), offset)| Fact {
            key,
            offset,
            version: *version,
            event,
        })
        .collect();
    View::fold(&facts)
}

#[test]
fn a_sale_becomes_a_row_with_lines() {
    let event = sale("536365", Some("17850"), vec![line("85123A", 6, 1530)]);
    let orders = given(&[("order_1", 1, event)]).unwrap();
    let order = &orders["order_1"];
    assert_eq!(order.header.kind, Kind::Sale);
    assert_eq!(order.header.customer.as_deref(), Some("17850"));
    assert_eq!((order.header.total, order.header.line_count), (1530, 1));
    assert_eq!(
        order.lines,
        [Line {
            number: 1,
            sku: "85123A".into(),
            description: Some("HEART".into()),
            quantity: 6,
            unit_price: 2_550_000,
            amount: 1530,
        }]
    );
}

#[test]
fn a_credit_note_is_a_row_below_zero() {
    let event = credit_note("C536379", None, vec![line("D", -1, -2750)]);
    let orders = given(&[("creditnote_1", 1, event)]).unwrap();
    let header = &orders["creditnote_1"].header;
    assert_eq!((header.kind, header.total), (Kind::CreditNote, -2750));
    assert_eq!(header.customer, None);
}

#[test]
fn exact_duplicate_lines_stay_two() {
    let event = sale("1", None, vec![line("A", 1, 255), line("A", 1, 255)]);
    let orders = given(&[("order_1", 1, event)]).unwrap();
    let numbers: Vec<_> = orders["order_1"].lines.iter().map(|l| l.number).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn the_last_fact_of_an_order_decides_its_row() {
    let first = sale("1", None, vec![line("A", 1, 255)]);
    let second = sale("1", Some("17850"), vec![line("A", 2, 510)]);
    let orders = given(&[("order_1", 1, first), ("order_1", 2, second)]).unwrap();
    assert_eq!(orders.len(), 1);
    let header = &orders["order_1"].header;
    assert_eq!((header.version, header.total), (2, 510));
}

#[test]
fn a_time_that_no_calendar_has_is_refused() {
    let mut event = sale("1", None, vec![line("A", 1, 255)]);
    if let Event::SaleImported(sale) = &mut event {
        sale.ordered_at = Timestamp(i64::MIN);
    }
    let refused = given(&[("order_1", 1, event)]).unwrap_err();
    assert!(matches!(refused, FoldError::Time { offset: 10, .. }));
}

#[test]
fn nothing_comes_of_nothing() {
    assert_eq!(given(&[]), Ok(Changes::new()));
}
