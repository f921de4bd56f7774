//! Compares the tables of a build in the store with the tables that the view needs.
//!
//! The store answers "invalid" if a keyspace, a table or a column is missing, and also if it refuses a value. Its
//! message depends on its version, so the cause is looked up in the store's own list of tables and columns.
//!
//! A column that was dropped has lost its values, also if it was added again. The store then hides later writes to it
//! as well, because their timestamps are offsets of the journal, which are before the time of the drop. So such a table
//! counts as lost, unless all builds share it: no new build would replace its values.

use super::{CqlError, Session};
use crate::{columns::Columns, store::Failure, view::Table};
use std::collections::{BTreeMap, BTreeSet};

/// The columns of each of a view's tables.
pub trait TableColumns {
    /// Each table's name without the suffix of a build, with its columns.
    fn columns() -> Vec<(&'static str, Vec<&'static str>)>;
}

macro_rules! table_columns {
    ($(($($table:ident),+)),+) => {$(
        impl<$($table),+> TableColumns for ($($table,)+)
        where
            $($table: Table<Row: Columns>,)+
        {
            fn columns() -> Vec<(&'static str, Vec<&'static str>)> {
                vec![$((<$table::Row as Columns>::TABLE, <$table::Row as Columns>::all().collect())),+]
            }
        }
    )+};
}
table_columns!((A), (A, B), (A, B, C), (A, B, C, D));

/// The tables that a build needs, each with its columns.
pub(super) type NeededTables = Vec<(String, Vec<&'static str>)>;

/// A column of a table: the names of both.
type ColumnName = (String, String);

/// The columns of a keyspace. It is empty if the keyspace does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schema {
    /// The columns of each table.
    tables: BTreeMap<String, BTreeSet<String>>,
    /// The columns of each table that were dropped, including those that were added again.
    dropped: BTreeMap<String, BTreeSet<String>>,
}

/// The state of a build's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TablesState {
    /// Every table has its columns.
    Complete,
    /// These tables are missing, or have lost the values of a column: only a new build can replace their rows.
    Lost(Vec<String>),
    /// A column is missing that was not dropped, so it was renamed: the table is complete once the column has its name
    /// again.
    ColumnMissing {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

impl Schema {
    /// Reads the columns of the session's keyspace.
    ///
    /// # Errors
    /// The store's error.
    pub async fn read(session: &Session) -> Result<Self, CqlError> {
        const COLUMNS: &str =
            "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?";
        const DROPPED: &str = "SELECT table_name, column_name FROM system_schema.dropped_columns \
            WHERE keyspace_name = ?";
        let keyspace = (session.keyspace(),);
        Ok(Self {
            tables: by_table(session.fetch(COLUMNS, keyspace).await?),
            dropped: by_table(session.fetch(DROPPED, keyspace).await?),
        })
    }

    /// The same columns without the drops in a table. Such a table is complete once it has its columns.
    pub fn without_drops_of(mut self, table: &str) -> Self {
        self.dropped.remove(table);
        self
    }

    /// Compares the tables with those that a build needs.
    pub fn state_of(&self, needed: &NeededTables) -> TablesState {
        let lost: Vec<String> = needed
            .iter()
            .filter(|(table, columns)| self.is_lost(table, columns))
            .map(|(table, _)| table.clone())
            .collect();
        if !lost.is_empty() {
            return TablesState::Lost(lost);
        }
        for (table, columns) in needed {
            let found = self.tables.get(table);
            let missing = columns
                .iter()
                .find(|column| found.is_none_or(|found| !found.contains(**column)));
            if let Some(column) = missing {
                return TablesState::ColumnMissing {
                    table: table.clone(),
                    column: (*column).to_owned(),
                };
            }
        }
        TablesState::Complete
    }

    /// Whether a table is missing, or one of its columns was dropped.
    fn is_lost(&self, table: &str, columns: &[&'static str]) -> bool {
        let is_dropped = |column: &&str| {
            let dropped = self.dropped.get(table);
            dropped.is_some_and(|dropped| dropped.contains(*column))
        };
        !self.tables.contains_key(table) || columns.iter().any(is_dropped)
    }
}

fn by_table(columns: Vec<ColumnName>) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (table, column) in columns {
        tables.entry(table).or_default().insert(column);
    }
    tables
}

/// Whether all nodes that the driver is connected to have the same schema now; `false` if one of them answers with an
/// error or not in time. A node whose connection is missing or breaks is left out, because it gets no statements. Each
/// node is asked for its own version in `system.local`, so a store of one node always has one schema: with it, only
/// this answer can be tested.
pub(super) async fn has_one_schema(session: &Session) -> bool {
    let versions = session.driver().get_session().check_schema_agreement();
    matches!(versions.await, Ok(Some(_)))
}

/// The kind of failure of an invalid statement about rows whose tables are complete. A node that has not received the
/// last change of the schema calls valid statements invalid, so only a store with one schema refuses a value.
pub(super) fn failure_of_complete_tables(has_one_schema: bool) -> Failure {
    match has_one_schema {
        true => Failure::Value,
        false => Failure::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_statement_has_a_refused_value_only_if_all_nodes_have_one_schema() {
        assert_eq!(failure_of_complete_tables(true), Failure::Value);
        assert_eq!(failure_of_complete_tables(false), Failure::Transient);
    }

    fn schema(columns: &[(&str, &str)], dropped: &[(&str, &str)]) -> Schema {
        let owned = |names: &[(&str, &str)]| {
            let names = names.iter();
            let names = names.map(|(table, column)| ((*table).to_owned(), (*column).to_owned()));
            by_table(names.collect())
        };
        Schema {
            tables: owned(columns),
            dropped: owned(dropped),
        }
    }

    fn needed() -> NeededTables {
        vec![
            ("orders_b1".to_owned(), vec!["id", "country"]),
            ("lines_b1".to_owned(), vec!["id"]),
        ]
    }

    const ALL: [(&str, &str); 3] = [
        ("orders_b1", "id"),
        ("orders_b1", "country"),
        ("lines_b1", "id"),
    ];

    #[test]
    fn tables_with_all_their_columns_are_complete() {
        let with_another = [&ALL[..], &[("lines_b1", "note"), ("other", "id")]].concat();
        let state = schema(&with_another, &[("other", "id")]).state_of(&needed());
        assert_eq!(state, TablesState::Complete);
    }

    #[test]
    fn a_missing_table_is_lost() {
        let state = schema(&ALL[..2], &[]).state_of(&needed());
        assert_eq!(state, TablesState::Lost(vec!["lines_b1".to_owned()]));
    }

    #[test]
    fn every_table_of_a_missing_keyspace_is_lost() {
        let state = Schema::default().state_of(&needed());
        let all = ["orders_b1", "lines_b1"].map(str::to_owned);
        assert_eq!(state, TablesState::Lost(all.to_vec()));
    }

    #[test]
    fn a_table_with_a_dropped_column_is_lost_also_if_the_column_was_added_again() {
        let without = [ALL[0], ALL[2]];
        let dropped = [("orders_b1", "country")];
        let lost = TablesState::Lost(vec!["orders_b1".to_owned()]);
        assert_eq!(schema(&without, &dropped).state_of(&needed()), lost);
        assert_eq!(schema(&ALL, &dropped).state_of(&needed()), lost);
    }

    #[test]
    fn a_dropped_column_that_no_view_needs_is_no_loss() {
        let dropped = [("orders_b1", "note")];
        let state = schema(&ALL, &dropped).state_of(&needed());
        assert_eq!(state, TablesState::Complete);
    }

    #[test]
    fn a_table_whose_drops_do_not_count_needs_only_its_columns() {
        let dropped = [("orders_b1", "country"), ("lines_b1", "id")];
        let without = |columns: &[(&str, &str)]| {
            let schema = schema(columns, &dropped).without_drops_of("orders_b1");
            schema.without_drops_of("lines_b1").state_of(&needed())
        };
        assert_eq!(without(&ALL), TablesState::Complete);
        let missing = TablesState::ColumnMissing {
            table: "orders_b1".to_owned(),
            column: "country".to_owned(),
        };
        assert_eq!(without(&[ALL[0], ALL[2]]), missing);
        let lost = TablesState::Lost(vec!["lines_b1".to_owned()]);
        assert_eq!(without(&ALL[..2]), lost);
    }

    #[test]
    fn a_renamed_column_is_missing_until_it_has_its_name_again() {
        let renamed = [ALL[0], ("orders_b1", "land"), ALL[2]];
        let missing = TablesState::ColumnMissing {
            table: "orders_b1".to_owned(),
            column: "country".to_owned(),
        };
        assert_eq!(schema(&renamed, &[]).state_of(&needed()), missing);
        assert_eq!(schema(&ALL, &[]).state_of(&needed()), TablesState::Complete);
    }
}
