//! The positions that are stored with a view's rows.

use crate::{
    builds::{Build, BuildId},
    cql,
    databases::Databases,
    parking::{KNOWN_MAX, table as parked},
    postgres::{self, with_new_statements},
    problems::QueryError,
    registration::Registration,
    views::VIEWS,
};
use schemas::Position;
use service::{
    consistency::{ReadStored, StoredPosition},
    progress::Progress,
};
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
            let Some(id) = databases.serving.id(name) else {
                return Err(QueryError::NoBuild { view: name }.to_string());
            };
            let mut all = Vec::new();
            for topic in topics {
                let reading = || read(database, id.build, &topic, &databases);
                let position = with_new_statements(reading).await;
                let position = position.map_err(|error| error.to_string())?;
                let position = position.into_iter();
                all.extend(position.map(|(partition, next)| (topic.clone(), partition, next)));
            }
            let marking = || mark_parked(id, &all, &last, &databases);
            let marked = with_new_statements(marking).await;
            marked.map_err(|error| error.to_string())?;
            Ok(all)
        })
    }))
}

/// The last reading of a view's list of parked aggregates. The list may be long, and while queries wait, positions are
/// read many times a second. So its fingerprint is asked for only after a position has moved, and the list itself is
/// read only after its fingerprint has changed.
#[derive(Debug, Default)]
struct LastRead {
    reading: Mutex<Option<Reading>>,
}

/// A reading of the list of parked aggregates.
#[derive(Debug)]
struct Reading {
    build: BuildId,
    /// The stored positions that were read before the list.
    positions: Vec<StoredPosition>,
    /// The list's fingerprint.
    fingerprint: String,
}

impl LastRead {
    /// Whether the reading came after these positions of the build.
    fn is_at(&self, build: BuildId, positions: &[StoredPosition]) -> bool {
        let last = self.lock();
        let last = last.as_ref().filter(|last| last.build == build);
        last.is_some_and(|last| last.positions == positions)
    }

    /// Whether the list of the build had this fingerprint.
    fn has(&self, build: BuildId, fingerprint: &str) -> bool {
        let last = self.lock();
        let last = last.as_ref().filter(|last| last.build == build);
        last.is_some_and(|last| last.fingerprint == fingerprint)
    }

    fn set(&self, reading: Reading) {
        *self.lock() = Some(reading);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        let reading = self.reading.lock();
        reading.expect("no holder of this lock panics")
    }
}

/// Reads the parked aggregates of a build, before its stored positions end the waits of queries. An aggregate is
/// recorded before the position, or with it, so a reading after that of the position finds it. For the same reason, an
/// earlier reading after the same positions has found every aggregate that is parked at them.
async fn mark_parked(
    id: BuildId,
    positions: &[StoredPosition],
    last: &LastRead,
    databases: &Databases,
) -> Result<(), sqlx::Error> {
    if last.is_at(id, positions) {
        return Ok(());
    }
    let build = id.build;
    // Read before the list: an aggregate that is parked between the two readings changes the next fingerprint.
    let fingerprint = parked::fingerprint(build, &databases.postgres).await?;
    if !last.has(id, &fingerprint) {
        let aggregates = parked::aggregates_of(build, KNOWN_MAX + 1, &databases.postgres).await?;
        databases.marks.add(aggregates);
    }
    last.set(Reading {
        build: id,
        positions: positions.to_vec(),
        fingerprint,
    });
    Ok(())
}

/// Returns the stored next offset of each partition that other processes project, as view, topic, partition and offset.
/// Versions of a view that do not answer queries are left out.
///
/// # Errors
/// A database's error.
pub async fn of_other_processes(
    databases: &Databases,
    progress: &Progress,
) -> Result<Vec<(&'static str, String, i32, i64)>, QueryError> {
    let mut found = Vec::new();
    for view in VIEWS {
        if !databases.serving.answers(view.name) {
            continue;
        }
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
    use crate::settings::{CqlSettings, PostgresSettings};
    use schemas::Timestamp;

    const TOPIC: &str = "journal.orders";

    fn id(number: i32, created_at: i64) -> BuildId {
        BuildId {
            build: Build {
                view: "orders_v2",
                number,
            },
            created_at: Timestamp(created_at),
        }
    }

    /// The positions of two partitions.
    fn positions(next_offsets: [i64; 2]) -> Vec<StoredPosition> {
        let position = |(partition, next)| (TOPIC.to_owned(), partition, next);
        (0..).zip(next_offsets).map(position).collect()
    }

    /// After a reading of the first build's list at positions 7 and 9.
    fn after_reading() -> LastRead {
        let last = LastRead::default();
        last.set(Reading {
            build: id(1, 0),
            positions: positions([7, 9]),
            fingerprint: "1 7".to_owned(),
        });
        last
    }

    #[test]
    fn the_list_is_read_again_for_another_fingerprint_or_build() {
        let last = LastRead::default();
        assert!(!last.has(id(1, 0), "1 7"), "{last:?} before any reading");
        let last = after_reading();
        assert!(last.has(id(1, 0), "1 7"), "{last:?} after a reading");
        assert!(!last.has(id(1, 0), "1 8"), "{last:?} after a change");
        for other in [id(2, 0), id(1, 5)] {
            assert!(!last.has(other, "1 7"), "{last:?} of {other:?}");
        }
    }

    #[test]
    fn the_fingerprint_is_asked_for_again_after_any_position_has_moved_or_for_another_build() {
        let last = LastRead::default();
        assert!(!last.is_at(id(1, 0), &[]), "{last:?} before any reading");
        let last = after_reading();
        let same = positions([7, 9]);
        assert!(last.is_at(id(1, 0), &same), "{last:?} at {same:?}");
        for moved in [[8, 9], [7, 10], [6, 9]].map(positions) {
            assert!(!last.is_at(id(1, 0), &moved), "{last:?} at {moved:?}");
        }
        assert!(!last.is_at(id(1, 0), &same[..1]), "{last:?} at {same:?}");
        for other in [id(2, 0), id(1, 5)] {
            assert!(!last.is_at(other, &same), "{last:?} of {other:?}");
        }
    }

    /// Databases whose pool for queries is closed, so that every statement fails at once.
    async fn closed() -> Databases {
        let cql = CqlSettings {
            nodes: "127.0.0.1:1".to_owned(),
            ..CqlSettings::default()
        };
        let databases = Databases::connect_lazily(&PostgresSettings::default(), &cql).unwrap();
        databases.postgres.close().await;
        databases
    }

    #[tokio::test]
    async fn positions_that_have_not_moved_need_no_answer_of_postgres() {
        let (last, databases) = (after_reading(), closed().await);
        let marked = mark_parked(id(1, 0), &positions([7, 9]), &last, &databases).await;
        assert!(marked.is_ok(), "{marked:?} instead of Ok(())");
    }

    /// Otherwise the next reading of the same positions would end waits without the marks.
    #[tokio::test]
    async fn a_reading_that_fails_does_not_count() {
        let (last, databases) = (after_reading(), closed().await);
        let moved = positions([8, 9]);
        for _ in 0..2 {
            let marked = mark_parked(id(1, 0), &moved, &last, &databases).await;
            assert!(marked.is_err(), "{marked:?} instead of an error");
        }
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
