//! The views of customers and of countries behind their queries.

use crate::{
    api::{assert_problem, get, pages, serve, texts},
    backends::{OnBoth, run},
    log::{batch, commit, open},
    queries::{credit_note, id, sale, sale_commit},
};
use journal::Valid;
use projections::{
    Databases, Store,
    postgres::PostgresStore,
    views::{country_sales_v1::CountrySalesView, customers_v1::CustomersView},
};
use schemas::{
    Currency,
    orders::{CreditNoteEvent, Event, SaleImported},
};
use serde_json::{Value, json};

/// Number of orders before the last batch.
const ORDERS: i64 = 60;

/// Applies orders, one in another currency, and a credit note in a second batch to both views.
async fn apply(databases: &Databases) {
    let in_euros = SaleImported {
        currency: Currency::parse("EUR").unwrap(),
        ..sale(1)
    };
    let mut commits: Vec<_> = (0..ORDERS)
        .map(|number| sale_commit(number, number, sale(number)))
        .collect();
    commits.push(sale_commit(ORDERS, ORDERS, in_euros));
    let mut note = credit_note(2);
    (note.total, note.issued_at) = (-100, sale(400).ordered_at);
    let note = Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note));
    let note_id = id(ORDERS + 1).replace("order", "creditnote");
    let note = commit(ORDERS + 1, &note_id, 1, note);
    apply_to(
        &PostgresStore::<CustomersView>::new(databases.postgres.clone()),
        &commits,
        &note,
    )
    .await;
    apply_to(
        &PostgresStore::<CountrySalesView>::new(databases.postgres.clone()),
        &commits,
        &note,
    )
    .await;
}

/// Two batches, the second of which changes a row of the first one.
async fn apply_to(
    store: &impl Store<Event = Event>,
    commits: &[Valid<Event>],
    last: &Valid<Event>,
) {
    open(store).await;
    let first = batch(0, last.offset, commits.to_vec());
    store.apply(&first).await.unwrap();
    let second = batch(last.offset, last.offset + 1, vec![last.clone()]);
    store.apply(&second).await.unwrap();
    // A replay of the second batch changes nothing: its checkpoint is stale.
    store.apply(&second).await.unwrap_err();
}

/// The sum of the totals of the orders that are chosen, in pence.
fn total_of(chosen: impl Fn(i64) -> bool) -> i64 {
    (0..ORDERS)
        .filter(|number| chosen(*number))
        .map(|number| sale(number).total)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_has_figures_in_each_currency() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        let (status, customer) = get(&format!("{api}/customers/1")).await;
        assert_eq!(status, 200, "{customer}");
        let time = |number| sale(number).ordered_at.to_string();
        let expected = json!({
            "id": "1",
            "currencies": [
                {
                    "orders": 1,
                    "credit_notes": 0,
                    "total": {"amount": 255, "currency": "EUR"},
                    "first_ordered_at": time(1),
                    "last_ordered_at": time(1),
                },
                {
                    "orders": 20,
                    "credit_notes": 0,
                    "total": {"amount": total_of(|number| number % 3 == 1), "currency": "GBP"},
                    "first_ordered_at": time(1),
                    "last_ordered_at": time(58),
                },
            ],
        });
        assert_eq!(customer, expected);
        let (_, customer) = get(&format!("{api}/customers/2")).await;
        let figures = &customer["currencies"][0];
        assert_eq!(figures["credit_notes"], 1, "{customer}");
        let total = total_of(|number| number % 3 == 2) - 100;
        assert_eq!(figures["total"]["amount"], total, "{customer}");
        assert_eq!(figures["last_ordered_at"], time(400), "{customer}");
        // Orders without a customer have no row.
        for unknown in ["0", "9"] {
            let url = format!("{api}/customers/{unknown}");
            assert_problem(&url, 404, "CUSTOMER_NOT_FOUND").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_sorted_by_last_order_or_by_total() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        for limit in [1, 2, 100] {
            let list = format!("{api}/customers?limit={limit}");
            let found = pages(&list, "customers").await;
            assert_eq!(texts(&found, "id"), ["2", "1", "1"], "{found:?}");
            let in_pounds = format!("{list}&currency=GBP&sort=total");
            let found = pages(&in_pounds, "customers").await;
            assert_eq!(texts(&found, "id"), ["2", "1"], "{found:?}");
            let in_euros = pages(&format!("{list}&currency=EUR"), "customers").await;
            assert_eq!(texts(&in_euros, "id"), ["1"], "{in_euros:?}");
        }
        let (_, page) = get(&format!("{api}/customers?limit=1")).await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let other = format!("{api}/customers?sort=total&currency=GBP&cursor={cursor}");
        assert_problem(&other, 400, "INVALID_CURSOR").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn countries_are_sorted_by_name_or_by_total() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        apply(databases).await;
        let api = serve(databases).await;
        for limit in [1, 2, 100] {
            let list = format!("{api}/countries?limit={limit}");
            let found = pages(&list, "countries").await;
            let keys: Vec<_> = found
                .iter()
                .map(|row| (&row["country"], &row["total"]["currency"]))
                .collect();
            let expected = [
                (&Value::from("France"), &Value::from("GBP")),
                (&Value::from("Norway"), &Value::from("EUR")),
                (&Value::from("Norway"), &Value::from("GBP")),
            ];
            assert_eq!(keys, expected);
            assert_eq!(found[0]["credit_notes"], 1, "{found:?}");
            assert_eq!(found[0]["orders"], 30, "{found:?}");
            let by_total = format!("{list}&currency=GBP&sort=total");
            let found = pages(&by_total, "countries").await;
            assert_eq!(texts(&found, "country"), ["Norway", "France"], "{found:?}");
            let totals: Vec<_> = found
                .iter()
                .map(|row| row["total"]["amount"].as_i64())
                .collect();
            let expected = [
                Some(total_of(|number| number % 2 == 1)),
                Some(total_of(|number| number % 2 == 0) - 100),
            ];
            assert_eq!(totals, expected);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_filter_or_a_missing_currency_is_refused() {
    run(async |OnBoth { databases, .. }: &OnBoth| {
        let api = serve(databases).await;
        for (query, code) in [
            ("customers?name=1", "UNKNOWN_OR_INVALID_PARAMETER"),
            ("customers?sort=name", "UNKNOWN_OR_INVALID_PARAMETER"),
            ("customers?sort=total", "PARAMETER_MISSING"),
            ("customers?currency=pounds", "INVALID_CURRENCY"),
            ("customers?limit=0", "INVALID_LIMIT"),
            ("countries?kind=SALE", "UNKNOWN_OR_INVALID_PARAMETER"),
            ("countries?sort=total", "PARAMETER_MISSING"),
            ("countries?cursor=00", "INVALID_CURSOR"),
        ] {
            assert_problem(&format!("{api}/{query}"), 400, code).await;
        }
    })
    .await;
}
