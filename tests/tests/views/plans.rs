//! The rows that queries read of large tables, for the newest version of each view. No combination of the parameters of
//! a query in Postgres scans a table or reads a large part of it, and no combination of filters of the list of orders
//! reads more than two pages of rows.

use crate::{
    backends::{BothBackends, run},
    log::open,
};
use projections::{
    Databases, View,
    builds::Build,
    columns::Columns,
    postgres::PostgresStore,
    registration::Registration,
    versions::Versions,
    views::{
        VIEWS,
        orders_v3::{OrderRow, OrdersView, explain_page},
    },
};
use serde_json::Value;
use sqlx::PgPool;
use std::fs;
use system_tests::source_tree::root;

/// The build whose table has the rows.
const BUILD: Build = Build::first(OrdersView::NAME);
/// Rows of the table.
const ROWS: i64 = 60_000;
/// Rows of a page in these queries.
const LIMIT: u32 = 20;
/// Maximum number of rows that a plan may read. A query has a part per kind, and each part reads one row more than a
/// page.
const ROWS_READ_MAX: u32 = 2 * (LIMIT + 1);
/// Maximum number of rows that a request may read from indexes, for the queries of all views.
const PART_READ_MAX: i64 = ROWS / 10;
/// Values of parameters besides the examples and symbols in the OpenAPI document. They select rows that are hard to
/// find, or most of the rows.
const MORE_VALUES: [(&str, &str); 6] = [
    ("country", "Nowhere"),
    ("currency", "EUR"),
    ("customer", "late"),
    ("customer", "often"),
    ("from", "2011-01-20T00:00:00Z"),
    ("to", "2011-01-01T05:00:00Z"),
];
/// Parameters that the requests leave out: the test takes cursors from answers, and facets count every matching row.
const LEFT_OUT: [&str; 2] = ["cursor", "facets"];

/// A file of a view's folder, for the view's first build.
fn file(view: &'static str, name: &str) -> String {
    let path = root().join("projections/src/views").join(view).join(name);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Build::first(view).fill(&text)
}

/// The statements that add [`ROWS`] rows to a view's tables, and the resources of the examples in the OpenAPI document.
fn sample_rows(view: &'static str) -> String {
    file(view, "sample_rows.sql").replace("{rows}", &ROWS.to_string())
}

/// Executes statements, in a transaction of their own.
async fn execute(statements: String, pool: &PgPool) {
    let mut transaction = pool.begin().await.unwrap();
    for statement in [
        "SET LOCAL statement_timeout = '5min'".to_owned(),
        statements,
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
}

/// The number of rows that the scans of a plan return or filter out.
fn rows_read(plan: &Value) -> f64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let loops = number("Actual Loops").max(1.0);
    let is_scan = plan["Node Type"]
        .as_str()
        .is_some_and(|name| name.contains("Scan"));
    let own = match is_scan {
        true => (number("Actual Rows") + number("Rows Removed by Filter")) * loops,
        false => 0.0,
    };
    let children = plan["Plans"].as_array().into_iter().flatten();
    own + children.map(rows_read).sum::<f64>()
}

/// Every combination of one filter of each list, as a query string.
fn combinations(lists: &[&[&str]]) -> Vec<String> {
    let mut combined = vec![String::new()];
    for list in lists {
        let longer = combined.iter();
        let longer = longer.flat_map(|filters| {
            let choices = list.iter();
            choices.map(move |filter| match filter.is_empty() {
                true => filters.clone(),
                false => format!("{filters}&{filter}"),
            })
        });
        combined = longer.collect();
    }
    combined
}

#[tokio::test(flavor = "multi_thread")]
async fn no_combination_of_filters_reads_more_than_two_pages() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        let pool = &databases.postgres;
        open(&PostgresStore::<OrdersView>::new(pool.clone(), 1)).await;
        execute(sample_rows(OrdersView::NAME) + "ANALYZE;", pool).await;
        let customers = [
            "",
            "customer=late",
            "customer=often",
            "customer=7",
            "customer=none",
        ];
        let countries = ["", "country=Nowhere", "country=United%20Kingdom"];
        let kinds = ["", "kind=SALE", "kind=CREDIT_NOTE"];
        let times = [
            "",
            "to=2011-01-01T05:00:00Z",
            "from=2011-01-20T00:00:00Z",
            "from=2011-01-01T00:00:00Z&to=2011-02-01T00:00:00Z",
        ];
        let invoices = ["", "invoice=8", "invoice=none"];
        let mut expensive = Vec::new();
        for filters in combinations(&[&customers, &countries, &kinds, &times, &invoices]) {
            let query = format!("{filters}&limit={LIMIT}");
            let plan = explain_page(pool, BUILD, &query).await.unwrap();
            let read = rows_read(&plan[0]["Plan"]);
            if read > f64::from(ROWS_READ_MAX) {
                expensive.push(format!("{filters}: {read} rows"));
            }
        }
        assert!(
            expensive.is_empty(),
            "more than {ROWS_READ_MAX} rows: {expensive:#?}"
        );
    })
    .await;
}

/// Creates and fills the tables of these views. Uses the connection of [`counts`], because another connection might
/// send its counts later.
async fn fill_all(views: &[&Registration], pool: &PgPool) {
    // The first view creates the tables that all views share.
    open(&PostgresStore::<OrdersView>::new(pool.clone(), 1)).await;
    for view in views {
        execute(file(view.name, "schema.sql"), pool).await;
        execute(sample_rows(view.name), pool).await;
    }
    execute("ANALYZE;".to_owned(), pool).await;
}

/// The number of scans of a view's tables, and the number of entries that scans of their indexes have returned. The
/// pool must have a single connection, because a connection sends only its own counts before they are read.
async fn counts(pool: &PgPool, view: &str) -> (i64, i64) {
    sqlx::query("SELECT pg_stat_force_next_flush()")
        .execute(pool)
        .await
        .unwrap();
    let counts = "SELECT \
        (SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE starts_with(relname, $1)), \
        (SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE starts_with(relname, $1))";
    let counts = sqlx::query_as(counts).bind(view).fetch_one(pool).await;
    counts.unwrap()
}

/// The symbols of an enumeration anywhere in a schema.
fn symbols(document: &Value, schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(members) => {
            if let Some(symbols) = schema["enum"].as_array() {
                let symbols = symbols.iter().filter_map(Value::as_str);
                return symbols.map(str::to_owned).collect();
            }
            let referred = schema["$ref"].as_str().and_then(|reference| {
                let pointer = reference.trim_start_matches('#');
                document.pointer(pointer)
            });
            let parts = members.values().chain(referred);
            parts.flat_map(|part| symbols(document, part)).collect()
        }
        Value::Array(parts) => {
            let parts = parts.iter();
            parts.flat_map(|part| symbols(document, part)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// The values of a parameter of the query string: its symbols or its example, and those in [`MORE_VALUES`].
fn values(document: &Value, parameter: &Value) -> Vec<String> {
    let name = parameter["name"].as_str().unwrap();
    let mut values = symbols(document, &parameter["schema"]);
    if values.is_empty() {
        values.push(text(&parameter["example"]));
    }
    if parameter["example"].is_boolean() {
        values = vec!["true".to_owned(), "false".to_owned()];
    }
    let more = MORE_VALUES.iter().filter(|(of, _)| *of == name);
    values.extend(more.map(|(_, value)| (*value).to_owned()));
    values
}

fn text(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| value.to_string())
}

/// The requests for a query: its path with the examples of the document, and every combination of its parameters.
fn requests(document: &Value, path: &str, query: &Value) -> Vec<String> {
    let parameters = query["parameters"].as_array().into_iter().flatten();
    let (mut path, mut requests) = (path.to_owned(), vec![String::new()]);
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        if parameter["in"] == "path" {
            path = path.replace(&format!("{{{name}}}"), &text(&parameter["example"]));
        }
        if parameter["in"] != "query" || LEFT_OUT.contains(&name) {
            continue;
        }
        let pairs = values(document, parameter).into_iter();
        let mut choices: Vec<String> = pairs.map(|value| format!("{name}={value}&")).collect();
        // A page has the same length in each request.
        if parameter["required"] != true && name != "limit" {
            choices.push(String::new());
        }
        let combined = requests.iter();
        let combined = combined.flat_map(|request| {
            let choices = choices.iter();
            choices.map(move |choice| format!("{request}{choice}"))
        });
        requests = combined.collect();
    }
    let requests = requests.into_iter();
    requests.map(|query| format!("{path}?{query}")).collect()
}

/// The requests that read too many rows of a view's tables, each with its number of scans and of rows. Follows each
/// list to its second page. A combination of parameters that the query refuses is left out.
async fn expensive_requests(databases: &Databases, api: &str, view: &Registration) -> Vec<String> {
    let document = serde_json::to_value(view.document()).unwrap();
    let mut expensive = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let mut answered = 0;
        for request in requests(&document, path, &methods["get"]) {
            let mut cursor = String::new();
            for _ in 0..2 {
                let url = format!("{api}{request}{cursor}");
                let before = counts(&databases.postgres, view.name).await;
                let (status, answer) = crate::queries::get(&url).await;
                assert!([200, 400].contains(&status), "{url}: {answer}");
                if status == 400 {
                    break;
                }
                answered += 1;
                let after = counts(&databases.postgres, view.name).await;
                let (scans, read) = (after.0 - before.0, after.1 - before.1);
                if scans > 0 || read > PART_READ_MAX {
                    expensive.push(format!("{request}: {scans} scans, {read} rows of indexes"));
                }
                match answer["next_cursor"].as_str() {
                    Some(next) => cursor = format!("cursor={next}"),
                    None => break,
                }
            }
        }
        assert!(answered > 0, "no request for {path} is answered");
    }
    expensive
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_scans_a_table_or_reads_a_large_part_of_it() {
    run(async |backends: &BothBackends| {
        let databases = backends.with_one_connection();
        let views = Versions::of_all(VIEWS);
        let views = views.iter().map(Versions::newest);
        let views: Vec<&Registration> = views.filter(|view| view.database == "Postgres").collect();
        fill_all(&views, &databases.postgres).await;
        let api = crate::queries::serve(&databases).await;
        let mut expensive = Vec::new();
        for view in views {
            expensive.extend(expensive_requests(&databases, &api, view).await);
        }
        assert!(
            expensive.is_empty(),
            "a scan, or more than {PART_READ_MAX} rows: {expensive:#?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_the_server_cancels_is_not_called_an_outage() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        let pool = &databases.postgres;
        open(&PostgresStore::<OrdersView>::new(pool.clone(), 1)).await;
        // Another transaction locks the table for longer than a statement may take. It is idle meanwhile, so its own
        // timeout is disabled.
        let mut holder = pool.begin().await.unwrap();
        sqlx::raw_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *holder)
            .await
            .unwrap();
        let lock = format!(
            "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            BUILD.table(OrderRow::TABLE)
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock))
            .execute(&mut *holder)
            .await
            .unwrap();
        let api = crate::queries::serve(databases).await;
        let (status, problem) = crate::queries::get(&format!("{api}/orders?kind=SALE")).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (503, Some("QUERY_TOO_EXPENSIVE")),
            "{problem}"
        );
        let narrow = problem["narrow"].as_array().unwrap();
        assert!(
            narrow.iter().any(|name| name == "from"),
            "no from in narrow: {problem}"
        );
        holder.rollback().await.unwrap();
    })
    .await;
}
