//! The tables that all views in the CQL store share, with a version for each change.
//!
//! sqlx's migrations do not support CQL. Each statement is idempotent, so a process that ends half-way needs no special
//! treatment.

use super::{CqlError, Session};

/// The statements of each version, in order. A released version is never altered.
const MIGRATIONS: [(i32, &str); 1] = [(1, include_str!("migrations/0001_checkpoints.cql"))];
/// The last of these versions.
const NEWEST: i32 = MIGRATIONS[MIGRATIONS.len() - 1].0;
/// The versions that were applied.
const VERSIONS: &str = "schema_versions";
/// The table that the first version creates. If it is dropped, all versions are applied again.
pub(super) const CHECKPOINTS: &str = "view_build_checkpoints";
const CREATE_VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {keyspace}.schema_versions \
    (component text, version int, PRIMARY KEY ((component), version));";
const COMPONENT: &str = "views";
const READ_VERSIONS: &str = "SELECT version FROM {keyspace}.schema_versions WHERE component = ?";
const WRITE_VERSION: &str =
    "INSERT INTO {keyspace}.schema_versions (component, version) VALUES (?, ?)";

/// The versions that are still to be applied.
///
/// # Errors
/// The store's error, or [`CqlError::NewerTables`].
pub async fn missing(session: &Session) -> Result<Vec<(i32, &'static str)>, CqlError> {
    let tables = session.tables().await?;
    let applied: Vec<(i32,)> = match tables.contains(VERSIONS) {
        true => session.fetch(READ_VERSIONS, (COMPONENT,)).await?,
        false => Vec::new(),
    };
    let mut newer = applied.iter().filter(|(version,)| *version > NEWEST);
    if let Some((version,)) = newer.next() {
        return Err(CqlError::NewerTables {
            version: *version,
            known: NEWEST,
        });
    }
    let has_checkpoints = tables.contains(CHECKPOINTS);
    let is_missing =
        |(version, _): &(i32, &str)| !has_checkpoints || !applied.contains(&(*version,));
    Ok(MIGRATIONS.into_iter().filter(is_missing).collect())
}

/// Applies the missing versions. Only one node at a time may do so.
///
/// # Errors
/// The store's error, or [`CqlError::NewerTables`].
pub async fn apply(session: &Session) -> Result<(), CqlError> {
    session.run_all(CREATE_VERSIONS).await?;
    for (version, statements) in missing(session).await? {
        session.run_all(statements).await?;
        session.execute(WRITE_VERSION, (COMPONENT, version)).await?;
        tracing::info!(version, "changed the shared tables of the CQL store");
    }
    Ok(())
}
