//! Pools of connections to Postgres that are used up: readiness names the cause, only requests that need a connection
//! of the pool are affected, and the node recovers by itself. Another program's lock makes a node's only connection
//! wait.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use system_tests::{
    Client, Deployment, Node, Poll,
    sale::{all_in_postgres, node_with_sales, sell},
    totals_by_source, until,
};

/// Longest time until readiness names a used-up pool, or a query is refused.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// The text by which a pool without a free connection is named.
const USED_UP: &str = "pool timed out while waiting for an open connection";

/// A query of the locked table.
const ORDERS: &str = "/api/v1/orders?limit=100";
/// Queries of other tables: in Postgres and in the CQL store.
const COUNTRIES: &str = "/api/v1/countries";
const HISTORY: &str = "/api/v1/customers/1/orders";

pub async fn a_used_up_pool_of_the_projectors_is_named_and_the_views_continue_once_it_is_free(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_one_connection(deployment).await?;
    let pool = deployment.postgres().await?;
    // A projector that waits for this lock has the only connection. Queries are not affected.
    let lock = lock_orders("EXCLUSIVE", &pool).await?;
    sell(&node, "during").await?;
    is_named(&node, "views").await?;
    for path in [ORDERS, COUNTRIES, HISTORY] {
        node.client().get(path).await?.expect(200)?;
    }
    lock.rollback().await?;
    pool.close().await;
    all_in_postgres(&mut node, deployment, 2).await
}

pub async fn a_used_up_pool_of_the_queries_is_named_and_they_are_answered_once_it_is_free(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_one_connection(deployment).await?;
    let pool = deployment.postgres().await?;
    let lock = lock_orders("ACCESS EXCLUSIVE", &pool).await?;
    let stop = AtomicBool::new(false);
    // The server cancels a query that waits for the lock for too long, so the next one takes the connection.
    let holding = query_until(&stop, node.client());
    let observing = async {
        let observed = observe_used_up_queries(&node).await;
        let unlocked = lock.rollback().await;
        stop.store(true, Ordering::Relaxed);
        observed?;
        unlocked?;
        anyhow::Ok(())
    };
    let (held, observed) = tokio::join!(holding, observing);
    observed?;
    held?;
    pool.close().await;
    node.ready().await?;
    for path in [ORDERS, COUNTRIES] {
        node.client().get(path).await?.expect(200)?;
    }
    Ok(())
}

/// Readiness names the pool, a query that needs a connection is refused, and one of the CQL store is answered.
async fn observe_used_up_queries(node: &Node) -> Result<()> {
    is_named(node, "postgres").await?;
    until("a refused query", REPORT_TIMEOUT, async || {
        let answer = node.client().get(COUNTRIES).await?;
        // Between two queries of the locked table, another one may get the connection.
        if answer.status == 200 {
            return Ok(Poll::Pending(answer.text));
        }
        answer.problem(503, "DATABASE_UNAVAILABLE")?;
        Ok(Poll::Ready(()))
    })
    .await?;
    node.client().get(HISTORY).await?.expect(200).map(drop)
}

/// Sends queries of the locked table, one after the other.
async fn query_until(stop: &AtomicBool, client: &Client) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let answer = client.get(ORDERS).await?;
        ensure!(
            [200, 503].contains(&answer.status),
            "{} instead of 200 or 503: {}",
            answer.status,
            answer.text
        );
    }
    Ok(())
}

/// A node whose views have applied one batch of sales. It has one connection for queries and one for projectors. A node
/// with more connections has created the tables, because with one connection the views would do so one after the other.
async fn node_with_one_connection(deployment: &Deployment) -> Result<Node> {
    let mut node = node_with_sales(deployment, "before").await?;
    node.kill().await?;
    let mut command = deployment.command();
    command.env("DAYBOOK_POSTGRES_CONNECTIONS_MAX", "1");
    let (listen, log) = (deployment.listen(), deployment.log("serve"));
    let mut node = Node::start(command, "serve", listen, &log).await?;
    node.ready().await?;
    Ok(node)
}

/// A transaction of another program that has locked the table of orders. `EXCLUSIVE` excludes other writers, and
/// `ACCESS EXCLUSIVE` readers as well.
async fn lock_orders(mode: &str, pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    let mut transaction = pool.begin().await?;
    let build = totals_by_source::serving_build("orders_v3", pool).await?;
    let lock = format!("LOCK TABLE orders_v3_b{build} IN {mode} MODE");
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// Waits until a component in the readiness names a used-up pool.
async fn is_named(node: &Node, component: &str) -> Result<()> {
    until("the reason in readiness", REPORT_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?;
        let found = ready.json()?["components"][component].clone();
        let is_named = found.as_str().is_some_and(|text| text.contains(USED_UP));
        Ok(Poll::of(is_named, || found.to_string()))
    })
    .await
}
