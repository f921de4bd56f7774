//! Creates the tables of a build that has no rows yet.
//!
//! After a loss of the list of builds, an earlier build with the same number may have left its tables, perhaps those of
//! a log that is lost, too. Its rows and its deletions would hide the events of this log, whose versions and offsets
//! are smaller. So the tables are dropped first. A table that is created again has another id, so the store ignores
//! late writes to the dropped one.
//!
//! A change of the schema may take longer than a request. So an attempt keeps the empty tables that an earlier one has
//! created. If the table of deleted rows has no rows, no row of the other tables was deleted. Therefore this table is
//! dropped last and created first.

use super::{CqlStore, CqlView};
use crate::cql::{
    CqlError, Session,
    rows::{create_deletions, deletions_table},
    schema::TablesState,
};
use scylla::value::Row;

impl<V: CqlView> CqlStore<V> {
    /// Creates the build's tables; drops those of an earlier build with this number, and its checkpoints. The
    /// checkpoints would skip commits that were parked, because the list of parked commits is lost as well.
    ///
    /// # Errors
    /// The store's error.
    pub(super) async fn create_empty_tables(
        &self,
        state: &TablesState,
        session: &Session,
    ) -> Result<(), CqlError> {
        // The first step, so that a projector of the earlier build can't move them any more.
        self.delete_checkpoints(session).await?;
        match state {
            TablesState::ColumnMissing { .. } => self.drop_all(&self.tables(), session).await?,
            TablesState::Complete => self.drop_old(&[], session).await?,
            TablesState::Lost(lost) => self.drop_old(lost, session).await?,
        }
        session.run_all(&create_deletions(self.build)).await?;
        session.run_all(&self.build.fill(V::SCHEMA)).await
    }

    /// Drops all tables if they are those of an earlier build. Otherwise drops only the lost ones: such a table may
    /// exist without a column.
    async fn drop_old(&self, lost: &[String], session: &Session) -> Result<(), CqlError> {
        let tables = self.tables();
        let are_old = match lost.contains(&deletions_table(self.build)) {
            true => lost.len() < tables.len(),
            false => self.has_rows(lost, session).await?,
        };
        let dropped: &[String] = match are_old {
            true => &tables,
            false => lost,
        };
        self.drop_all(dropped, session).await
    }

    /// Whether a table that is not lost has rows. The table of deleted rows is asked first: if it has none, no other
    /// read must skip deleted rows.
    async fn has_rows(&self, lost: &[String], session: &Session) -> Result<bool, CqlError> {
        for table in self.tables().iter().rev() {
            if lost.contains(table) {
                continue;
            }
            let select = format!("SELECT * FROM {{keyspace}}.{table} LIMIT 1");
            let found: Vec<Row> = session.fetch(&select, ()).await?;
            if !found.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drops tables, in this order.
    pub(super) async fn drop_all(
        &self,
        tables: &[String],
        session: &Session,
    ) -> Result<(), CqlError> {
        for table in tables {
            let statement = format!("DROP TABLE IF EXISTS {{keyspace}}.{table};");
            session.run_all(&statement).await?;
        }
        Ok(())
    }
}
