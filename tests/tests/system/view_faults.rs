//! Faults of a view's database: readiness names each fault, and the view continues by itself once the fault is
//! removed.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, PgPool};
use std::time::Duration;
use system_tests::{
    Deployment, Node, Poll,
    sale::{all_in_postgres, node_with_sales, sell},
    until,
};

/// Longest time until readiness names a fault.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// The view's table of orders.
const TABLE: &str = "orders_v3_b1";

pub async fn an_altered_table_is_named_and_the_view_continues_once_it_is_restored(
    deployment: &Deployment,
) -> Result<()> {
    let rename = |from: &str, to: &str| format!("ALTER TABLE {TABLE} RENAME COLUMN {from} TO {to}");
    let fault = Fault {
        breaks: vec![rename("country", "land")],
        repairs: vec![rename("land", "country")],
        reason: "country".to_owned(),
    };
    fault.is_named_until_it_is_removed(deployment).await
}

pub async fn a_read_only_database_is_named_and_the_view_continues_once_it_is_writable(
    deployment: &Deployment,
) -> Result<()> {
    let read_only = |value: &str| {
        let database = deployment.postgres_name();
        format!("ALTER DATABASE {database} SET default_transaction_read_only = {value}")
    };
    // Sessions keep the setting with which they began.
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let fault = Fault {
        breaks: vec![read_only("on"), end_sessions.to_owned()],
        repairs: vec![read_only("off")],
        reason: "read-only".to_owned(),
    };
    fault.is_named_until_it_is_removed(deployment).await
}

pub async fn a_missing_right_is_named_and_the_view_continues_once_it_is_granted(
    deployment: &Deployment,
) -> Result<()> {
    // The test's own role is a superuser, which needs no right.
    let role = format!("{}_node", deployment.postgres_name());
    create_role(deployment, &role).await?;
    let deployment = deployment.clone().with_postgres_role(&role)?;
    // Every right of the node's role on the table comes from its ownership.
    let give_to = |owner: &str| format!("ALTER TABLE {TABLE} OWNER TO {owner}");
    let fault = Fault {
        breaks: vec![give_to("CURRENT_USER")],
        repairs: vec![give_to(&role)],
        reason: format!("permission denied for table {TABLE}"),
    };
    fault.is_named_until_it_is_removed(&deployment).await
}

/// Creates a role that may create the deployment's database.
async fn create_role(deployment: &Deployment, role: &str) -> Result<()> {
    let server = deployment.environment.postgres_database("postgres");
    let server = PgPool::connect(&server).await?;
    let create = format!("CREATE ROLE {role} LOGIN CREATEDB");
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&server)
        .await?;
    server.close().await;
    Ok(())
}

/// A fault of the database of a view.
struct Fault {
    /// The statements that make it.
    breaks: Vec<String>,
    /// The statements that remove it.
    repairs: Vec<String>,
    /// The text that readiness must contain meanwhile.
    reason: String,
}

impl Fault {
    async fn is_named_until_it_is_removed(&self, deployment: &Deployment) -> Result<()> {
        let mut node = node_with_sales(deployment, "before").await?;
        let pool = deployment.postgres().await?;
        run_all(&pool, &self.breaks).await?;
        sell(&node, "during").await?;
        is_named(&node, &self.reason).await?;
        run_all(&pool, &self.repairs).await?;
        pool.close().await;
        all_in_postgres(&mut node, deployment, 2).await?;
        let parked = deployment.run_successfully(&["views", "parked"]).await?;
        let nothing = "no aggregate is parked";
        ensure!(
            parked.stdout.contains(nothing),
            "no {nothing:?} in: {}",
            parked.stdout
        );
        Ok(())
    }
}

/// Runs statements in a session that may write.
async fn run_all(pool: &PgPool, statements: &[String]) -> Result<()> {
    let mut connection = pool.acquire().await?;
    sqlx::raw_sql("SET default_transaction_read_only = off")
        .execute(&mut *connection)
        .await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Waits until the view's component in the readiness contains the reason.
async fn is_named(node: &Node, reason: &str) -> Result<()> {
    until("the reason in readiness", REPORT_TIMEOUT, async || {
        let ready = node.client().get("/health/ready").await?;
        let found = ready.json()?["components"]["view.orders_v3"].clone();
        let is_named = found.as_str().is_some_and(|text| text.contains(reason));
        Ok(Poll::of(is_named, || found.to_string()))
    })
    .await
}
