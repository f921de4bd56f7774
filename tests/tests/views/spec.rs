//! Given/when/then for a whole view in its own database: `view.given([..]).when(event).then(rows)`.
//!
//! The view has two builds in the database of the test. The first build gets the history and the event as two batches.
//! The second build gets them as one batch, and its partitions are applied in the opposite sequence. Each row of each
//! table is then read with `SELECT`, as the view's own row type. Both builds must have the rows that the case expects.
//!
//! The cases of a view share its builds, because the CQL store needs seconds to create a table. So each case has rows
//! of its own, and the tables keep the rows of the cases before it.

use crate::{
    backends::{CqlBackend, PostgresBackend, StoreBackend},
    log::{PARTITIONS, apply_batch, batch_of, commit, open},
};
use journal::Valid;
use kafka::partition::of_key;
use projections::{
    Store, Table,
    builds::{Build, registry},
    columns::Columns,
    cql::{CqlRow, CqlStore, CqlView, Session},
    postgres::{PostgresRow, PostgresStore, PostgresView},
};
use schemas::Timestamp;
use sqlx::PgPool;
use std::{collections::BTreeMap, fmt::Debug, panic::Location, slice};

/// An event with its record's key, which decides the partition.
pub type Keyed<Event> = (&'static str, Event);

/// A view in Postgres.
pub type InPostgres<V> = Spec<PostgresStore<V>>;

/// A view in the CQL store.
pub type InCql<V> = Spec<CqlStore<V>>;

/// A view in two builds.
pub struct Spec<S: StoredView> {
    /// Gets the history and the event as two batches.
    in_two: S,
    /// Gets the history and the event as one batch.
    at_once: S,
    log: Log,
    /// The rows that all cases so far expect.
    rows: S::Rows,
}

/// A case with its history.
#[must_use = "only `then` compares rows"]
pub struct Given<'s, S: StoredView> {
    spec: &'s mut Spec<S>,
    history: Vec<Valid<S::Event>>,
    /// The case's place in the test's code.
    case: &'static Location<'static>,
}

/// A case with its history and its event.
#[must_use = "only `then` compares rows"]
pub struct When<'s, S: StoredView> {
    given: Given<'s, S>,
    event: Valid<S::Event>,
}

/// Creates two builds of a view in Postgres.
pub async fn in_postgres<V>(backend: &PostgresBackend) -> InPostgres<V>
where
    V: PostgresView<Tables: ReadTables<PgPool>>,
{
    let pool = backend.list();
    let store = |build| PostgresStore::<V>::new(pool.clone(), build);
    Spec::open(V::NAME, pool, store).await
}

/// Creates two builds of a view in the CQL store.
pub async fn in_cql<V>(backend: &CqlBackend) -> InCql<V>
where
    V: CqlView<Tables: ReadTables<Session>>,
{
    let store = |build| backend.store_of_view::<V>(build);
    Spec::open(V::NAME, backend.list(), store).await
}

impl<S: StoredView> Spec<S> {
    async fn open(view: &str, list: &PgPool, store: impl Fn(i32) -> S) -> Self {
        let in_two = store(registry::create(list, view).await.unwrap());
        let at_once = store(registry::create(list, view).await.unwrap());
        for build in [&in_two, &at_once] {
            open(build).await;
        }
        Self {
            in_two,
            at_once,
            log: Log::default(),
            rows: S::Rows::default(),
        }
    }

    /// Begins a case. A failure names the place of this call.
    #[track_caller]
    pub fn given(&mut self, history: impl IntoIterator<Item = Keyed<S::Event>>) -> Given<'_, S> {
        let case = Location::caller();
        let history = history.into_iter().map(|event| self.log.append(event));
        let history = history.collect();
        Given {
            spec: self,
            history,
            case,
        }
    }
}

impl<'s, S: StoredView> Given<'s, S> {
    pub fn when(self, event: Keyed<S::Event>) -> When<'s, S> {
        let event = self.spec.log.append(event);
        When { given: self, event }
    }
}

impl<S: StoredView> When<'_, S> {
    /// Both builds have these rows and those of earlier cases, and no others.
    pub async fn then(self, rows: S::Rows) {
        let Self { given, event } = self;
        let Given {
            spec,
            history,
            case,
        } = given;
        let event = slice::from_ref(&event);
        for batch in [history.as_slice(), event] {
            apply(&spec.in_two, batch, 0..PARTITIONS, case).await;
        }
        let batch = [history.as_slice(), event].concat();
        apply(&spec.at_once, &batch, (0..PARTITIONS).rev(), case).await;
        S::add(&mut spec.rows, rows);
        let (in_two, at_once) = (spec.in_two.rows().await, spec.at_once.rows().await);
        assert_eq!(in_two, at_once, "{case}: the rows depend on the batches");
        assert_eq!(in_two, spec.rows, "{case}: the rows are not those expected");
    }
}

/// The partition of a record's key.
pub fn partition_of(key: &str) -> i32 {
    of_key(key.as_bytes(), PARTITIONS)
}

/// Log time of the event that gives its aggregate this version, with a fraction of a second.
pub fn recorded_at(version: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + version * 1_000_001)
}

/// The offsets and versions of all cases so far.
#[derive(Default)]
struct Log {
    next_offsets: BTreeMap<i32, i64>,
    versions: BTreeMap<&'static str, i64>,
}

impl Log {
    /// The event's commit, at the end of its partition.
    fn append<E>(&mut self, (key, event): Keyed<E>) -> Valid<E> {
        let next_offset = self.next_offsets.entry(partition_of(key)).or_default();
        let offset = *next_offset;
        *next_offset += 1;
        let version = self.versions.entry(key).or_default();
        *version += 1;
        let mut appended = commit(offset, key, *version, event);
        appended.commit.recorded_at = recorded_at(*version);
        appended
    }
}

/// Applies commits, as one batch of each partition that has any.
async fn apply<S: Store>(
    store: &S,
    commits: &[Valid<S::Event>],
    partitions: impl Iterator<Item = i32>,
    case: &Location<'_>,
) {
    for partition in partitions {
        let is_here = |commit: &&Valid<S::Event>| of_key(&commit.key, PARTITIONS) == partition;
        let here: Vec<_> = commits.iter().filter(is_here).cloned().collect();
        let (Some(first), Some(last)) = (here.first(), here.last()) else {
            continue;
        };
        let (from, next_offset) = (first.offset, last.offset + 1);
        let batch = batch_of(partition, from, next_offset, here);
        let applied = apply_batch(store, &batch).await;
        applied.unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

/// A store whose rows a test can read.
pub trait StoredView: Store {
    /// A vector of rows for each table of the view.
    type Rows: Debug + Default + PartialEq;

    /// Reads every row of each table, in the order of the keys.
    async fn rows(&self) -> Self::Rows;

    /// Adds rows to others, in the order of the keys.
    fn add(rows: &mut Self::Rows, more: Self::Rows);
}

impl<V> StoredView for PostgresStore<V>
where
    V: PostgresView<Tables: ReadTables<PgPool>>,
{
    type Rows = <V::Tables as ReadTables<PgPool>>::Rows;

    async fn rows(&self) -> Self::Rows {
        <V::Tables as ReadTables<PgPool>>::read(self.build(), self.pool()).await
    }

    fn add(rows: &mut Self::Rows, more: Self::Rows) {
        <V::Tables as ReadTables<PgPool>>::add(rows, more);
    }
}

impl<V> StoredView for CqlStore<V>
where
    V: CqlView<Tables: ReadTables<Session>>,
{
    type Rows = <V::Tables as ReadTables<Session>>::Rows;

    async fn rows(&self) -> Self::Rows {
        let session = self.session().await.unwrap();
        <V::Tables as ReadTables<Session>>::read(self.build(), &session).await
    }

    fn add(rows: &mut Self::Rows, more: Self::Rows) {
        <V::Tables as ReadTables<Session>>::add(rows, more);
    }
}

/// The tables of a view in the database `D`, as a tuple.
pub trait ReadTables<D> {
    /// A vector of rows for each table.
    type Rows: Debug + Default + PartialEq;

    /// Reads every row of each table of a build, in the order of the keys.
    async fn read(build: Build, database: &D) -> Self::Rows;

    /// Adds rows to others, in the order of the keys.
    fn add(rows: &mut Self::Rows, more: Self::Rows);
}

macro_rules! tables {
    ($(($($table:ident . $index:tt),+)),+) => {$(
        impl<D, $($table),+> ReadTables<D> for ($($table,)+)
        where
            $($table: Table<Row: ReadRow<D>>,)+
        {
            type Rows = ($(Vec<$table::Row>,)+);

            async fn read(build: Build, database: &D) -> Self::Rows {
                ($(read_table::<$table, D>(build, database).await,)+)
            }

            fn add(rows: &mut Self::Rows, more: Self::Rows) {
                $(
                    rows.$index.extend(more.$index);
                    rows.$index.sort_by_key($table::key);
                )+
            }
        }
    )+};
}
tables!((A.0), (A.0, B.1));

async fn read_table<T, D>(build: Build, database: &D) -> Vec<T::Row>
where
    T: Table<Row: ReadRow<D>>,
{
    let mut rows = <T::Row as ReadRow<D>>::read(build, database).await;
    rows.sort_by_key(T::key);
    rows
}

/// A row type of a table in the database `D`.
pub trait ReadRow<D>: Sized {
    /// Reads every row of a build's table.
    async fn read(build: Build, database: &D) -> Vec<Self>;
}

impl<Row: PostgresRow> ReadRow<PgPool> for Row {
    async fn read(build: Build, pool: &PgPool) -> Vec<Self> {
        let (columns, table) = (columns::<Row>(), build.table(Row::TABLE));
        let all = format!("SELECT {columns} FROM {table}");
        let rows = sqlx::query_as::<_, Self>(sqlx::AssertSqlSafe(all)).fetch_all(pool);
        rows.await.unwrap()
    }
}

impl<Row: CqlRow> ReadRow<Session> for Row {
    async fn read(build: Build, session: &Session) -> Vec<Self> {
        let (columns, table) = (columns::<Row>(), build.table(Row::TABLE));
        let all = format!("SELECT {columns} FROM {{keyspace}}.{table}");
        session.fetch(&all, ()).await.unwrap()
    }
}

fn columns<Row: Columns>() -> String {
    Row::all().collect::<Vec<_>>().join(", ")
}
