//! The view port: earlier row in, row or deletion out.
//!
//! A [`View`] is a pure fold of recorded events into the rows of one or several [`Table`]s. The stores load
//! the rows of a batch's keys, fold in memory and write at most one change per row. A released view is never
//! altered: its next version is another view with row types of its own.

use crate::{
    commits::{self, CommitsError},
    recorded::{FoldError, Recorded},
};
use journal::{Checkpoint, ReadError, Readers, Source, Subscription, Update, Valid};
use schemas::ContextEvent;
use serde::Serialize;
use std::fmt::Debug;

/// A partition of one of a view's journals.
pub type Partition = (&'static str, i32);

/// A view: its name and the events that it is a fold of.
pub trait View: Send + Sync + 'static {
    /// `<view>_v<n>`; the names of its tables begin with it.
    const NAME: &'static str;
    /// The events that it reads.
    type Event: ViewEvent;
}

/// One table of a view.
pub trait Table: Send + Sync + 'static {
    /// The events of its view.
    type Event: ViewEvent;
    /// A row's primary key. Rows are written in its order.
    type Key: Ord + Clone + Debug + Send + Sync;
    /// A row, with a field for each column.
    type Row: Clone + PartialEq + Debug + Send + Sync;
    /// The events that change a row, and whether the row stores their version.
    const FEED: RowFeed<Self::Row>;

    /// The keys of the rows that an event changes.
    ///
    /// # Errors
    /// [`FoldError`] for an event that gives no valid key.
    fn keys(event: &Recorded<'_, Self::Event>) -> Result<Vec<Self::Key>, FoldError>;

    /// The key of a row.
    fn key(row: &Self::Row) -> Self::Key;

    /// The row after an event, or `None` to delete it; `row` is the row before the event, or `None`. Must be
    /// a pure function of its arguments.
    ///
    /// # Errors
    /// [`FoldError`] for an event that can't be applied. It parks the event's aggregate.
    fn apply(
        key: &Self::Key,
        row: Option<Self::Row>,
        event: &Recorded<'_, Self::Event>,
    ) -> Result<Option<Self::Row>, FoldError>;
}

/// The events that change a row of a table.
#[derive(Debug)]
pub enum RowFeed<Row> {
    /// All events of one aggregate, from the row's first event on. The row stores the version of its last
    /// event, which this function returns. An event of that version or an earlier one is skipped; an event
    /// that leaves a gap is an error. A batch that begins with the aggregate's first event is folded without the
    /// stored row, so its events are not skipped.
    ///
    /// In the CQL store, events can be applied again: every write carries the offset of its event, and the write
    /// with the greatest offset wins. The version of a deleted row is in the build's table of deleted rows, so its
    /// events are still skipped, and a gap after it is still an error. Postgres keeps nothing of a deleted row, so
    /// there is no version to compare: only the checkpoint, which the same transaction moves, prevents an event from
    /// being applied twice, and a gap after the deletion is not noticed.
    Versioned(fn(&Row) -> i64),
    /// Some events of one aggregate. Only the checkpoint prevents an event from being applied twice, so only
    /// views in Postgres can use this feed.
    OneAggregate,
    /// Events of several aggregates. A row has sums, minimums and maximums, so that the sequence in which the
    /// aggregates' events are applied does not matter. It stores no version: only the checkpoint, which the same
    /// transaction moves, prevents an event from being applied twice. So only views in Postgres can use this feed.
    SeveralAggregates,
}

/// The events that a view reads, from one context or from several. A view of several contexts declares an
/// enum of their events and a reader that merges their journals.
pub trait ViewEvent: Clone + Serialize + Send + Sync + 'static {
    /// The journals that contain these events.
    const TOPICS: &'static [&'static str];
    /// The reader of these events.
    type Reader: EventReader<Self>;
}

/// Reads the events of a view, in order within each partition.
pub trait EventReader<Event>: Sized + Send {
    /// Subscribes from the given checkpoints, one per partition of each journal. `role` names the
    /// subscriber.
    fn subscribe(readers: &Readers, role: &str, starts: Vec<Checkpoint>) -> Self;

    /// Stops reading a partition: no further update of it is returned. Subscribe again to read it.
    fn pause_partition(&mut self, topic: &str, partition: i32);

    /// Waits for the next update. Cancel-safe.
    ///
    /// # Errors
    /// The subscription can't continue: subscribe again.
    fn next_update(&mut self) -> impl Future<Output = Result<Update<Event>, ReadError>> + Send;

    /// Reads commits that were valid when they were read before, in order. `offsets` are ascending.
    ///
    /// # Errors
    /// [`CommitsError`].
    fn read_commits(
        source: &Source,
        topic: &str,
        partition: i32,
        offsets: &[i64],
    ) -> impl Future<Output = Result<Vec<Valid<Event>>, CommitsError>> + Send;
}

impl<E: ContextEvent> ViewEvent for E {
    const TOPICS: &'static [&'static str] = &[E::CONTEXT.topic];
    type Reader = Subscription<E>;
}

impl<E: ContextEvent> EventReader<E> for Subscription<E> {
    fn subscribe(readers: &Readers, role: &str, starts: Vec<Checkpoint>) -> Self {
        readers.of::<E>().subscribe(role, starts)
    }

    fn pause_partition(&mut self, _: &str, partition: i32) {
        self.pause(partition);
    }

    async fn next_update(&mut self) -> Result<Update<E>, ReadError> {
        self.next().await
    }

    async fn read_commits(
        source: &Source,
        topic: &str,
        partition: i32,
        offsets: &[i64],
    ) -> Result<Vec<Valid<E>>, CommitsError> {
        commits::read(source, topic, partition, offsets).await
    }
}
