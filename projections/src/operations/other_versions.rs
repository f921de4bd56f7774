//! Builds of versions that this program does not have, because another release created them: their positions, and the
//! drop of their tables. The names of their tables begin with the version's name, and end with the number of the build.

use super::error::AdminError;
use crate::{columns::list, cql::other_versions as cql, databases::Databases};
use sqlx::{AssertSqlSafe, PgConnection};
use std::{collections::BTreeMap, time::Duration};

/// Longest wait for the connection to the CQL store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The tables of a build in Postgres. A view whose name begins with this version's has other tables.
const TABLES: &str = "SELECT quote_ident(tablename) FROM pg_tables AS found \
    WHERE schemaname = current_schema() AND starts_with(tablename, $1 || '_') \
    AND right(tablename, length($2)) = $2 AND NOT EXISTS ( \
        SELECT FROM view_builds \
        WHERE starts_with(view_name, $1 || '_') AND starts_with(tablename, view_name || '_'))";

/// The stored positions of a build, in the database that has any, by topic and partition: the next offset. Empty while
/// the CQL store has no table of checkpoints.
pub(crate) async fn positions(
    databases: &Databases,
    view: &str,
    build: i32,
    connection: &mut PgConnection,
) -> Result<BTreeMap<(String, i32), i64>, AdminError> {
    let stored: Vec<(String, i32, i64)> = sqlx::query_as(
        "SELECT topic, partition, next_offset FROM view_build_checkpoints \
         WHERE view_name = $1 AND build = $2",
    )
    .bind(view)
    .bind(build)
    .fetch_all(connection)
    .await?;
    if stored.is_empty() {
        let session = databases.cql.session_within(CONNECT_TIMEOUT).await?;
        return match cql::positions(&session, view, build).await {
            // A node that has just started creates the table of checkpoints, and the store lists the table before it
            // can read it.
            Err(error) if error.is_invalid_statement() => Ok(BTreeMap::new()),
            read => Ok(read?),
        };
    }
    let stored = stored.into_iter();
    Ok(stored
        .map(|(topic, partition, next)| ((topic, partition), next))
        .collect())
}

/// Drops the tables of a build, in the database that has any. The build must be marked as dropped beforehand.
pub(crate) async fn drop_tables(
    databases: &Databases,
    view: &str,
    build: i32,
) -> Result<(), AdminError> {
    let found = sqlx::query_scalar(TABLES)
        .bind(view)
        .bind(format!("_b{build}"));
    let tables: Vec<String> = found.fetch_all(&databases.postgres).await?;
    if tables.is_empty() {
        let session = databases.cql.session_within(CONNECT_TIMEOUT).await?;
        return Ok(cql::drop_build(&session, view, build).await?);
    }
    let statement = format!("DROP TABLE IF EXISTS {}", list(tables));
    sqlx::query(AssertSqlSafe(statement))
        .execute(&databases.postgres)
        .await?;
    Ok(())
}
