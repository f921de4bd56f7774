//! Rows and keys in Postgres: read by name, written as one array per column.
//!
//! A statement's text does not depend on the number of rows, so each is prepared once. Crates that derive such
//! statements (`sqlx-batch`, `sql-macros-derive`) support only inserts, or need a database at compile time.

use crate::{
    builds::Build,
    columns::{Columns, join, list},
    difference::{Compared, Differing},
    fold::{Change, Plan, Stored},
    recorded::Recorded,
    store::StoreError,
    view::{RowFeed, Table},
};
use sqlx::{
    Arguments, AssertSqlSafe, Encode, FromRow, PgConnection, Postgres, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgHasArrayType, PgRow},
};
use std::collections::BTreeMap;

/// A row type of a table in Postgres. [`postgres_row!`](crate::postgres_row!) implements it.
pub trait PostgresRow: Columns + for<'r> FromRow<'r, PgRow> + Send + Sync + Unpin {
    /// Adds one array per column, in the order of [`Columns::all`].
    ///
    /// # Errors
    /// A value that Postgres can't represent.
    fn bind(rows: &[&Self], arguments: &mut PgArguments) -> Result<(), BoxDynError>;
}

/// A primary key in Postgres.
pub trait PostgresKey: Send + Sync {
    /// Adds one array per column of the key.
    ///
    /// # Errors
    /// A value that Postgres can't represent.
    fn bind(keys: &[&Self], arguments: &mut PgArguments) -> Result<(), BoxDynError>;
}

/// Implements [`Columns`] and [`PostgresRow`] for a struct that derives [`FromRow`].
///
/// ```
/// #[derive(sqlx::FromRow)]
/// struct Price {
///     sku: String,
///     amount: i64,
/// }
/// projections::postgres_row!(Price in "prices_v1" by [sku] with [amount]);
/// ```
#[macro_export]
macro_rules! postgres_row {
    ($row:ident in $table:literal by [$($key:ident),+ $(,)?] with [$($value:ident),* $(,)?]) => {
        $crate::columns!($row in $table by [$($key),+] with [$($value),*]);

        impl $crate::postgres::PostgresRow for $row {
            fn bind(
                rows: &[&Self],
                arguments: &mut ::sqlx::postgres::PgArguments,
            ) -> ::std::result::Result<(), ::sqlx::error::BoxDynError> {
                $($crate::postgres::bind_column(rows, |row| &row.$key, arguments)?;)+
                $($crate::postgres::bind_column(rows, |row| &row.$value, arguments)?;)*
                Ok(())
            }
        }
    };
}

/// Adds one column of many rows, as an array.
///
/// # Errors
/// A value that Postgres can't represent.
pub fn bind_column<'r, Row, Value>(
    rows: &[&'r Row],
    value: impl Fn(&'r Row) -> &'r Value,
    arguments: &mut PgArguments,
) -> Result<(), BoxDynError>
where
    Value: for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + 'r,
{
    let column: Vec<&Value> = rows.iter().map(|row| value(row)).collect();
    arguments.add(column)
}

macro_rules! single_column_keys {
    ($($key:ty),+) => {$(
        impl PostgresKey for $key {
            fn bind(keys: &[&Self], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
                bind_column(keys, |key| key, arguments)
            }
        }
    )+};
}
single_column_keys!(String, i64, i32);

macro_rules! composite_keys {
    ($(($($part:ident . $index:tt),+)),+) => {$(
        impl<$($part),+> PostgresKey for ($($part,)+)
        where
            $($part: for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType + Send + Sync,)+
        {
            fn bind(keys: &[&Self], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
                $(bind_column(keys, |key| &key.$index, arguments)?;)+
                Ok(())
            }
        }
    )+};
}
composite_keys!((A.0), (A.0, B.1), (A.0, B.1, C.2), (A.0, B.1, C.2, D.3));

/// The tables of a view in Postgres, as a tuple.
pub trait PostgresTables<Event>: Send + Sync + 'static {
    /// The names of the tables.
    const NAMES: &'static [&'static str];
    /// Whether several partitions may feed one row of any of the tables.
    const IS_SHARED: bool;

    /// The columns of the row types, each as its table's name without the suffix of a build, and its own name.
    fn columns() -> Vec<(&'static str, &'static str)>;

    /// Loads, folds and writes the rows of a batch, one table after the other.
    fn apply(
        build: Build,
        events: &[Recorded<'_, Event>],
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Compares the rows of two builds. Returns the number of rows of the first one, the number of rows that
    /// differ, and the first differing rows, at most `limit` of each table.
    fn compare(
        build: Build,
        other: Build,
        limit: usize,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<Compared<Event>, sqlx::Error>> + Send;
}

macro_rules! tables {
    ($(($first:ident $(, $table:ident)*)),+) => {$(
        impl<$first $(, $table)*> PostgresTables<$first::Event> for ($first, $($table,)*)
        where
            $first: Table<Key: PostgresKey, Row: PostgresRow>,
            $($table: Table<Event = $first::Event, Key: PostgresKey, Row: PostgresRow>,)*
        {
            const NAMES: &'static [&'static str] =
                &[<$first::Row as Columns>::TABLE $(, <$table::Row as Columns>::TABLE)*];
            const IS_SHARED: bool = is_shared(&$first::FEED) $(|| is_shared(&$table::FEED))*;

            fn columns() -> Vec<(&'static str, &'static str)> {
                [columns_of::<$first::Row>() $(, columns_of::<$table::Row>())*].concat()
            }

            async fn apply(
                build: Build,
                events: &[Recorded<'_, $first::Event>],
                connection: &mut PgConnection,
            ) -> Result<(), StoreError> {
                apply::<$first>(build, events, connection).await?;
                $(apply::<$table>(build, events, connection).await?;)*
                Ok(())
            }

            async fn compare(
                build: Build,
                other: Build,
                limit: usize,
                connection: &mut PgConnection,
            ) -> Result<Compared<$first::Event>, sqlx::Error> {
                let mut compared: Compared<$first::Event> = (0, 0, Vec::new());
                compare::<$first>((build, other), limit, connection, &mut compared).await?;
                $(compare::<$table>((build, other), limit, connection, &mut compared).await?;)*
                Ok(compared)
            }
        }
    )+};
}
tables!((A), (A, B), (A, B, C), (A, B, C, D));

fn columns_of<Row: Columns>() -> Vec<(&'static str, &'static str)> {
    Row::all().map(|column| (Row::TABLE, column)).collect()
}

const fn is_shared<Row>(feed: &RowFeed<Row>) -> bool {
    matches!(feed, RowFeed::SeveralAggregates)
}

/// Applies events to one table.
async fn apply<T>(
    build: Build,
    events: &[Recorded<'_, T::Event>],
    connection: &mut PgConnection,
) -> Result<(), StoreError>
where
    T: Table<Key: PostgresKey, Row: PostgresRow>,
{
    let plan = Plan::<T>::new(events)?;
    let table = build.table(T::Row::TABLE);
    match T::FEED {
        // An aggregate has one partition, and each partition has one transaction at a time.
        RowFeed::Versioned(_) | RowFeed::OneAggregate => {}
        RowFeed::SeveralAggregates => lock_rows(&table, connection).await?,
    }
    let stored = load::<T>(&table, &plan.keys_to_load(), connection).await?;
    let changes = plan.fold(stored)?;
    write::<T>(&table, &changes, connection).await?;
    Ok(())
}

/// Waits until no other partition's transaction changes the table's rows. A row may not exist yet, so the lock is not
/// on the row itself. All transactions lock a view's tables in the same order, so they can't deadlock.
async fn lock_rows(table: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(table)
        .execute(connection)
        .await?;
    Ok(())
}

async fn load<T>(
    table: &str,
    keys: &[T::Key],
    connection: &mut PgConnection,
) -> Result<BTreeMap<T::Key, Stored<T::Row>>, sqlx::Error>
where
    T: Table<Key: PostgresKey, Row: PostgresRow>,
{
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut arguments = PgArguments::default();
    T::Key::bind(&Vec::from_iter(keys), &mut arguments).map_err(sqlx::Error::Encode)?;
    let statement = AssertSqlSafe(load_statement::<T::Row>(table));
    let rows: Vec<T::Row> = sqlx::query_as_with(statement, arguments)
        .fetch_all(connection)
        .await?;
    let stored = |row: T::Row| {
        let key = T::key(&row);
        let stored = Stored {
            row: Some(row),
            deleted_at: None,
        };
        (key, stored)
    };
    Ok(rows.into_iter().map(stored).collect())
}

/// Writes the rows that differ from the stored rows, in the order of their keys.
async fn write<T>(
    table: &str,
    changes: &[Change<T::Key, T::Row>],
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error>
where
    T: Table<Key: PostgresKey, Row: PostgresRow>,
{
    let changed = changes
        .iter()
        .filter(|change| change.before != change.after);
    let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
    for change in changed {
        match &change.after {
            Some(row) => upserts.push(row),
            None => deletes.push(&change.key),
        }
    }
    if !upserts.is_empty() {
        let mut arguments = PgArguments::default();
        T::Row::bind(&upserts, &mut arguments).map_err(sqlx::Error::Encode)?;
        let statement = AssertSqlSafe(upsert_statement::<T::Row>(table));
        sqlx::query_with(statement, arguments)
            .execute(&mut *connection)
            .await?;
    }
    if !deletes.is_empty() {
        let mut arguments = PgArguments::default();
        T::Key::bind(&deletes, &mut arguments).map_err(sqlx::Error::Encode)?;
        let statement = AssertSqlSafe(delete_statement::<T::Row>(table));
        sqlx::query_with(statement, arguments)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn compare<T>(
    (build, other): (Build, Build),
    limit: usize,
    connection: &mut PgConnection,
    compared: &mut Compared<T::Event>,
) -> Result<(), sqlx::Error>
where
    T: Table<Key: PostgresKey, Row: PostgresRow>,
{
    let (left, right) = (build.table(T::Row::TABLE), other.table(T::Row::TABLE));
    let keys = list(T::Row::KEY);
    let row = |side: &str| list(T::Row::all().map(|column| format!("{side}.{column}")));
    let (left_row, right_row) = (row("l"), row("r"));
    let is_different = format!("ROW({left_row}) IS DISTINCT FROM ROW({right_row})");
    let count = |statement: String| sqlx::query_scalar::<_, i64>(AssertSqlSafe(statement));
    let rows = count(format!("SELECT count(*) FROM {left}"))
        .fetch_one(&mut *connection)
        .await?;
    let different = count(format!(
        "SELECT count(*) FROM {left} AS l FULL JOIN {right} AS r USING ({keys}) WHERE {is_different}"
    ))
    .fetch_one(&mut *connection)
    .await?;
    compared.0 += rows.unsigned_abs();
    compared.1 += different.unsigned_abs();
    if different == 0 {
        return Ok(());
    }
    // Both sides read the rows of the same keys. The database's locale may sort keys in another order than `T::Key`, so
    // a cut through the first rows of each side could separate the two rows of a key.
    let shown = format!(
        "SELECT {keys} FROM {left} AS l FULL JOIN {right} AS r USING ({keys}) WHERE {is_different} \
         ORDER BY {keys} LIMIT {limit}"
    );
    let columns = list(T::Row::all().map(|column| format!("side.{column}")));
    let mut sides = Vec::new();
    for table in [&left, &right] {
        let statement =
            format!("SELECT {columns} FROM ({shown}) AS shown JOIN {table} AS side USING ({keys})");
        let rows: Vec<T::Row> = sqlx::query_as(AssertSqlSafe(statement))
            .fetch_all(&mut *connection)
            .await?;
        sides.push(rows);
    }
    let (right, left) = (sides.pop(), sides.pop());
    let differing = Differing::<T>::new(
        T::Row::TABLE,
        left.unwrap_or_default(),
        right.unwrap_or_default(),
        limit,
    );
    compared.2.push(Box::new(differing));
    Ok(())
}

fn load_statement<Row: Columns>(table: &str) -> String {
    let keys = list(Row::KEY);
    let columns = list(Row::all().map(|column| format!("stored.{column}")));
    let arrays = arrays(Row::KEY.len());
    format!(
        "SELECT {columns} FROM UNNEST({arrays}) AS wanted ({keys}) \
         JOIN {table} AS stored USING ({keys})"
    )
}

fn upsert_statement<Row: Columns>(table: &str) -> String {
    let keys = list(Row::KEY);
    let (columns, arrays) = (list(Row::all()), arrays(Row::all().count()));
    let updates = list(
        Row::VALUES
            .iter()
            .map(|column| format!("{column} = excluded.{column}")),
    );
    let action = match updates.is_empty() {
        true => "NOTHING".to_owned(),
        false => format!("UPDATE SET {updates}"),
    };
    format!(
        "INSERT INTO {table} ({columns}) SELECT * FROM UNNEST({arrays}) \
         ON CONFLICT ({keys}) DO {action}"
    )
}

fn delete_statement<Row: Columns>(table: &str) -> String {
    let (keys, arrays) = (list(Row::KEY), arrays(Row::KEY.len()));
    let equal = Row::KEY
        .iter()
        .map(|key| format!("stored.{key} = gone.{key}"));
    let equal = join(equal, " AND ");
    format!("DELETE FROM {table} AS stored USING UNNEST({arrays}) AS gone ({keys}) WHERE {equal}")
}

/// `$1, $2, ..`
fn arrays(count: usize) -> String {
    list((1..=count).map(|number| format!("${number}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(FromRow)]
    struct Line {
        order_id: String,
        number: i32,
        amount: Option<i64>,
    }
    crate::postgres_row!(Line in "lines_v1" by [order_id, number] with [amount]);

    #[derive(FromRow)]
    struct Present {
        id: i64,
    }
    crate::postgres_row!(Present in "seen_v1" by [id] with []);

    #[test]
    fn statements_name_every_column_in_one_order() {
        assert_eq!(
            load_statement::<Line>("lines_v1_b2"),
            "SELECT stored.order_id, stored.number, stored.amount FROM UNNEST($1, $2) \
             AS wanted (order_id, number) JOIN lines_v1_b2 AS stored USING (order_id, number)"
        );
        assert_eq!(
            upsert_statement::<Line>("lines_v1_b2"),
            "INSERT INTO lines_v1_b2 (order_id, number, amount) SELECT * FROM UNNEST($1, $2, $3) \
             ON CONFLICT (order_id, number) DO UPDATE SET amount = excluded.amount"
        );
        assert_eq!(
            delete_statement::<Line>("lines_v1_b2"),
            "DELETE FROM lines_v1_b2 AS stored USING UNNEST($1, $2) AS gone (order_id, number) \
             WHERE stored.order_id = gone.order_id AND stored.number = gone.number"
        );
    }

    #[test]
    fn a_row_that_is_only_a_key_has_nothing_to_update() {
        assert_eq!(
            upsert_statement::<Present>("seen_v1_b1"),
            "INSERT INTO seen_v1_b1 (id) SELECT * FROM UNNEST($1) ON CONFLICT (id) DO NOTHING"
        );
    }

    #[test]
    fn a_row_binds_one_array_per_column() {
        let line = Line {
            order_id: "order_1".into(),
            number: 1,
            amount: None,
        };
        let mut arguments = PgArguments::default();
        Line::bind(&[&line, &line], &mut arguments).unwrap();
        assert_eq!(arguments.len(), Line::all().count());
        let mut arguments = PgArguments::default();
        let key = (line.order_id.clone(), line.number);
        PostgresKey::bind(&[&key], &mut arguments).unwrap();
        assert_eq!(arguments.len(), Line::KEY.len());
        Present::bind(&[&Present { id: 1 }], &mut arguments).unwrap();
        assert_eq!(arguments.len(), Line::KEY.len() + 1);
    }
}
