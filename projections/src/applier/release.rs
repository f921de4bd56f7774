//! Applies the waiting commits of a parked aggregate, after an operator's request.

use super::{Applier, events::labels, within_timeout};
use crate::{
    builds::Build,
    commits::CommitsError,
    metrics as names,
    parking::{ParkedKey, table as parked},
    recorded::{Recorded, recorded_events},
    store::{Failure, Store, StoreError},
    view::{EventReader, ViewEvent},
};
use journal::Source;
use metrics::counter;
use sqlx::PgPool;

/// Maximum number of waiting commits that are applied at once when an aggregate is released.
const RELEASED_COMMITS_MAX: i64 = 500;

impl<S: Store> Applier<S> {
    /// Applies the waiting commits of a parked aggregate, in order, until no commit waits or one can't be applied.
    ///
    /// # Errors
    /// [`ReleaseError`]: another attempt may succeed. If a table is missing, open the store again first.
    pub async fn release(
        &mut self,
        key: &ParkedKey,
        source: &Source,
        postgres: &PgPool,
    ) -> Result<(), ReleaseError> {
        let build = self.store.build();
        let Build { view, number } = build;
        // The request may be outdated: while it waited here, an earlier attempt may have applied the commits or failed,
        // or an operator may have discarded the aggregate.
        match parked::state(build, key, postgres).await? {
            Some(state) if state == parked::REQUESTED => {}
            Some(_) => return Ok(()),
            None => {
                self.parked.remove(&key.key);
                return Ok(());
            }
        }
        let limit = RELEASED_COMMITS_MAX;
        let mut released = 0_u64;
        loop {
            let waiting = parked::waiting(view, number, key, limit, postgres).await?;
            let offsets: Vec<i64> = waiting.iter().map(|one| one.offset).collect();
            let commits = <S::Event as ViewEvent>::Reader::read_commits(
                source,
                &key.topic,
                key.partition,
                &offsets,
            )
            .await?;
            let events = recorded_events(&commits).map_err(StoreError::from)?;
            if let Err((offset, error)) = self.release_commits(key, &offsets, &events).await? {
                let reason = error.to_string();
                parked::record_failure(build, key, offset, &reason, postgres).await?;
                let (topic, partition, key) = (&key.topic, key.partition, &key.key);
                tracing::error!(
                    view, build = number, topic, partition, key, offset, %error,
                    "a parked aggregate still can't be applied"
                );
                return Ok(());
            }
            released += events.len() as u64;
            if waiting.is_empty() {
                break;
            }
        }
        self.parked.remove(&key.key);
        counter!(names::EVENTS_RELEASED, &labels(build)).increment(released);
        let (topic, partition, key) = (&key.topic, key.partition, &key.key);
        tracing::info!(
            view,
            build = number,
            topic,
            partition,
            key,
            events = released,
            "applied the waiting events of a parked aggregate"
        );
        Ok(())
    }

    /// Applies waiting commits: all at once, or one after the other if the database refuses them together. Returns the
    /// offset and the error of the first refused commit.
    async fn release_commits(
        &self,
        key: &ParkedKey,
        offsets: &[i64],
        events: &[Recorded<'_, S::Event>],
    ) -> Result<Result<(), (i64, StoreError)>, StoreError> {
        let build = self.store.build();
        let refused = match within_timeout(build, self.store.release(key, offsets, events)).await {
            Ok(()) => return Ok(Ok(())),
            Err(error) if is_refusal(&error) => error,
            Err(error) => return Err(error),
        };
        if let [offset] = offsets {
            return Ok(Err((*offset, refused)));
        }
        for offset in offsets {
            let of_commit: Vec<_> = events
                .iter()
                .filter(|event| event.offset == *offset)
                .copied()
                .collect();
            let offsets = [*offset];
            let released = self.store.release(key, &offsets, &of_commit);
            match within_timeout(build, released).await {
                Ok(()) => {}
                Err(error) if is_refusal(&error) => return Ok(Err((offsets[0], error))),
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(()))
    }
}

/// The waiting commits of an aggregate can't be applied now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseError {
    /// The table of parked commits can't be read or changed.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The commits can't be read from the log.
    #[error(transparent)]
    Commits(#[from] CommitsError),
    /// The build's database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether an event is the cause of an error.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Fold(_)) || error.failure() == Some(Failure::Value)
}
