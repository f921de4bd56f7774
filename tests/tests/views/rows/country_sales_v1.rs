//! The rows of `country_sales_v1`.

use crate::{
    backends::{PostgresBackend, run},
    queries::{credit_note, sale},
    rows::{
        events::{COMPOSED, DECOMPOSED, EARLIEST, LATEST, TEXT, imported, issued},
        sales::{greatest_sale, keys_in_two_partitions, least_credit_note, sale_in_yen},
    },
    spec::{InPostgres, in_postgres},
};
use projections::{
    postgres::Instant,
    views::country_sales_v1::{CountryRow, CountrySalesView},
};
use schemas::orders::{CreditNoteIssued, Event, SaleImported};

type Countries = InPostgres<CountrySalesView>;

#[tokio::test(flavor = "multi_thread")]
async fn the_stored_rows_are_those_of_the_events() {
    run(async |backend: &PostgresBackend| {
        let mut countries = in_postgres::<CountrySalesView>(backend).await;
        two_partitions_feed_one_row(&mut countries).await;
        a_credit_note_needs_no_order(&mut countries).await;
        each_currency_has_a_row(&mut countries).await;
        each_spelling_has_a_row(&mut countries).await;
    })
    .await;
}

/// A sale like `sale(1)`, without a customer, to a country.
fn sold_to(country: &str) -> Event {
    imported(SaleImported {
        customer: None,
        country: country.into(),
        ..sale(1)
    })
}

/// The row of a country with one sale like `sale(1)`.
fn country(country: &str) -> CountryRow {
    let at = Instant(sale(1).ordered_at);
    CountryRow {
        country: country.into(),
        currency: "GBP".into(),
        orders: 1,
        credit_notes: 0,
        lines: 1,
        total: 255,
        first_order_at: at,
        last_order_at: at,
    }
}

async fn two_partitions_feed_one_row(countries: &mut Countries) {
    let (order_key, note_key) = keys_in_two_partitions();
    let row = CountryRow {
        credit_notes: 1,
        lines: 3,
        total: -1,
        first_order_at: Instant(EARLIEST),
        last_order_at: Instant(LATEST),
        ..country("Norway")
    };
    countries
        .given([(order_key, imported(greatest_sale(EARLIEST)))])
        .when((note_key, issued(least_credit_note(LATEST))))
        .then((vec![row],))
        .await;
}

async fn a_credit_note_needs_no_order(countries: &mut Countries) {
    let note = CreditNoteIssued {
        country: "France".into(),
        total: i64::MIN,
        ..credit_note(1)
    };
    let row = CountryRow {
        orders: 0,
        credit_notes: 1,
        total: i64::MIN,
        ..country("France")
    };
    countries
        .given([])
        .when(("creditnote_2", issued(note)))
        .then((vec![row],))
        .await;
}

async fn each_currency_has_a_row(countries: &mut Countries) {
    let in_yen = SaleImported {
        country: "Japan".into(),
        ..sale_in_yen()
    };
    let row = CountryRow {
        currency: "JPY".into(),
        total: i64::MAX,
        ..country("Japan")
    };
    countries
        .given([("order_2", sold_to("Japan"))])
        .when(("order_3", imported(in_yen)))
        .then((vec![country("Japan"), row],))
        .await;
}

async fn each_spelling_has_a_row(countries: &mut Countries) {
    let spellings = [COMPOSED, DECOMPOSED, "EIRE", "Eire", "EIRE ", TEXT];
    let keys = ["order_4", "order_5", "order_6", "order_7", "order_8"];
    let others = keys.into_iter().zip(spellings.map(sold_to));
    countries
        .given(others)
        .when(("order_9", sold_to(TEXT)))
        .then((spellings.map(country).to_vec(),))
        .await;
}
