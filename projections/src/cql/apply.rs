//! Applies a batch's events to one table: loads the rows, folds the events, writes the changes.
//!
//! The order of the requests is part of the proof that replays and zombies do no harm; [`super::writes`] has the other
//! part. `journal-simulator` runs this file over replicas that are late, fail and forget.

use super::writes::{Deletion, Write, writes};
use crate::{
    fold::{DeletedAt, Plan, Stored},
    recorded::{FoldError, Recorded},
    view::{RowFeed, Table},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// Maximum number of requests of a batch in flight at once.
pub const REQUESTS_MAX: usize = 32;

/// The requests about the rows of one table. Reads and writes need a quorum of the replicas.
pub trait TableRequests<T: Table>: Sync {
    /// An event that can't be applied, or the store's error.
    type Error: From<FoldError> + Send;

    /// Reads a row.
    ///
    /// # Errors
    /// The store's error.
    fn load_row(
        &self,
        key: &T::Key,
    ) -> impl Future<Output = Result<Option<T::Row>, Self::Error>> + Send;

    /// Reads the record of a row's deletion.
    ///
    /// # Errors
    /// The store's error.
    fn load_deletion(
        &self,
        key: &T::Key,
    ) -> impl Future<Output = Result<Option<DeletedAt>, Self::Error>> + Send;

    /// Writes records of deletions, and waits until all are acknowledged.
    ///
    /// # Errors
    /// The store's error; any of the writes may have happened, or may happen later.
    fn write_deletions(
        &self,
        deletions: &[Deletion<T::Key>],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Writes and deletes rows, and waits until all are acknowledged.
    ///
    /// # Errors
    /// The store's error; any of the writes may have happened, or may happen later.
    fn write_rows(
        &self,
        rows: &[Write<T::Key, T::Row>],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Applies events to one table. The table's feed must be [`RowFeed::Versioned`]; any other feed does not compile.
///
/// # Errors
/// An event that can't be applied, or the store's error: repeat the batch, or read it again from a stored checkpoint.
pub async fn apply<T, R>(requests: &R, events: &[Recorded<'_, T::Event>]) -> Result<(), R::Error>
where
    T: Table,
    R: TableRequests<T>,
{
    const {
        assert!(
            matches!(T::FEED, RowFeed::Versioned(_)),
            "a table in the CQL store needs RowFeed::Versioned: its rows store their aggregate's version"
        );
    }
    let plan = Plan::<T>::new(events)?;
    let stored = load(requests, plan.keys_to_load()).await?;
    let (deletions, rows) = writes(plan.fold(stored)?);
    requests.write_deletions(&deletions).await?;
    requests.write_rows(&rows).await
}

async fn load<T, R>(
    requests: &R,
    keys: Vec<T::Key>,
) -> Result<BTreeMap<T::Key, Stored<T::Row>>, R::Error>
where
    T: Table,
    R: TableRequests<T>,
{
    let loads: Vec<_> = keys.iter().map(|key| load_stored(requests, key)).collect();
    let stored: Vec<_> = stream::iter(loads)
        .buffered(REQUESTS_MAX)
        .try_collect()
        .await?;
    Ok(keys.into_iter().zip(stored).collect())
}

/// Loads a row. If the row is missing, loads its deletion, which is stored before the row is deleted.
async fn load_stored<T, R>(requests: &R, key: &T::Key) -> Result<Stored<T::Row>, R::Error>
where
    T: Table,
    R: TableRequests<T>,
{
    let row = requests.load_row(key).await?;
    let deleted_at = match row {
        Some(_) => None,
        None => requests.load_deletion(key).await?,
    };
    Ok(Stored { row, deleted_at })
}
