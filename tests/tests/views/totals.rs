//! The queries of the views with totals per customer and per country.

use crate::{
    backends::{BothBackends, run},
    log::{apply_batch, batch, open},
    queries::{assert_problem, get, id, sale, sale_commit, serve},
};
use journal::Valid;
use projections::{
    Databases,
    postgres::PostgresStore,
    views::{country_sales_v1::CountrySalesView, customers_v1::CustomersView},
};
use schemas::{
    Currency,
    orders::{Event, SaleImported},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A sale whose customer is `number` modulo 7, in pounds or, every fifth one, in euros.
fn order(number: i64) -> SaleImported {
    let currency = match number % 5 {
        0 => Currency::parse("EUR").unwrap(),
        _ => Currency::GBP,
    };
    SaleImported {
        customer: Some((number % 7).to_string()),
        currency,
        ..sale(number)
    }
}

fn commits(numbers: impl IntoIterator<Item = i64>) -> Vec<Valid<Event>> {
    let orders = (0..).zip(numbers);
    orders
        .map(|(offset, number)| sale_commit(offset, number, order(number)))
        .collect()
}

/// Applies the commits in two batches, so that the second one finds rows of the first.
async fn apply(databases: &Databases, commits: Vec<Valid<Event>>) {
    let (middle, end) = (commits.len() / 2, commits.len());
    let (first, second) = commits.split_at(middle);
    let offset = |count| i64::try_from(count).unwrap();
    let batches = [
        batch(0, offset(middle), first.to_vec()),
        batch(offset(middle), offset(end), second.to_vec()),
    ];
    let customers = PostgresStore::<CustomersView>::new(databases.postgres.clone(), 1);
    let countries = PostgresStore::<CountrySalesView>::new(databases.postgres.clone(), 1);
    open(&customers).await;
    open(&countries).await;
    for batch in batches {
        apply_batch(&customers, &batch).await.unwrap();
        apply_batch(&countries, &batch).await.unwrap();
    }
}

/// The entries of a list, from its first page to its last.
async fn read_all_pages(url: &str, member: &str) -> Vec<Value> {
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&format!("{url}{cursor}")).await;
        assert_eq!(status, 200, "{url}: {page}");
        walked.extend(page[member].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return walked,
        }
    }
}

/// The expected entries, by key and currency.
fn expected(
    numbers: impl IntoIterator<Item = i64>,
    member: &str,
    key: fn(&SaleImported) -> String,
) -> BTreeMap<(String, String), Value> {
    let mut groups = BTreeMap::<_, Vec<SaleImported>>::new();
    for order in numbers.into_iter().map(order) {
        let currency = order.currency.code().to_owned();
        groups
            .entry((key(&order), currency))
            .or_default()
            .push(order);
    }
    let entry = |(name, currency): &(String, String), orders: Vec<SaleImported>| {
        let times = || orders.iter().map(|order| order.ordered_at);
        json!({
            member: name,
            "orders": orders.len(),
            "credit_notes": 0,
            "lines": orders.len(),
            "total": {
                "amount": orders.iter().map(|order| order.total).sum::<i64>(),
                "currency": currency,
            },
            "first_order_at": times().min().unwrap().to_string(),
            "last_order_at": times().max().unwrap().to_string(),
        })
    };
    let entries = groups.into_iter().map(|(key, orders)| {
        let value = entry(&key, orders);
        (key, value)
    });
    entries.collect()
}

fn customer_of(order: &SaleImported) -> String {
    order.customer.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_are_sorted_by_last_order_or_by_total_over_all_pages() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, commits(0..80)).await;
        let api = serve(databases).await;
        let expected = expected(0..80, "id", customer_of);
        let mut by_time: Vec<_> = expected.iter().collect();
        by_time.sort_by_key(|(key, entry)| (entry["last_order_at"].as_str(), *key));
        by_time.reverse();
        let by_time: Vec<Value> = by_time
            .into_iter()
            .map(|(_, entry)| entry.clone())
            .collect();
        let pounds = |entry: &Value| entry["total"]["currency"] == "GBP";
        let mut by_total: Vec<_> = by_time
            .iter()
            .filter(|entry| pounds(entry))
            .cloned()
            .collect();
        by_total.sort_by_key(|entry| {
            let id = entry["id"].as_str().map(str::to_owned);
            (entry["total"]["amount"].as_i64(), id)
        });
        by_total.reverse();
        for limit in [1, 3, 100] {
            let url = format!("{api}/customers?limit={limit}");
            assert_eq!(read_all_pages(&url, "customers").await, by_time, "{limit}");
            let in_pounds: Vec<_> = by_time
                .iter()
                .filter(|entry| pounds(entry))
                .cloned()
                .collect();
            let found = read_all_pages(&format!("{url}&currency=GBP"), "customers").await;
            assert_eq!(found, in_pounds, "{limit}");
            let found =
                read_all_pages(&format!("{url}&currency=GBP&sort=total"), "customers").await;
            assert_eq!(found, by_total, "{limit}");
        }
        assert_problem(
            &format!("{api}/customers?sort=total"),
            400,
            "CURRENCY_REQUIRED",
        )
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_has_totals_in_each_currency() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, commits(0..80)).await;
        let api = serve(databases).await;
        let (status, customer) = get(&format!("{api}/customers/3")).await;
        assert_eq!(status, 200, "{customer}");
        let expected = expected(0..80, "id", customer_of);
        let of_customer = expected.into_iter().filter(|((id, _), _)| id == "3");
        let totals = of_customer.map(|(_, mut entry)| {
            entry.as_object_mut().unwrap().remove("id");
            entry
        });
        assert_eq!(
            customer,
            json!({"id": "3", "totals": totals.collect::<Vec<_>>()})
        );
        assert_problem(&format!("{api}/customers/9"), 404, "CUSTOMER_NOT_FOUND").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn countries_have_the_same_totals_whatever_the_order_of_events() {
    for numbers in [(0..80).collect::<Vec<_>>(), (0..80).rev().collect()] {
        run(async |BothBackends { databases, .. }: &BothBackends| {
            apply(databases, commits(numbers.clone())).await;
            let api = serve(databases).await;
            let expected = expected(0..80, "country", |order| order.country.clone());
            let expected: Vec<Value> = expected.into_values().collect();
            for limit in [1, 100] {
                let url = format!("{api}/countries?limit={limit}");
                assert_eq!(read_all_pages(&url, "countries").await, expected, "{limit}");
            }
            let found = read_all_pages(&format!("{api}/countries?currency=EUR"), "countries").await;
            let in_euros = expected
                .iter()
                .filter(|entry| entry["total"]["currency"] == "EUR");
            assert_eq!(found, in_euros.cloned().collect::<Vec<_>>());
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_get_of_an_unchanged_resource_returns_304() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        apply(databases, commits(0..80)).await;
        let api = serve(databases).await;
        let client = reqwest::Client::new();
        for path in ["customers", "customers/3", "countries?limit=1"] {
            let url = format!("{api}/{path}");
            let first = client.get(&url).send().await.unwrap();
            let tag = first.headers()["etag"].clone();
            let again = client.get(&url).header("if-none-match", &tag);
            let again = again.send().await.unwrap();
            assert_eq!(again.status(), 304, "{path}");
            assert_eq!(again.headers()["etag"], tag, "{path}");
            assert_eq!(again.text().await.unwrap(), "", "{path}");
        }
        // Another order of one country changes its totals.
        let url = format!("{api}/countries?limit=1");
        let tag = client.get(&url).send().await.unwrap().headers()["etag"].clone();
        let store = PostgresStore::<CountrySalesView>::new(databases.postgres.clone(), 1);
        let next = vec![sale_commit(80, 80, order(80))];
        apply_batch(&store, &batch(80, 81, next)).await.unwrap();
        let again = client.get(&url).header("if-none-match", &tag);
        let again = again.send().await.unwrap();
        assert_eq!(again.status(), 200, "order {}", id(80));
    })
    .await;
}
