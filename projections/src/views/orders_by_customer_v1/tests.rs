//! Given facts, then rows.

use super::{Row, View, partition_of};
use crate::{
    facts::Fact,
    store::Projection,
    views::samples::{credit_note, line, sale},
};
use schemas::{Timestamp, orders::Event};

fn given(facts: &[(&str, i64, Event)]) -> Vec<Row> {
    let facts: Vec<_> = facts
        .iter()
        .map(|(key, offset, event)| Fact {
            key,
            offset: *offset,
            version: 1,
            event,
        })
        .collect();
    View::fold(&facts).unwrap()
}

#[test]
fn an_order_stands_in_its_customers_partition() {
    let rows = given(&[
        (
            "order_1",
            7,
            sale("1", Some("17850"), vec![line("A", 1, 255)]),
        ),
        (
            "order_2",
            8,
            credit_note("2", Some("17850"), vec![line("A", -1, -255)]),
        ),
    ]);
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.partition.as_str(), row.order.total, row.offset))
        .collect();
    assert_eq!(seen, [("17850", 255, 7), ("17850", -255, 8)]);
}

#[test]
fn orders_without_a_customer_stand_by_the_day() {
    let rows = given(&[("order_1", 7, sale("1", None, vec![line("A", 1, 255)]))]);
    assert_eq!(rows[0].partition, "none:2010-12-01");
    assert_eq!(rows[0].order.customer, None);
}

#[test]
fn the_last_fact_of_an_order_decides_its_row_and_timestamp() {
    let event = |amount| sale("1", Some("17850"), vec![line("A", 1, amount)]);
    let rows = given(&[("order_1", 7, event(1)), ("order_1", 9, event(2))]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].order.total, rows[0].offset), (2, 9));
}

#[test]
fn no_customer_can_stand_where_those_without_one_do() {
    let noon = Timestamp::parse("2010-12-01T12:00:00Z").unwrap();
    let nobodys = partition_of(None, noon);
    assert_eq!(nobodys, "none:2010-12-01");
    assert_ne!(partition_of(Some(&nobodys), noon), nobodys);
    assert_eq!(partition_of(Some(""), noon), nobodys);
    let ids = [
        "none",
        "none:",
        "none::",
        "none:2010-12-01",
        "none::2010-12-01",
    ];
    let partitions: std::collections::BTreeSet<_> =
        ids.iter().map(|id| partition_of(Some(id), noon)).collect();
    assert_eq!(partitions.len(), ids.len());
}
