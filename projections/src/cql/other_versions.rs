//! Builds of versions that this program does not have: their positions, and the drop of their tables.

use super::{
    CqlError, Session,
    migrations::CHECKPOINTS,
    store::{READ_POSITION, delete_checkpoints},
};
use schemas::CONTEXTS;
use std::collections::BTreeMap;

/// The stored positions of a build, by topic and partition: the next offset.
///
/// # Errors
/// The store's error.
pub async fn positions(
    session: &Session,
    view: &str,
    build: i32,
) -> Result<BTreeMap<(String, i32), i64>, CqlError> {
    let mut positions = BTreeMap::new();
    if !session.tables().await?.contains(CHECKPOINTS) {
        return Ok(positions);
    }
    for topic in CONTEXTS.iter().map(|context| context.topic) {
        let of_topic = (view, build, topic);
        let stored: Vec<(i32, i64)> = session.fetch(READ_POSITION, of_topic).await?;
        let stored = stored.into_iter();
        positions.extend(stored.map(|(partition, next)| ((topic.to_owned(), partition), next)));
    }
    Ok(positions)
}

/// Drops the tables and the checkpoints of a build.
///
/// # Errors
/// The store's error.
pub async fn drop_build(session: &Session, view: &str, build: i32) -> Result<(), CqlError> {
    let tables = session.tables().await?;
    if tables.contains(CHECKPOINTS) {
        for topic in CONTEXTS.iter().map(|context| context.topic) {
            delete_checkpoints(session, view, build, topic).await?;
        }
    }
    let (beginning, end) = (format!("{view}_"), format!("_b{build}"));
    let is_of_build = |table: &String| table.starts_with(&beginning) && table.ends_with(&end);
    for table in tables.into_iter().filter(is_of_build) {
        let statement = format!("DROP TABLE IF EXISTS {{keyspace}}.{table};");
        session.run_all(&statement).await?;
    }
    Ok(())
}
