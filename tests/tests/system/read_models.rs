//! The read models after an import, cell by cell. `tests/python/read_models.py` computes the cells from the CSV alone.

use crate::import::{Imported, imported};
use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use schemas::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use system_tests::{environment::online_retail, python::python, totals_by_source::serving_build};
use tokio::sync::OnceCell;

/// Longest time for reading the CSV.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of pages of a list. Every list here has fewer.
const PAGES_MAX: usize = 400;
/// Number of timelines that are also read over HTTP.
const TIMELINES_READ: usize = 20;
/// The view of the timelines.
const TIMELINES: &str = "order_timeline_v1";

/// Entries by their key.
type Entries = BTreeMap<String, Value>;

/// The expected cells.
#[derive(Debug, Deserialize)]
struct Models {
    customers: Entries,
    countries: Entries,
    products: Entries,
    timelines: Entries,
}

/// The expected cells, computed once.
async fn models(imported: &Imported) -> Result<&'static Models> {
    static MODELS: OnceCell<Models> = OnceCell::const_new();
    let compute = async || {
        let environment = &imported.deployment.environment;
        let file = online_retail();
        let name = file.to_str().context("the path is not UTF-8")?;
        let text = python(environment, "read_models.py", &[name], TIMEOUT).await?;
        anyhow::Ok(serde_json::from_str(&text)?)
    };
    MODELS.get_or_try_init(compute).await
}

pub async fn the_view_of_customers_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    let expected = &models(&imported).await?.customers;
    let key = |entry: &Value| key_of(entry, "id");
    let found = read_all_pages(&imported, "/api/v1/customers", "customers", key).await?;
    compare("customers", &found, expected)?;
    let sorted = "/api/v1/customers?sort=total&currency=GBP";
    let found = read_all_pages(&imported, sorted, "customers", key).await?;
    compare("customers by total", &found, expected)?;
    // The query for one customer returns the same cells.
    let (_, entry) = expected.first_key_value().context("no customers")?;
    let id = entry["id"].as_str().context("no id")?;
    let customer = imported.node.client();
    let customer = customer
        .get_json(&format!("/api/v1/customers/{id}"))
        .await?;
    let mut totals = entry.clone();
    totals.as_object_mut().context("no object")?.remove("id");
    let expected = json!({"id": id, "totals": [totals]});
    ensure!(customer == expected, "{customer} instead of {expected}");
    Ok(())
}

pub async fn the_view_of_countries_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    let expected = &models(&imported).await?.countries;
    let key = |entry: &Value| key_of(entry, "country");
    let found = read_all_pages(&imported, "/api/v1/countries", "countries", key).await?;
    compare("countries", &found, expected)
}

pub async fn the_catalog_has_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    let expected = &models(&imported).await?.products;
    let key = |entry: &Value| entry["sku"].as_str().map(str::to_owned);
    for sort in ["name", "newest"] {
        let path = format!("/api/v1/products?sort={sort}");
        let mut found = read_all_pages(&imported, &path, "products", key).await?;
        for product in found.values_mut() {
            let product = product.as_object_mut().context("no object")?;
            let time = product.remove("created_at");
            let time = time.as_ref().and_then(Value::as_str).unwrap_or_default();
            Timestamp::parse(time).with_context(|| format!("created_at: {time:?}"))?;
        }
        compare(&path, &found, expected)?;
    }
    let path = "/api/v1/products?facets=true&limit=1";
    let facets = imported.node.client().get_json(path).await?["facets"].clone();
    let priced = expected
        .values()
        .filter(|product| !product["price"].is_null());
    let priced = priced.count();
    let found = (facets["priced"].as_u64(), facets["unpriced"].as_u64());
    let counts = (Some(priced as u64), Some((expected.len() - priced) as u64));
    ensure!(found == counts, "{path}: {found:?} instead of {counts:?}");
    Ok(())
}

pub async fn the_timelines_have_every_cell_of_the_file() -> Result<()> {
    let imported = imported().await?;
    let expected = &models(&imported).await?.timelines;
    let (found, ids) = read_timelines(&imported).await?;
    compare("timelines", &found, expected)?;
    let client = imported.node.client();
    for (invoice, id) in ids.iter().take(TIMELINES_READ) {
        let path = format!("/api/v1/orders/{id}/timeline");
        let mut page = client.get_json(&path).await?;
        let events = page["events"].as_array_mut().context("no events")?;
        for event in events.iter_mut() {
            let event = event.as_object_mut().context("no object")?;
            event.remove("recorded_at").context("no recorded_at")?;
        }
        let (found, expected) = (&page["events"], &expected[invoice]);
        ensure!(found == expected, "{path}: {found} instead of {expected}");
    }
    Ok(())
}

/// `<name>/<currency>` of an entry with totals.
fn key_of(entry: &Value, member: &str) -> Option<String> {
    let currency = entry["total"]["currency"].as_str()?;
    Some(format!("{}/{currency}", entry[member].as_str()?))
}

/// The entries of a list, from its first page to its last.
async fn read_all_pages(
    imported: &Imported,
    path: &str,
    member: &str,
    key: impl Fn(&Value) -> Option<String>,
) -> Result<Entries> {
    let (mut entries, mut cursor) = (Entries::new(), String::new());
    let joint = if path.contains('?') { '&' } else { '?' };
    for _ in 0..PAGES_MAX {
        let url = format!("{path}{joint}limit=100{cursor}");
        let page = imported.node.client().get_json(&url).await?;
        for entry in page[member].as_array().context("no entries")? {
            let key = key(entry).with_context(|| format!("{path}: {entry}"))?;
            let twice = entries.insert(key, entry.clone());
            ensure!(twice.is_none(), "{path}: twice in the list: {twice:?}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(entries),
        }
    }
    anyhow::bail!("{path} has more than {PAGES_MAX} pages")
}

/// The timelines and the ids of all orders, by invoice.
async fn read_timelines(imported: &Imported) -> Result<(Entries, BTreeMap<String, String>)> {
    type Row = (
        String,
        i64,
        String,
        i64,
        String,
        Option<String>,
        String,
        String,
        i64,
        i32,
    );
    let pool = imported.deployment.postgres().await?;
    let build = serving_build(TIMELINES, &pool).await?;
    pool.close().await;
    let session = imported.deployment.cql_session().await?;
    let table = format!("{}.{TIMELINES}_b{build}", imported.deployment.keyspace());
    let statement = format!(
        "SELECT order_id, version, event, happened_at_us, invoice, customer_id, country, currency, \
             total, line_count FROM {table}"
    );
    let rows = session.query_iter(statement, ()).await?;
    let mut rows = rows.rows_stream::<Row>()?;
    let (mut timelines, mut ids) = (BTreeMap::<String, Vec<Value>>::new(), BTreeMap::new());
    while let Some(row) = rows.try_next().await? {
        let (id, version, event, at, invoice, customer, country, currency, total, line_count) = row;
        let entry = json!({
            "version": version,
            "event": event,
            "happened_at": Timestamp(at).to_string(),
            "invoice": invoice,
            "customer": customer,
            "country": country,
            "total": {"amount": total, "currency": currency},
            "line_count": line_count,
        });
        timelines.entry(invoice.clone()).or_default().push(entry);
        ids.insert(invoice, id);
    }
    let timelines = timelines.into_iter();
    let timelines = timelines.map(|(invoice, entries)| (invoice, Value::from(entries)));
    Ok((timelines.collect(), ids))
}

/// Compares entries; the error has the first difference only, because whole maps are long.
fn compare(source: &str, found: &Entries, expected: &Entries) -> Result<()> {
    for key in found.keys().chain(expected.keys()) {
        let (found, expected) = (found.get(key), expected.get(key));
        ensure!(
            found == expected,
            "{source}, {key}: {found:?} instead of {expected:?}"
        );
    }
    Ok(())
}
