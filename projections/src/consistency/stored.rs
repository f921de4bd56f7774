//! The positions that are stored with a view's rows.

use crate::{
    builds::Build,
    cql,
    databases::Databases,
    parking::{KNOWN_MAX, table as parked},
    postgres,
    problems::QueryError,
    registration::Registration,
    views::VIEWS,
};
use schemas::Position;
use service::{consistency::ReadStored, progress::Progress};
use std::{collections::BTreeSet, sync::Arc};

/// The database of a view's rows and checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    Postgres,
    Cql,
}

impl Database {
    fn of(view: &Registration) -> Option<Self> {
        match view.database {
            "Postgres" => Some(Self::Postgres),
            "CQL" => Some(Self::Cql),
            _ => None,
        }
    }
}

/// Returns a function that reads the stored positions of a view's serving build; `None` for an unknown database.
pub(super) fn reader(view: &Registration, databases: &Databases) -> Option<ReadStored> {
    let (database, name) = (Database::of(view)?, view.name);
    let databases = databases.clone();
    Some(Arc::new(move |topics| {
        let databases = databases.clone();
        Box::pin(async move {
            let Some(build) = databases.serving.build(name) else {
                return Err(QueryError::NoBuild { view: name }.to_string());
            };
            let mut all = Vec::new();
            for topic in topics {
                let position = read(database, build, &topic, &databases).await;
                let position = position.map_err(|error| error.to_string())?;
                let position = position.into_iter();
                all.extend(position.map(|(partition, next)| (topic.clone(), partition, next)));
            }
            mark_parked(build, &databases)
                .await
                .map_err(|error| error.to_string())?;
            Ok(all)
        })
    }))
}

/// Reads the parked aggregates of a build, before its stored positions end the waits of queries. An aggregate is
/// recorded before the position, or with it, so a reading after that of the position finds it.
async fn mark_parked(build: Build, databases: &Databases) -> Result<(), sqlx::Error> {
    let parked = parked::aggregates_of(build, KNOWN_MAX + 1, &databases.postgres);
    for aggregate in parked.await? {
        databases.marks.add(aggregate);
    }
    Ok(())
}

/// Returns the stored next offset of each partition that other processes project, as view, topic, partition and offset.
///
/// # Errors
/// A database's error.
pub async fn of_other_processes(
    databases: &Databases,
    progress: &Progress,
) -> Result<Vec<(&'static str, String, i32, i64)>, QueryError> {
    let mut found = Vec::new();
    for view in VIEWS {
        let own = progress.of_reader(view.name);
        let mut others = progress.partitions(view.name);
        others.retain(|partition| !own.contains_key(partition));
        let (Some(database), Some(build)) =
            (Database::of(view), databases.serving.build(view.name))
        else {
            continue;
        };
        let topics: BTreeSet<&String> = others.iter().map(|(topic, _)| topic).collect();
        for topic in topics {
            let position = read(database, build, topic, databases).await?;
            for (of_topic, partition) in &others {
                if of_topic == topic {
                    let next = position.get(partition).copied().unwrap_or(0);
                    found.push((view.name, topic.clone(), *partition, next));
                }
            }
        }
    }
    Ok(found)
}

async fn read(
    database: Database,
    build: Build,
    topic: &str,
    databases: &Databases,
) -> Result<Position, QueryError> {
    match database {
        Database::Postgres => {
            let mut connection = databases.postgres.acquire().await?;
            Ok(postgres::read_position(build, topic, &mut connection).await?)
        }
        Database::Cql => {
            let session = databases.cql.session()?;
            Ok(cql::read_position(&session, build, topic).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_position_of_every_view_can_be_read() {
        for view in VIEWS {
            assert!(
                Database::of(view).is_some(),
                "{}: no database is called {}",
                view.name,
                view.database
            );
        }
    }
}
