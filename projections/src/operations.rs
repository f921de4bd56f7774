//! An operator's operations on one build, in either database.

mod compare;
mod error;
pub(crate) mod other_versions;

pub use self::{compare::LogToExplain, error::AdminError};

use self::compare::{compare_cql, compare_postgres};
use crate::{
    builds::{Build, registry},
    cql::{CqlStore, CqlView, store as cql_store},
    difference::{Comparison, EventOfRow},
    parking::ParkedKey,
    postgres::{PostgresStore, PostgresView, read_position},
    recorded::recorded_events,
    store::StoreError,
    view::{EventReader, ViewEvent},
};
use futures_util::future::BoxFuture;
use journal::Source;
use std::collections::BTreeMap;

/// A position by topic and partition: the next offset.
pub type Positions = BTreeMap<(String, i32), i64>;

/// The operations on one build, for either database.
pub trait BuildOperations: Send + Sync {
    /// The build.
    fn build(&self) -> Build;

    /// The build's next offset in each partition. Every earlier event is in its rows, or parked.
    fn positions(&self) -> BoxFuture<'_, Result<Positions, AdminError>>;

    /// Drops the build's tables. The build must be marked as dropped beforehand.
    fn drop_tables(&self) -> BoxFuture<'_, Result<(), AdminError>>;

    /// The events of an aggregate's commits. `offsets` are ascending.
    fn events<'a>(
        &'a self,
        source: &'a Source,
        key: &'a ParkedKey,
        offsets: &'a [i64],
    ) -> BoxFuture<'a, Result<Vec<EventOfRow>, AdminError>>;

    /// Compares the rows with those of another build of the view, and explains at most `limit` differences of
    /// each table by the events of the log.
    fn compare<'a>(
        &'a self,
        other: i32,
        limit: usize,
        log: &'a LogToExplain,
    ) -> BoxFuture<'a, Result<Comparison, AdminError>>;
}

/// The operations on a build in a store.
pub struct ViewAdmin<S>(pub S);

impl<V: PostgresView> BuildOperations for ViewAdmin<PostgresStore<V>> {
    fn build(&self) -> Build {
        use crate::store::Store;
        self.0.build()
    }

    fn positions(&self) -> BoxFuture<'_, Result<Positions, AdminError>> {
        Box::pin(async {
            let mut connection = self.0.pool().acquire().await?;
            let mut positions = Positions::new();
            for topic in V::Event::TOPICS {
                let of_topic = read_position(self.build(), topic, &mut connection).await?;
                positions.extend(
                    of_topic
                        .iter()
                        .map(|(p, next)| (((*topic).to_owned(), *p), *next)),
                );
            }
            Ok(positions)
        })
    }

    fn drop_tables(&self) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(async {
            let mut connection = self.0.pool().acquire().await?;
            Ok(self.0.drop_tables(&mut connection).await?)
        })
    }

    fn events<'a>(
        &'a self,
        source: &'a Source,
        key: &'a ParkedKey,
        offsets: &'a [i64],
    ) -> BoxFuture<'a, Result<Vec<EventOfRow>, AdminError>> {
        Box::pin(events::<V::Event>(source, key, offsets))
    }

    fn compare<'a>(
        &'a self,
        other: i32,
        limit: usize,
        log: &'a LogToExplain,
    ) -> BoxFuture<'a, Result<Comparison, AdminError>> {
        Box::pin(compare_postgres::<V>(
            self.0.pool(),
            self.build(),
            other,
            limit,
            log,
        ))
    }
}

impl<V: CqlView> BuildOperations for ViewAdmin<CqlStore<V>> {
    fn build(&self) -> Build {
        use crate::store::Store;
        self.0.build()
    }

    fn positions(&self) -> BoxFuture<'_, Result<Positions, AdminError>> {
        Box::pin(async {
            let session = self.0.session().await?;
            let mut positions = Positions::new();
            for topic in V::Event::TOPICS {
                let of_topic = cql_store::read_position(&session, self.build(), topic).await?;
                positions.extend(
                    of_topic
                        .iter()
                        .map(|(p, next)| (((*topic).to_owned(), *p), *next)),
                );
            }
            Ok(positions)
        })
    }

    fn drop_tables(&self) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(async {
            self.0.session().await?;
            Ok(self.0.drop_tables().await?)
        })
    }

    fn events<'a>(
        &'a self,
        source: &'a Source,
        key: &'a ParkedKey,
        offsets: &'a [i64],
    ) -> BoxFuture<'a, Result<Vec<EventOfRow>, AdminError>> {
        Box::pin(events::<V::Event>(source, key, offsets))
    }

    fn compare<'a>(
        &'a self,
        other: i32,
        limit: usize,
        log: &'a LogToExplain,
    ) -> BoxFuture<'a, Result<Comparison, AdminError>> {
        Box::pin(async move {
            let session = self.0.session().await?;
            compare_cql::<V>(&session, self.build(), other, limit, log).await
        })
    }
}

async fn events<E: ViewEvent>(
    source: &Source,
    key: &ParkedKey,
    offsets: &[i64],
) -> Result<Vec<EventOfRow>, AdminError> {
    let (topic, partition) = (&key.topic, key.partition);
    let commits = E::Reader::read_commits(source, topic, partition, offsets).await?;
    let events = recorded_events(&commits).map_err(StoreError::from)?;
    let shown = events
        .iter()
        .map(|event| EventOfRow::new(topic, partition, event));
    Ok(shown.collect())
}

/// Adds a build to a view. Returns its number.
pub(crate) async fn create(postgres: &sqlx::PgPool, view: &str) -> Result<i32, AdminError> {
    Ok(registry::create(postgres, view).await?)
}

/// Marks a build as dropped, so that no projector writes to it any more.
pub(crate) async fn mark_as_dropped(
    postgres: &sqlx::PgPool,
    view: &str,
    build: i32,
) -> Result<(), AdminError> {
    let mut transaction = postgres.begin().await?;
    registry::drop(view, build, &mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Marks all builds of a version as dropped. Returns their numbers, including those that were dropped earlier.
pub(crate) async fn mark_version_as_dropped(
    postgres: &sqlx::PgPool,
    view: &str,
) -> Result<Vec<i32>, AdminError> {
    let mut transaction = postgres.begin().await?;
    let builds = registry::drop_version(view, &mut transaction).await?;
    transaction.commit().await?;
    Ok(builds)
}

/// Replaces a build with a new build in the same state. Returns the new build's number.
pub(crate) async fn replace(
    postgres: &sqlx::PgPool,
    view: &str,
    build: i32,
) -> Result<i32, AdminError> {
    let mut transaction = postgres.begin().await?;
    let number = registry::replace(view, build, &mut transaction).await?;
    transaction.commit().await?;
    Ok(number)
}
