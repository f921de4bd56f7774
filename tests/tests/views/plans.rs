//! The query plans of the list of orders over many rows: no combination of filters reads more than two pages of rows.

use crate::{
    backends::{BothBackends, run},
    log::open,
};
use projections::{
    View,
    builds::Build,
    columns::Columns,
    postgres::PostgresStore,
    views::orders_v2::{OrderRow, OrdersView, explain_page},
};
use serde_json::Value;

/// The build whose table has the rows.
const BUILD: Build = Build::first(OrdersView::NAME);
/// Rows of the table.
const ROWS: i64 = 60_000;
/// Rows of a page in these queries.
const LIMIT: u32 = 20;
/// Maximum number of rows that a plan may read. A query has a part per kind, and each part reads one row more than a
/// page.
const ROWS_READ_MAX: u32 = 2 * (LIMIT + 1);

/// Fills the table with orders that are hard to find in a list that starts with the newest order. The customer `late`
/// has one order, the oldest of all, in the country with the most orders. All credit notes are among the 300 oldest
/// rows, and all orders of the country `Nowhere` are among the 100 oldest.
async fn fill(pool: &sqlx::PgPool) {
    let table = BUILD.table(OrderRow::TABLE);
    let columns = "order_id, kind, invoice, customer_id, country, ordered_at, currency, total, line_count, version";
    let statements = format!(
        "INSERT INTO {table} ({columns}) \
         SELECT 'order_' || n, CASE WHEN n < 300 AND n % 3 = 0 THEN 'CREDIT_NOTE' ELSE 'SALE' END, n, \
             CASE WHEN n = 0 THEN 'late' WHEN n % 2 = 0 THEN 'often' ELSE (n % 1000)::text END, \
             CASE WHEN n > 0 AND n < 100 THEN 'Nowhere' ELSE 'United Kingdom' END, \
             timestamptz '2011-01-01' + n * interval '1 minute', 'GBP', 1, 1, 1 \
         FROM generate_series(0, {ROWS} - 1) AS n; \
         ANALYZE {table};"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(pool)
        .await
        .unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn no_combination_of_filters_reads_more_than_two_pages() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        let pool = &databases.postgres;
        open(&PostgresStore::<OrdersView>::new(pool.clone(), 1)).await;
        fill(pool).await;
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
        let mut expensive = Vec::new();
        for customer in customers {
            for country in countries {
                for kind in kinds {
                    for time in times {
                        let filters = [customer, country, kind, time];
                        let filters = filters.into_iter().filter(|filter| !filter.is_empty());
                        let filters = filters.collect::<Vec<_>>().join("&");
                        let query = format!("{filters}&limit={LIMIT}");
                        let plan = explain_page(pool, BUILD, &query).await.unwrap();
                        let read = rows_read(&plan[0]["Plan"]);
                        if read > f64::from(ROWS_READ_MAX) {
                            expensive.push(format!("{filters}: {read} rows"));
                        }
                    }
                }
            }
        }
        assert!(
            expensive.is_empty(),
            "more than {ROWS_READ_MAX} rows: {expensive:#?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_the_server_cancels_is_not_called_an_outage() {
    run(async |BothBackends { databases, .. }: &BothBackends| {
        let pool = &databases.postgres;
        open(&PostgresStore::<OrdersView>::new(pool.clone(), 1)).await;
        // Another transaction holds the table longer than a statement may take. It is idle meanwhile, which the server
        // would end after the same time.
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
