//! Rows and keys in the CQL store: loaded by key, written whole.

use super::{
    CqlError, Session,
    apply::{REQUESTS_MAX, TableRequests, apply},
    scan::Scan,
    write_requests::{PartitionRows, ROWS_PER_REQUEST_MAX, Replicas, write_requests},
    writes::{Deletion, Write, offset_of},
};
use crate::{
    builds::Build,
    columns::{Columns, join, list},
    difference::{Compared, Differing},
    fold::DeletedAt,
    recorded::Recorded,
    store::StoreError,
    view::Table,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::{
    cluster::ClusterState,
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    routing::Token,
    serialize::{
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    statement::{
        batch::{Batch as CqlBatch, BatchType},
        prepared::PreparedStatement,
    },
};
use std::{collections::BTreeMap, marker::PhantomData};

/// Placeholder for the name of the table of a build's deleted rows.
const DELETIONS: &str = "{deletions}";
const CREATE_DELETIONS: &str = include_str!("deletions.cql");
const READ_DELETION: &str = "SELECT version, WRITETIME(version) FROM {keyspace}.{deletions} \
    WHERE table_name = ? AND row_key = ?";
const WRITE_DELETION: &str = "INSERT INTO {keyspace}.{deletions} \
    (table_name, row_key, version) VALUES (?, ?, ?) USING TIMESTAMP ?";

/// A row type of a table in the CQL store: derive scylla's `SerializeRow` and `DeserializeRow`, and
/// implement [`Columns`] by [`columns!`](crate::columns!).
pub trait CqlRow: Columns + SerializeRow + for<'f, 'm> DeserializeRow<'f, 'm> {}

impl<Row> CqlRow for Row where Row: Columns + SerializeRow + for<'f, 'm> DeserializeRow<'f, 'm> {}

/// A primary key in the CQL store: a tuple of its columns, or a struct with their names that derives
/// scylla's `SerializeRow` and serde's `Serialize`.
pub trait CqlKey: SerializeRow + serde::Serialize {}

impl<Key: SerializeRow + serde::Serialize> CqlKey for Key {}

/// The tables of a view in the CQL store, as a tuple. The feed of each table must be [`RowFeed::Versioned`](crate::RowFeed::Versioned);
/// any other feed does not compile.
pub trait CqlTables<Event>: Send + Sync + 'static {
    /// The names of the tables.
    const NAMES: &'static [&'static str];

    /// Loads, folds and writes the rows of a batch, one table after the other.
    fn apply(
        build: Build,
        session: &Session,
        events: &[Recorded<'_, Event>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Compares the rows of two builds. Returns the number of rows of the first one, the number of rows that
    /// differ, and the first differing rows, at most `limit` of each table.
    fn compare(
        build: Build,
        other: Build,
        limit: usize,
        session: &Session,
    ) -> impl Future<Output = Result<Compared<Event>, CqlError>> + Send;
}

macro_rules! tables {
    ($(($first:ident $(, $table:ident)*)),+) => {$(
        impl<$first $(, $table)*> CqlTables<$first::Event> for ($first, $($table,)*)
        where
            $first: Table<Key: CqlKey, Row: CqlRow>,
            $($table: Table<Event = $first::Event, Key: CqlKey, Row: CqlRow>,)*
        {
            const NAMES: &'static [&'static str] =
                &[<$first::Row as Columns>::TABLE $(, <$table::Row as Columns>::TABLE)*];

            async fn apply(
                build: Build,
                session: &Session,
                events: &[Recorded<'_, $first::Event>],
            ) -> Result<(), StoreError> {
                apply::<$first, _>(&TableSession::new(build, session), events).await?;
                $(apply::<$table, _>(&TableSession::new(build, session), events).await?;)*
                Ok(())
            }

            async fn compare(
                build: Build,
                other: Build,
                limit: usize,
                session: &Session,
            ) -> Result<Compared<$first::Event>, CqlError> {
                let mut compared: Compared<$first::Event> = (0, 0, Vec::new());
                compare::<$first>((build, other), limit, session, &mut compared).await?;
                $(compare::<$table>((build, other), limit, session, &mut compared).await?;)*
                Ok(compared)
            }
        }
    )+};
}
tables!((A), (A, B), (A, B, C), (A, B, C, D));

/// The requests about one table of a build, with the statements that each row needs.
struct TableSession<'s, T> {
    build: Build,
    session: &'s Session,
    load_row: String,
    load_deletion: String,
    table: PhantomData<T>,
}

impl<'s, T: Table<Row: CqlRow>> TableSession<'s, T> {
    fn new(build: Build, session: &'s Session) -> Self {
        Self {
            build,
            session,
            load_row: load_statement::<T::Row>(build),
            load_deletion: about_deletions(READ_DELETION, build),
            table: PhantomData,
        }
    }
}

impl<T> TableRequests<T> for TableSession<'_, T>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    type Error = StoreError;

    async fn load_row(&self, key: &T::Key) -> Result<Option<T::Row>, StoreError> {
        let mut rows = self.session.fetch::<T::Row>(&self.load_row, key).await?;
        Ok(rows.pop())
    }

    async fn load_deletion(&self, key: &T::Key) -> Result<Option<DeletedAt>, StoreError> {
        let values = (T::Row::TABLE, row_key(key)?);
        let found = self
            .session
            .fetch::<(i64, i64)>(&self.load_deletion, values);
        Ok(found.await?.first().map(|(version, timestamp)| DeletedAt {
            version: *version,
            offset: offset_of(*timestamp),
        }))
    }

    async fn write_deletions(&self, deletions: &[Deletion<T::Key>]) -> Result<(), StoreError> {
        Ok(write_deletions::<T>(self.build, self.session, deletions).await?)
    }

    async fn write_rows(&self, rows: &[Write<T::Key, T::Row>]) -> Result<(), StoreError> {
        Ok(write_rows::<T>(self.build, self.session, rows).await?)
    }
}

async fn write_deletions<T>(
    build: Build,
    session: &Session,
    deletions: &[Deletion<T::Key>],
) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let statement = about_deletions(WRITE_DELETION, build);
    let mut requests = Vec::with_capacity(deletions.len());
    for deletion in deletions {
        let values = (
            T::Row::TABLE,
            row_key(&deletion.key)?,
            deletion.version,
            deletion.timestamp,
        );
        requests.push(session.execute(&statement, values));
    }
    stream::iter(requests)
        .buffer_unordered(REQUESTS_MAX)
        .try_for_each(|_| async { Ok(()) })
        .await
}

async fn write_rows<T>(
    build: Build,
    session: &Session,
    rows: &[Write<T::Key, T::Row>],
) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    if rows.is_empty() {
        return Ok(());
    }
    let statements = Statements {
        upsert: session.prepare(&upsert_statement::<T::Row>(build)).await?,
        delete: session.prepare(&delete_statement::<T::Row>(build)).await?,
    };
    let cluster = session.driver().get_session().get_cluster_state();
    let divided = write_requests(by_partition(&cluster, &statements, rows)?);
    let requests: Vec<_> = divided
        .iter()
        .map(|rows| write_request::<T>(session, &statements, rows))
        .collect();
    stream::iter(requests)
        .buffer_unordered(REQUESTS_MAX)
        .try_for_each(|()| async { Ok(()) })
        .await
}

struct Statements {
    upsert: PreparedStatement,
    delete: PreparedStatement,
}

impl Statements {
    fn of<Key, Row>(&self, write: &Write<Key, Row>) -> &PreparedStatement {
        match write {
            Write::Upsert { .. } => &self.upsert,
            Write::Delete { .. } => &self.delete,
        }
    }
}

/// The rows of each partition, in parts of at most [`ROWS_PER_REQUEST_MAX`].
fn by_partition<'r, Key: CqlKey, Row: CqlRow>(
    cluster: &ClusterState,
    statements: &Statements,
    rows: &'r [Write<Key, Row>],
) -> Result<Vec<PartitionRows<&'r Write<Key, Row>>>, CqlError> {
    let mut by_token = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        let statement = statements.of(row);
        let token = statement.calculate_token(row);
        let token = token.map_err(|error| CqlError::from(error.into_execution_error()))?;
        let token = token.map(|token| token.value());
        let bytes = value_bytes(statement, row)?;
        by_token.entry(token).or_default().push((row, bytes));
    }
    let mut partitions = Vec::with_capacity(by_token.len());
    for (token, rows) in by_token {
        let replicas = token.map_or_else(Replicas::new, |token| {
            replicas(cluster, &statements.upsert, Token::new(token))
        });
        for part in rows.chunks(ROWS_PER_REQUEST_MAX) {
            partitions.push(PartitionRows {
                replicas: replicas.clone(),
                rows: part.iter().map(|(row, _)| *row).collect(),
                bytes: part.iter().map(|(_, bytes)| bytes).sum(),
            });
        }
    }
    Ok(partitions)
}

/// The replicas of a token of the statement's table, as the driver knows them.
fn replicas(cluster: &ClusterState, statement: &PreparedStatement, token: Token) -> Replicas {
    let Some(table) = statement.get_table_spec() else {
        return Replicas::new();
    };
    let endpoints = cluster.get_token_endpoints(table.ks_name(), table.table_name(), token);
    let mut replicas: Replicas = endpoints
        .into_iter()
        .map(|(node, shard)| (node.host_id.as_u128(), shard))
        .collect();
    replicas.sort_unstable();
    replicas
}

/// The size of a write's values in its request, in bytes.
fn value_bytes(
    statement: &PreparedStatement,
    write: &impl SerializeRow,
) -> Result<usize, CqlError> {
    let columns = statement.get_variable_col_specs();
    let context = RowSerializationContext::from_specs(columns.as_slice());
    let mut bytes = Vec::new();
    let written = write.serialize(&context, &mut RowWriter::new(&mut bytes));
    written.map_err(ExecutionError::from)?;
    Ok(bytes.len())
}

/// Writes rows in one request. A single row needs no batch, which costs the store more than the statement alone.
async fn write_request<T>(
    session: &Session,
    statements: &Statements,
    rows: &[&Write<T::Key, T::Row>],
) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    if let [row] = rows {
        let driver = session.driver().get_session();
        driver.execute_unpaged(statements.of(row), row).await?;
        return Ok(());
    }
    let mut batch = CqlBatch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    for row in rows {
        batch.append_statement(statements.of(row).clone());
    }
    session.driver().batch(&batch, rows).await?;
    Ok(())
}

/// The store can't join tables, so each row of one build is looked up in the other.
async fn compare<T>(
    (build, other): (Build, Build),
    limit: usize,
    session: &Session,
    compared: &mut Compared<T::Event>,
) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let of_first = scan::<T>(session, build, other, limit).await?;
    let of_other = scan::<T>(session, other, build, limit).await?;
    compared.0 += of_first.rows;
    let joined = of_first.join(of_other);
    compared.1 += joined.different;
    if joined.different > 0 {
        let differing = Differing::<T>::new(T::Row::TABLE, joined.left, joined.right, limit);
        compared.2.push(Box::new(differing));
    }
    Ok(())
}

/// Reads the rows of a build, and looks each up in another one.
async fn scan<T>(
    session: &Session,
    build: Build,
    other: Build,
    limit: usize,
) -> Result<Scan<T::Row>, CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let (columns, table) = (list(T::Row::all()), build.table(T::Row::TABLE));
    let all = session.statement(&format!("SELECT {columns} FROM {{keyspace}}.{table}"));
    let pager = session.driver().execute_iter(all, ()).await;
    let rows = pager
        .map_err(CqlError::from)?
        .rows_stream::<T::Row>()
        .map_err(CqlError::shape)?;
    let statement = load_statement::<T::Row>(other);
    let by_key = statement.as_str();
    let pairs = rows
        .map_err(CqlError::from)
        .map_ok(move |row| async move {
            let found = session.fetch::<T::Row>(by_key, T::key(&row)).await?.pop();
            Ok::<_, CqlError>((row, found))
        })
        .try_buffer_unordered(REQUESTS_MAX);
    let mut pairs = std::pin::pin!(pairs);
    let mut scan = Scan::new();
    while let Some((row, found)) = pairs.try_next().await? {
        scan.add(row, found, limit);
    }
    Ok(scan)
}

/// The table of a build's deleted rows.
pub(super) fn deletions_table(build: Build) -> String {
    build.table(&format!("{}_deletions", build.view))
}

/// The statement that creates the table of a build's deleted rows, if it does not exist.
pub(super) fn create_deletions(build: Build) -> String {
    about_deletions(CREATE_DELETIONS, build)
}

/// A statement about the deleted rows of a build.
fn about_deletions(statement: &str, build: Build) -> String {
    statement.replace(DELETIONS, &deletions_table(build))
}

fn row_key(key: &impl serde::Serialize) -> Result<String, CqlError> {
    serde_json::to_string(key).map_err(CqlError::shape)
}

fn load_statement<Row: Columns>(build: Build) -> String {
    let (columns, table) = (list(Row::all()), build.table(Row::TABLE));
    let keys = keys_equal::<Row>();
    format!("SELECT {columns} FROM {{keyspace}}.{table} WHERE {keys}")
}

fn upsert_statement<Row: Columns>(build: Build) -> String {
    let (columns, table) = (list(Row::all()), build.table(Row::TABLE));
    let markers = list(Row::all().map(|_| "?"));
    format!("INSERT INTO {{keyspace}}.{table} ({columns}) VALUES ({markers}) USING TIMESTAMP ?")
}

fn delete_statement<Row: Columns>(build: Build) -> String {
    let (table, keys) = (build.table(Row::TABLE), keys_equal::<Row>());
    format!("DELETE FROM {{keyspace}}.{table} USING TIMESTAMP ? WHERE {keys}")
}

fn keys_equal<Row: Columns>() -> String {
    join(Row::KEY.iter().map(|key| format!("{key} = ?")), " AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(scylla::SerializeRow)]
    struct Price {
        sku: String,
        currency: String,
        amount: i64,
    }
    const BUILD: Build = Build {
        view: "prices_v1",
        number: 2,
    };
    crate::columns!(Price in "prices_v1" by [sku, currency] with [amount]);

    #[test]
    fn statements_name_every_column() {
        assert_eq!(
            load_statement::<Price>(BUILD),
            "SELECT sku, currency, amount FROM {keyspace}.prices_v1_b2 WHERE sku = ? AND currency = ?"
        );
        assert_eq!(
            upsert_statement::<Price>(BUILD),
            "INSERT INTO {keyspace}.prices_v1_b2 (sku, currency, amount) VALUES (?, ?, ?) \
             USING TIMESTAMP ?"
        );
        assert_eq!(
            delete_statement::<Price>(BUILD),
            "DELETE FROM {keyspace}.prices_v1_b2 USING TIMESTAMP ? WHERE sku = ? AND currency = ?"
        );
        assert_eq!(
            about_deletions(READ_DELETION, BUILD),
            "SELECT version, WRITETIME(version) FROM {keyspace}.prices_v1_deletions_b2 \
             WHERE table_name = ? AND row_key = ?"
        );
    }
}
