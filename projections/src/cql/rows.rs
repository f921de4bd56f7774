//! Rows and keys in the CQL store: loaded by key, written whole.

use super::{
    CqlError, Session,
    writes::{Deletion, Write, offset_of, writes},
};
use crate::{
    columns::{Columns, join, list},
    fold::{DeletedAt, Plan, Stored},
    recorded::Recorded,
    store::StoreError,
    view::{RowFeed, Table},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::{
    deserialize::row::DeserializeRow,
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch as CqlBatch, BatchType},
        prepared::PreparedStatement,
    },
};
use std::collections::BTreeMap;

/// Most rows in one request; all rows of a request have the same partition key.
const ROWS_PER_REQUEST_MAX: usize = 100;
/// Most requests in flight at once.
const REQUESTS_MAX: usize = 32;

const READ_DELETION: &str = "SELECT version, WRITETIME(version) FROM {keyspace}.view_deletions \
    WHERE view_name = ? AND table_name = ? AND row_key = ?";
const WRITE_DELETION: &str = "INSERT INTO {keyspace}.view_deletions \
    (view_name, table_name, row_key, version) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";

/// A row type of a table in the CQL store: derive scylla's `SerializeRow` and `DeserializeRow`, and
/// implement [`Columns`] by [`columns!`](crate::columns!).
pub trait CqlRow: Columns + SerializeRow + for<'f, 'm> DeserializeRow<'f, 'm> {}

impl<Row> CqlRow for Row where Row: Columns + SerializeRow + for<'f, 'm> DeserializeRow<'f, 'm> {}

/// A primary key in the CQL store: a tuple of its columns, or a struct with their names that derives
/// scylla's `SerializeRow` and serde's `Serialize`.
pub trait CqlKey: SerializeRow + serde::Serialize {}

impl<Key: SerializeRow + serde::Serialize> CqlKey for Key {}

/// The tables of a view in the CQL store, as a tuple. The feed of each must be [`RowFeed::Versioned`];
/// another feed does not compile.
pub trait CqlTables<Event>: Send + Sync + 'static {
    /// Their names.
    const NAMES: &'static [&'static str];

    /// Loads, folds and writes the rows of a batch, one table after the other.
    fn apply(
        view: &str,
        session: &Session,
        events: &[Recorded<'_, Event>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
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
                view: &str,
                session: &Session,
                events: &[Recorded<'_, $first::Event>],
            ) -> Result<(), StoreError> {
                apply::<$first>(view, session, events).await?;
                $(apply::<$table>(view, session, events).await?;)*
                Ok(())
            }
        }
    )+};
}
tables!((A), (A, B), (A, B, C), (A, B, C, D));

/// Applies events to one table.
async fn apply<T>(
    view: &str,
    session: &Session,
    events: &[Recorded<'_, T::Event>],
) -> Result<(), StoreError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    const {
        assert!(
            matches!(T::FEED, RowFeed::Versioned(_)),
            "a table in the CQL store needs RowFeed::Versioned: its rows store their aggregate's version"
        );
    }
    let plan = Plan::<T>::new(events)?;
    let stored = load::<T>(view, session, plan.keys_to_load()).await?;
    let changes = plan.fold(stored)?;
    let (deletions, rows) = writes(changes);
    write_deletions::<T>(view, session, &deletions).await?;
    write_rows::<T>(session, &rows).await?;
    Ok(())
}

async fn load<T>(
    view: &str,
    session: &Session,
    keys: Vec<T::Key>,
) -> Result<BTreeMap<T::Key, Stored<T::Row>>, CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let statement = load_statement::<T::Row>();
    let loads = keys
        .iter()
        .map(|key| load_row::<T>(view, session, &statement, key));
    let loads: Vec<_> = loads.collect();
    let stored: Vec<_> = stream::iter(loads)
        .buffered(REQUESTS_MAX)
        .try_collect()
        .await?;
    Ok(keys.into_iter().zip(stored).collect())
}

/// Loads a row. If the row is missing, loads its deletion, which is stored before the row is deleted.
async fn load_row<T>(
    view: &str,
    session: &Session,
    statement: &str,
    key: &T::Key,
) -> Result<Stored<T::Row>, CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let row = session.fetch::<T::Row>(statement, key).await?.pop();
    let deleted_at = match row {
        Some(_) => None,
        None => {
            let values = (view, T::Row::TABLE, row_key(key)?);
            let found = session.fetch::<(i64, i64)>(READ_DELETION, values).await?;
            found.first().map(|(version, timestamp)| DeletedAt {
                version: *version,
                offset: offset_of(*timestamp),
            })
        }
    };
    Ok(Stored { row, deleted_at })
}

async fn write_deletions<T>(
    view: &str,
    session: &Session,
    deletions: &[Deletion<T::Key>],
) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let mut requests = Vec::with_capacity(deletions.len());
    for deletion in deletions {
        let values = (
            view,
            T::Row::TABLE,
            row_key(&deletion.key)?,
            deletion.version,
            deletion.timestamp,
        );
        requests.push(session.execute(WRITE_DELETION, values));
    }
    stream::iter(requests)
        .buffer_unordered(REQUESTS_MAX)
        .try_for_each(|_| async { Ok(()) })
        .await
}

async fn write_rows<T>(session: &Session, rows: &[Write<T::Key, T::Row>]) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    if rows.is_empty() {
        return Ok(());
    }
    let statements = Statements {
        upsert: session.prepare(&upsert_statement::<T::Row>()).await?,
        delete: session.prepare(&delete_statement::<T::Row>()).await?,
    };
    let mut by_token = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        let token = statements.of(row).calculate_token(row);
        let token = token.map_err(CqlError::shape)?.map(|token| token.value());
        by_token.entry(token).or_default().push(row);
    }
    let chunks = by_token
        .values()
        .flat_map(|rows| rows.chunks(ROWS_PER_REQUEST_MAX));
    let requests: Vec<_> = chunks
        .map(|rows| write_chunk::<T>(session, &statements, rows))
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

/// Writes rows of one partition, in one request.
async fn write_chunk<T>(
    session: &Session,
    statements: &Statements,
    rows: &[&Write<T::Key, T::Row>],
) -> Result<(), CqlError>
where
    T: Table<Key: CqlKey, Row: CqlRow>,
{
    let mut batch = CqlBatch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    for row in rows {
        batch.append_statement(statements.of(row).clone());
    }
    session.driver().batch(&batch, rows).await?;
    Ok(())
}

fn row_key(key: &impl serde::Serialize) -> Result<String, CqlError> {
    serde_json::to_string(key).map_err(CqlError::shape)
}

fn load_statement<Row: Columns>() -> String {
    let (columns, table, keys) = (list(Row::all()), Row::TABLE, keys_equal::<Row>());
    format!("SELECT {columns} FROM {{keyspace}}.{table} WHERE {keys}")
}

fn upsert_statement<Row: Columns>() -> String {
    let (columns, table) = (list(Row::all()), Row::TABLE);
    let markers = list(Row::all().map(|_| "?"));
    format!("INSERT INTO {{keyspace}}.{table} ({columns}) VALUES ({markers}) USING TIMESTAMP ?")
}

fn delete_statement<Row: Columns>() -> String {
    let (table, keys) = (Row::TABLE, keys_equal::<Row>());
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
    crate::columns!(Price in "prices_v1" by [sku, currency] with [amount]);

    #[test]
    fn statements_name_every_column() {
        assert_eq!(
            load_statement::<Price>(),
            "SELECT sku, currency, amount FROM {keyspace}.prices_v1 WHERE sku = ? AND currency = ?"
        );
        assert_eq!(
            upsert_statement::<Price>(),
            "INSERT INTO {keyspace}.prices_v1 (sku, currency, amount) VALUES (?, ?, ?) \
             USING TIMESTAMP ?"
        );
        assert_eq!(
            delete_statement::<Price>(),
            "DELETE FROM {keyspace}.prices_v1 USING TIMESTAMP ? WHERE sku = ? AND currency = ?"
        );
    }
}
