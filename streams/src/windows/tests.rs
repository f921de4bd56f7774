//! Examples and properties of the sums.

use super::*;
use proptest::prelude::*;
use schemas::{
    Quantity, Sku, UnitPrice,
    orders::{CreditNoteEvent, CreditNoteIssued, OrderEvent, SaleImported, SaleLine},
};

const EUR: &str = "EUR";

fn lines(count: usize) -> Vec<SaleLine> {
    let line = SaleLine {
        sku: Sku::parse("85123A").unwrap(),
        description: None,
        quantity: Quantity(1),
        unit_price: UnitPrice(2_550_000),
        amount: 255,
    };
    vec![line; count]
}

fn sale_at(time: Timestamp, country: &str, line_count: usize, total: i64) -> Event {
    Event::Order(OrderEvent::SaleImported(SaleImported {
        invoice: "536365".into(),
        customer: None,
        country: country.into(),
        ordered_at: time,
        currency: Currency::GBP,
        lines: lines(line_count),
        total,
    }))
}

fn sale(time: &str, country: &str, line_count: usize, total: i64) -> Event {
    sale_at(Timestamp::parse(time).unwrap(), country, line_count, total)
}

fn credit_note_at(time: Timestamp, country: &str, line_count: usize, total: i64) -> Event {
    Event::CreditNote(CreditNoteEvent::CreditNoteIssued(CreditNoteIssued {
        invoice: "C536379".into(),
        order_id: None,
        customer: None,
        country: country.into(),
        issued_at: time,
        currency: Currency::GBP,
        lines: lines(line_count),
        total,
    }))
}

fn in_currency(event: Event, code: &str) -> Event {
    let currency = Currency::parse(code).unwrap();
    match event {
        Event::Order(OrderEvent::SaleImported(sale)) => {
            Event::Order(OrderEvent::SaleImported(SaleImported { currency, ..sale }))
        }
        Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => {
            Event::CreditNote(CreditNoteEvent::CreditNoteIssued(CreditNoteIssued {
                currency,
                ..note
            }))
        }
    }
}

fn everything(window: Window) -> Selection {
    Selection {
        window,
        country: None,
        from: None,
        to: None,
        after: None,
        count_max: usize::MAX,
    }
}

fn folded(events: &[Event]) -> Windows {
    let mut windows = Windows::default();
    for event in events {
        windows.apply(event).unwrap();
    }
    windows
}

/// Key, sales, credit notes, lines, revenue.
fn short(results: &[RevenueByCountry]) -> Vec<(String, i64, i64, i64, i64)> {
    let short = |result: &RevenueByCountry| {
        let (orders, notes) = (result.orders, result.credit_notes);
        (result.key(), orders, notes, result.lines, result.revenue)
    };
    results.iter().map(short).collect()
}

#[test]
fn sales_and_credit_notes_add_up_by_country_and_window() {
    let note = Timestamp::parse("2010-12-01T08:45:00Z").unwrap();
    let windows = folded(&[
        sale("2010-12-01T08:26:00Z", "France", 2, 500),
        credit_note_at(note, "France", 1, -120),
        sale("2010-12-01T09:00:00Z", "France", 1, 7),
        sale("2010-12-01T09:00:00Z", "EIRE", 3, 11),
    ]);
    let key = |text: &str| text.to_owned();
    assert_eq!(
        short(&windows.series(&everything(Window::Hour))),
        [
            (key("2010-12-01T08:00:00Z/France/GBP"), 1, 1, 3, 380),
            (key("2010-12-01T09:00:00Z/EIRE/GBP"), 1, 0, 3, 11),
            (key("2010-12-01T09:00:00Z/France/GBP"), 1, 0, 1, 7),
        ]
    );
    assert_eq!(
        short(&windows.series(&everything(Window::Day))),
        [
            (key("2010-12-01T00:00:00Z/EIRE/GBP"), 1, 0, 3, 11),
            (key("2010-12-01T00:00:00Z/France/GBP"), 2, 1, 4, 387),
        ]
    );
}

#[test]
fn changed_windows_are_taken_once_unless_they_are_marked_as_changed() {
    let mut windows = folded(&[
        sale("2010-12-01T08:26:00Z", "France", 1, 1),
        sale("2010-12-01T08:27:00Z", "France", 1, 2),
        sale("2010-12-01T10:00:00Z", "EIRE", 1, 4),
    ]);
    let first = windows.take_changed(Window::Hour, 1);
    assert_eq!(first[0].revenue, 3);
    assert_eq!(windows.take_changed(Window::Hour, 9)[0].revenue, 4);
    assert_eq!(windows.take_changed(Window::Hour, 9), []);
    windows.mark_changed(Window::Hour, &first);
    let later = sale("2010-12-01T08:28:00Z", "France", 1, 8);
    windows.apply(&later).unwrap();
    let again = windows.take_changed(Window::Hour, 9);
    assert_eq!((again.len(), again[0].revenue), (1, 11));
}

#[test]
fn a_second_currency_gets_windows_of_its_own() {
    let euros = |time, total| in_currency(sale(time, "France", 1, total), EUR);
    let note = Timestamp::parse("2010-12-01T08:45:00Z").unwrap();
    let mut windows = folded(&[
        sale("2010-12-01T08:26:00Z", "France", 1, 1),
        euros("2010-12-01T08:59:00Z", 20),
        in_currency(credit_note_at(note, "France", 1, -5), EUR),
        euros("2010-12-01T09:00:00Z", 300),
    ]);
    let key = |text: &str| text.to_owned();
    let hours = [
        (key("2010-12-01T08:00:00Z/France/EUR"), 1, 1, 2, 15),
        (key("2010-12-01T08:00:00Z/France/GBP"), 1, 0, 1, 1),
        (key("2010-12-01T09:00:00Z/France/EUR"), 1, 0, 1, 300),
    ];
    assert_eq!(short(&windows.series(&everything(Window::Hour))), hours);
    assert_eq!(
        short(&windows.series(&everything(Window::Day))),
        [
            (key("2010-12-01T00:00:00Z/France/EUR"), 2, 1, 3, 315),
            (key("2010-12-01T00:00:00Z/France/GBP"), 1, 0, 1, 1),
        ]
    );
    assert_eq!(short(&windows.take_changed(Window::Hour, 9)), hours);
}

#[test]
fn an_overflow_is_an_error_and_changes_nothing() {
    let mut windows = folded(&[sale("2010-12-01T08:26:00Z", "France", 1, i64::MAX)]);
    let before = windows.series(&everything(Window::Hour));
    let more = sale("2010-12-01T08:26:00Z", "France", 1, 1);
    assert_eq!(
        windows.apply(&more),
        Err(WindowsError::Overflow {
            window: Window::Hour,
            key: "2010-12-01T08:00:00Z/France/GBP".into(),
            sum: "revenue"
        })
    );
    assert_eq!(windows.series(&everything(Window::Hour)), before);
    // Two windows of an hour, but one of a day.
    let more = sale("2010-12-01T11:00:00Z", "France", 1, 1);
    let applied = windows.apply(&more);
    assert!(
        matches!(
            applied,
            Err(WindowsError::Overflow {
                window: Window::Day,
                ..
            })
        ),
        "{applied:?} instead of Overflow of Window::Day"
    );
    assert_eq!(windows.series(&everything(Window::Hour)), before);
}

#[test]
fn a_time_without_a_window_is_an_error() {
    let mut windows = Windows::default();
    for time in [Timestamp(i64::MIN), Timestamp(i64::MAX)] {
        let error = windows.apply(&sale_at(time, "France", 1, 1)).unwrap_err();
        assert!(
            matches!(error, WindowsError::NoWindow { .. }),
            "{error:?} instead of WindowsError::NoWindow"
        );
    }
}

#[test]
fn the_number_of_windows_is_bounded() {
    let mut windows = Windows::bounded(3);
    windows
        .apply(&sale("2010-12-01T08:26:00Z", "France", 1, 1))
        .unwrap();
    windows
        .apply(&sale("2010-12-01T09:26:00Z", "France", 1, 1))
        .unwrap();
    let next = sale("2010-12-01T10:26:00Z", "France", 1, 1);
    assert_eq!(
        windows.apply(&next),
        Err(WindowsError::TooMany { windows_max: 3 })
    );
    // An event that adds no window is accepted.
    windows
        .apply(&sale("2010-12-01T09:59:00Z", "France", 1, 1))
        .unwrap();
}

#[test]
fn a_series_can_be_limited_by_time_and_by_country() {
    let windows = folded(&[
        sale("2010-12-01T08:00:00Z", "France", 1, 1),
        sale("2010-12-01T09:00:00Z", "EIRE", 1, 2),
        sale("2010-12-01T09:00:00Z", "France", 1, 4),
        sale("2010-12-01T10:00:00Z", "France", 1, 8),
    ]);
    let time = |text| Some(Timestamp::parse(text).unwrap());
    let revenue = |selection: Selection| -> Vec<i64> {
        let series = windows.series(&selection);
        series.iter().map(|result| result.revenue).collect()
    };
    let all = everything(Window::Hour);
    let cut = Selection {
        from: time("2010-12-01T09:00:00Z"),
        to: time("2010-12-01T10:00:00Z"),
        ..all.clone()
    };
    assert_eq!(revenue(cut.clone()), [2, 4]);
    let france = Some("France".to_owned());
    let of_country = Selection {
        country: france,
        ..all.clone()
    };
    assert_eq!(revenue(of_country), [1, 4, 8]);
    let reversed = Selection {
        from: cut.to,
        to: cut.from,
        ..all
    };
    assert_eq!(revenue(reversed), [] as [i64; 0]);
}

/// Events within three days around 1970, in three countries and two currencies, so that events share
/// windows.
fn events() -> impl Strategy<Value = Vec<Event>> {
    const HOUR_US: i64 = 3_600_000_000;
    let time = (-30_i64..30, 0..HOUR_US).prop_map(|(hour, rest)| Timestamp(hour * HOUR_US + rest));
    let country = prop::sample::select(vec!["France", "EIRE", "United Kingdom"]);
    let code = prop::sample::select(vec!["EUR", "GBP"]);
    let event = (
        time,
        (country, code),
        1_usize..4,
        -1_000_000_i64..1_000_000,
        any::<bool>(),
    )
        .prop_map(|(time, (country, code), line_count, total, is_sale)| {
            let event = match is_sale {
                true => sale_at(time, country, line_count, total),
                false => credit_note_at(time, country, line_count, total),
            };
            in_currency(event, code)
        });
    prop::collection::vec(event, 0..60)
}

/// Events, and the same events in another order.
fn shuffled() -> impl Strategy<Value = (Vec<Event>, Vec<Event>)> {
    events().prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle()))
}

proptest! {
    #[test]
    fn the_order_of_events_does_not_matter((straight, shuffled) in shuffled()) {
        let (straight, shuffled) = (folded(&straight), folded(&shuffled));
        for window in Window::ALL {
            let all = everything(window);
            prop_assert_eq!(straight.series(&all), shuffled.series(&all));
        }
    }

    /// Publications happen between any two events, and some of them fail.
    #[test]
    fn the_last_record_of_a_key_is_its_window(
        events in events(),
        publications in prop::collection::vec((any::<bool>(), 1_usize..8), 0..60),
    ) {
        let mut windows = Windows::default();
        let mut topic = BTreeMap::new();
        for (index, event) in events.iter().enumerate() {
            windows.apply(event).unwrap();
            let Some((succeeds, count_max)) = publications.get(index) else { continue };
            let taken = windows.take_changed(Window::Hour, *count_max);
            match succeeds {
                true => topic.extend(taken.into_iter().map(|result| (result.key(), result))),
                false => windows.mark_changed(Window::Hour, &taken),
            }
        }
        let rest = windows.take_changed(Window::Hour, usize::MAX);
        topic.extend(rest.into_iter().map(|result| (result.key(), result)));
        let series = windows.series(&everything(Window::Hour));
        let expected: BTreeMap<_, _> =
            series.into_iter().map(|result| (result.key(), result)).collect();
        prop_assert_eq!(topic, expected);
    }

    #[test]
    fn the_hours_of_a_day_add_up_to_the_day(events in events()) {
        let windows = folded(&events);
        let mut days: BTreeMap<Key, Sums> = BTreeMap::new();
        for hour in windows.series(&everything(Window::Hour)) {
            let (day, _) = Window::Day.around(hour.window_start).unwrap();
            let sums = Sums {
                orders: hour.orders,
                credit_notes: hour.credit_notes,
                lines: hour.lines,
                revenue: hour.revenue,
            };
            days.entry((day, hour.country.as_str().into(), hour.currency))
                .and_modify(|day| *day = day.checked_add(sums).unwrap())
                .or_insert(sums);
        }
        let summed: Vec<_> =
            days.iter().map(|(key, sums)| sums.result(Window::Day, key)).collect();
        prop_assert_eq!(windows.series(&everything(Window::Day)), summed);
    }

    /// Pages that each continue after the previous one give every window once and in order.
    #[test]
    fn pages_join_without_gaps_or_overlaps(events in events(), count_max in 1_usize..10, of_country in any::<bool>()) {
        let windows = folded(&events);
        let country = of_country.then(|| "EIRE".to_owned());
        let all = Selection { country, ..everything(Window::Hour) };
        let mut pages = Vec::new();
        let mut after = None;
        for _ in 0..=events.len() {
            let page = windows.series(&Selection { after: after.clone(), count_max, ..all.clone() });
            let Some(last) = page.last() else { break };
            after = Some((last.window_start, last.country.clone(), last.currency));
            pages.extend(page);
        }
        prop_assert_eq!(pages, windows.series(&all));
    }
}
