//! The cells of every view, compared with those that `tests/python/read_models.py` computes from a CSV file alone.

use anyhow::{Context, Result, bail, ensure};
use futures_util::TryStreamExt;
use projections::{versions::Versions, views::VIEWS};
use schemas::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use std::{collections::BTreeMap, path::Path, time::Duration};
use system_tests::{
    Deployment, Node, environment::Environment, python::python, totals_by_source::serving_build,
};

/// Longest time for reading the CSV.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of pages of a list. Every list here has fewer.
const PAGES_MAX: usize = 400;
/// Number of timelines that are also read over HTTP.
const TIMELINES_READ: usize = 20;
/// Prefix of the partitions of orders without a customer. A day follows it.
const NO_CUSTOMER: &str = "none:";

/// Entries by their key.
type Entries = BTreeMap<String, Value>;

/// The cells that the views must have after an import.
#[derive(Debug, Clone, Deserialize)]
pub struct Cells {
    customers: Entries,
    countries: Entries,
    products: Entries,
    orders: Entries,
    lines: Entries,
    timelines: Entries,
}

/// The views of a deployment, and a node that answers their queries.
#[derive(Clone, Copy)]
pub struct Views<'a> {
    pub deployment: &'a Deployment,
    pub node: &'a Node,
}

impl Cells {
    /// Computes the cells after an import of a file.
    pub async fn of(file: &Path) -> Result<Self> {
        let environment = Environment::read()?;
        let name = file.to_str().context("the path is not UTF-8")?;
        let text = python(&environment, "read_models.py", &[name], TIMEOUT).await?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    /// Number of invoices.
    pub fn invoices(&self) -> usize {
        self.orders.len()
    }

    /// The invoice in the middle of all invoices.
    pub fn middle_invoice(&self) -> Result<&str> {
        let invoice = self.orders.keys().nth(self.orders.len() / 2);
        invoice.map(String::as_str).context("no invoices")
    }

    /// The cells of the views of orders without one invoice.
    pub fn without_invoice(&self, invoice: &str) -> Self {
        let mut cells = self.clone();
        cells.orders.remove(invoice);
        cells.lines.remove(invoice);
        cells
    }
}

impl Views<'_> {
    /// Compares the newest version of every view of the registry, which answers in a new deployment. A version without
    /// a comparison here is an error.
    pub async fn check_all(self, cells: &Cells) -> Result<()> {
        for view in Versions::of_all(VIEWS) {
            match view.newest().name {
                "orders_v3" => self.check_orders(cells).await?,
                "orders_by_customer_v2" => self.check_history(cells).await?,
                "customers_v1" => self.check_customers(cells).await?,
                "country_sales_v1" => self.check_countries(cells).await?,
                "catalog_v1" => self.check_catalog(cells).await?,
                "order_timeline_v1" => self.check_timelines(cells).await?,
                view => bail!("the cells of {view} are not compared"),
            }
        }
        Ok(())
    }

    /// `orders_v3`: orders and their lines, read from the tables.
    pub async fn check_orders(self, cells: &Cells) -> Result<()> {
        type Row = (
            String,
            String,
            String,
            Option<String>,
            String,
            i64,
            String,
            i64,
            i32,
            i64,
        );
        type LineRow = (String, i32, String, Option<String>, i64, i64, i64);
        let pool = self.deployment.postgres().await?;
        let build = serving_build("orders_v3", &pool).await?;
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT order_id, invoice, kind, customer_id, country, \
                 (extract(epoch FROM ordered_at) * 1000000)::bigint, currency, total, line_count, \
                 version \
             FROM orders_v3_b{build}"
        )))
        .fetch_all(&pool)
        .await?;
        let line_rows: Vec<LineRow> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT order_id, line_number, sku, description, quantity, unit_price, amount \
             FROM orders_v3_lines_b{build} ORDER BY order_id, line_number"
        )))
        .fetch_all(&pool)
        .await?;
        pool.close().await;
        let (mut orders, mut invoices) = (Entries::new(), BTreeMap::new());
        for (id, invoice, kind, customer, country, at, currency, total, line_count, version) in rows
        {
            let total = (total, &*currency);
            let entry = order(&kind, customer, &country, at, total, line_count, version);
            add("orders_v3", &mut orders, &invoice, entry)?;
            invoices.insert(id, invoice);
        }
        compare("orders_v3", &orders, &cells.orders)?;
        let mut lines = BTreeMap::<String, Vec<Value>>::new();
        for (id, number, sku, description, quantity, unit_price, amount) in line_rows {
            let invoice = invoices.get(&id);
            let invoice = invoice.with_context(|| format!("{id} has a line, but no order"))?;
            let of_order = lines.entry(invoice.clone()).or_default();
            ensure!(
                usize::try_from(number)? == of_order.len() + 1,
                "{invoice}: line {number} after {} lines",
                of_order.len()
            );
            of_order.push(
                json!({"sku": sku, "description": description, "quantity": quantity,
                "unit_price": unit_price, "amount": amount}),
            );
        }
        let lines = lines.into_iter();
        let lines: Entries = lines
            .map(|(invoice, lines)| (invoice, Value::from(lines)))
            .collect();
        compare("orders_v3_lines", &lines, &cells.lines)
    }

    /// `orders_by_customer_v2`, read from the table.
    pub async fn check_history(self, cells: &Cells) -> Result<()> {
        type Row = (String, i64, String, String, String, String, i64, i32, i64);
        let columns = "customer_id, ordered_at_us, invoice, kind, country, currency, total, line_count, \
             version";
        let statement = self.cql_statement("orders_by_customer_v2", columns).await?;
        let session = self.deployment.cql_session().await?;
        let rows = session.query_iter(statement, ()).await?;
        let mut rows = rows.rows_stream::<Row>()?;
        let mut orders = Entries::new();
        while let Some(row) = rows.try_next().await? {
            let (customer, at, invoice, kind, country, currency, total, line_count, version) = row;
            let time = Timestamp(at).to_string();
            let customer = match customer.strip_prefix(NO_CUSTOMER) {
                Some(day) => {
                    ensure!(
                        time.starts_with(day),
                        "{invoice} of {time} is in {customer}"
                    );
                    None
                }
                None => Some(customer),
            };
            let total = (total, &*currency);
            let entry = order(&kind, customer, &country, at, total, line_count, version);
            add("orders_by_customer_v2", &mut orders, &invoice, entry)?;
        }
        compare("orders_by_customer_v2", &orders, &cells.orders)
    }

    /// `customers_v1`, read over HTTP.
    pub async fn check_customers(self, cells: &Cells) -> Result<()> {
        let expected = &cells.customers;
        let key = |entry: &Value| key_of(entry, "id");
        let found = self
            .read_all_pages("/api/v1/customers", "customers", key)
            .await?;
        compare("customers", &found, expected)?;
        let sorted = "/api/v1/customers?sort=total&currency=GBP";
        let found = self.read_all_pages(sorted, "customers", key).await?;
        compare("customers by total", &found, expected)?;
        // The query for one customer returns the same cells.
        let (_, entry) = expected.first_key_value().context("no customers")?;
        let id = entry["id"].as_str().context("no id")?;
        let customer = self.node.client();
        let customer = customer
            .get_json(&format!("/api/v1/customers/{id}"))
            .await?;
        let mut totals = entry.clone();
        totals.as_object_mut().context("no object")?.remove("id");
        let expected = json!({"id": id, "totals": [totals]});
        ensure!(customer == expected, "{customer} instead of {expected}");
        Ok(())
    }

    /// `country_sales_v1`, read over HTTP.
    pub async fn check_countries(self, cells: &Cells) -> Result<()> {
        let key = |entry: &Value| key_of(entry, "country");
        let found = self
            .read_all_pages("/api/v1/countries", "countries", key)
            .await?;
        compare("countries", &found, &cells.countries)
    }

    /// `catalog_v1`, read over HTTP.
    pub async fn check_catalog(self, cells: &Cells) -> Result<()> {
        let expected = &cells.products;
        let key = |entry: &Value| entry["sku"].as_str().map(str::to_owned);
        for sort in ["name", "newest"] {
            let path = format!("/api/v1/products?sort={sort}");
            let mut found = self.read_all_pages(&path, "products", key).await?;
            for product in found.values_mut() {
                let product = product.as_object_mut().context("no object")?;
                let time = product.remove("created_at");
                let time = time.as_ref().and_then(Value::as_str).unwrap_or_default();
                Timestamp::parse(time).with_context(|| format!("created_at: {time:?}"))?;
            }
            compare(&path, &found, expected)?;
        }
        let path = "/api/v1/products?facets=true&limit=1";
        let facets = self.node.client().get_json(path).await?["facets"].clone();
        let priced = expected
            .values()
            .filter(|product| !product["price"].is_null());
        let priced = priced.count();
        let found = (facets["priced"].as_u64(), facets["unpriced"].as_u64());
        let counts = (Some(priced as u64), Some((expected.len() - priced) as u64));
        ensure!(found == counts, "{path}: {found:?} instead of {counts:?}");
        Ok(())
    }

    /// `order_timeline_v1`, read from the table, and some also over HTTP.
    pub async fn check_timelines(self, cells: &Cells) -> Result<()> {
        let expected = &cells.timelines;
        let (found, ids) = self.read_timelines().await?;
        compare("timelines", &found, expected)?;
        let client = self.node.client();
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

    /// The entries of a list, from its first page to its last.
    async fn read_all_pages(
        self,
        path: &str,
        member: &str,
        key: impl Fn(&Value) -> Option<String>,
    ) -> Result<Entries> {
        let (mut entries, mut cursor) = (Entries::new(), String::new());
        let joint = if path.contains('?') { '&' } else { '?' };
        for _ in 0..PAGES_MAX {
            let url = format!("{path}{joint}limit=100{cursor}");
            let page = self.node.client().get_json(&url).await?;
            for entry in page[member].as_array().context("no entries")? {
                let key = key(entry).with_context(|| format!("{path}: {entry}"))?;
                add(path, &mut entries, &key, entry.clone())?;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(entries),
            }
        }
        bail!("{path} has more than {PAGES_MAX} pages")
    }

    /// The timelines and the ids of all orders, by invoice.
    async fn read_timelines(self) -> Result<(Entries, BTreeMap<String, String>)> {
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
        let columns = "order_id, version, event, happened_at_us, invoice, customer_id, country, currency, \
             total, line_count";
        let statement = self.cql_statement("order_timeline_v1", columns).await?;
        let session = self.deployment.cql_session().await?;
        let rows = session.query_iter(statement, ()).await?;
        let mut rows = rows.rows_stream::<Row>()?;
        let (mut timelines, mut ids) = (BTreeMap::<String, Vec<Value>>::new(), BTreeMap::new());
        while let Some(row) = rows.try_next().await? {
            let (id, version, event, at, invoice, customer, country, currency, total, line_count) =
                row;
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

    /// A statement that reads all rows of a view in the CQL store.
    async fn cql_statement(self, view: &str, columns: &str) -> Result<String> {
        let pool = self.deployment.postgres().await?;
        let build = serving_build(view, &pool).await?;
        pool.close().await;
        let keyspace = self.deployment.keyspace();
        Ok(format!("SELECT {columns} FROM {keyspace}.{view}_b{build}"))
    }
}

/// The cells of an order in either view of orders; the total has its currency.
fn order(
    kind: &str,
    customer: Option<String>,
    country: &str,
    ordered_at_us: i64,
    (total, currency): (i64, &str),
    line_count: i32,
    version: i64,
) -> Value {
    json!({
        "kind": kind,
        "customer": customer,
        "country": country,
        "ordered_at": Timestamp(ordered_at_us).to_string(),
        "total": {"amount": total, "currency": currency},
        "line_count": line_count,
        "version": version,
    })
}

/// Adds an entry, whose key must be new.
fn add(source: &str, entries: &mut Entries, key: &str, entry: Value) -> Result<()> {
    let twice = entries.insert(key.to_owned(), entry);
    ensure!(twice.is_none(), "{source} has {key} twice: {twice:?}");
    Ok(())
}

/// `<name>/<currency>` of an entry with totals.
fn key_of(entry: &Value, member: &str) -> Option<String> {
    let currency = entry["total"]["currency"].as_str()?;
    Some(format!("{}/{currency}", entry[member].as_str()?))
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
