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
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

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
    let last = Arc::new(LastRead::default());
    Some(Arc::new(move |topics| {
        let (databases, last) = (databases.clone(), last.clone());
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
            mark_parked(build, &last, &databases)
                .await
                .map_err(|error| error.to_string())?;
            Ok(all)
        })
    }))
}

/// The state of the list of parked aggregates at its last reading, so that it is not read again while it is the same:
/// it may be long, and while queries wait, each position is read many times a second.
#[derive(Debug, Default)]
struct LastRead {
    fingerprint: Mutex<Option<(Build, String)>>,
}

impl LastRead {
    fn is_of(&self, build: Build, fingerprint: &str) -> bool {
        let last = self.lock();
        last.as_ref()
            .is_some_and(|(of, last)| *of == build && last == fingerprint)
    }

    fn set(&self, build: Build, fingerprint: String) {
        *self.lock() = Some((build, fingerprint));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Build, String)>> {
        let fingerprint = self.fingerprint.lock();
        fingerprint.expect("no holder of this lock panics")
    }
}

/// Reads the parked aggregates of a build, before its stored positions end the waits of queries. An aggregate is
/// recorded before the position, or with it, so a reading after that of the position finds it.
async fn mark_parked(
    build: Build,
    last: &LastRead,
    databases: &Databases,
) -> Result<(), sqlx::Error> {
    // Read before the list: an aggregate that is parked between the two readings changes the next fingerprint.
    let fingerprint = parked::fingerprint(build, &databases.postgres).await?;
    if last.is_of(build, &fingerprint) {
        return Ok(());
    }
    let aggregates = parked::aggregates_of(build, KNOWN_MAX + 1, &databases.postgres).await?;
    databases.marks.add(aggregates);
    last.set(build, fingerprint);
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
    fn the_list_is_read_again_for_another_fingerprint_or_build() {
        let (last, build) = (LastRead::default(), Build::first("orders_v2"));
        assert!(!last.is_of(build, "1 7"), "{last:?} before any reading");
        last.set(build, "1 7".to_owned());
        assert!(last.is_of(build, "1 7"), "{last:?} after a reading");
        assert!(!last.is_of(build, "1 8"), "{last:?} after a change");
        let other = Build { number: 2, ..build };
        assert!(!last.is_of(other, "1 7"), "{last:?} of another build");
    }

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
