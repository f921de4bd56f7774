//! Statements and their results.

use super::CqlError;
use crate::settings::CqlSettings;
use scylla::{
    client::{
        caching_session::{CachingSession, CachingSessionBuilder},
        session::Session as Driver,
    },
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    response::query_result::QueryResult,
    serialize::row::SerializeRow,
    statement::{Statement, prepared::PreparedStatement},
};
use std::collections::BTreeSet;

/// Maximum number of prepared statements that are kept: more than all views together use.
const STATEMENTS_MAX: usize = 512;
/// Placeholder of the keyspace in every statement. Names are always qualified: with `USE`, the meaning of
/// a prepared statement would depend on the connection that it was prepared on.
const KEYSPACE: &str = "{keyspace}";

/// A session with the store, and the keyspace of our tables.
pub struct Session {
    driver: CachingSession,
    keyspace: String,
    /// The number of copies of each row, if the keyspace must be created.
    replication_factor: u16,
}

impl Session {
    /// The keyspace must be a plain name, as `CqlSettings::check` requires.
    pub(super) fn new(driver: Driver, settings: &CqlSettings) -> Self {
        Self {
            driver: CachingSessionBuilder::new(driver)
                .max_capacity(STATEMENTS_MAX)
                .build(),
            keyspace: settings.keyspace.clone(),
            replication_factor: settings.replication_factor,
        }
    }

    /// The name of our keyspace.
    pub(super) fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// The number of copies of each row, if the keyspace must be created.
    pub(super) fn replication_factor(&self) -> u16 {
        self.replication_factor
    }

    /// The driver's own session, which has no default keyspace.
    pub fn driver(&self) -> &CachingSession {
        &self.driver
    }

    /// Runs a prepared statement with a short result. Its `{keyspace}` is replaced by our keyspace.
    ///
    /// # Errors
    /// The store's error.
    pub async fn execute(
        &self,
        statement: &str,
        values: impl SerializeRow,
    ) -> Result<QueryResult, CqlError> {
        let statement = self.statement(statement);
        Ok(self.driver.execute_unpaged(statement, values).await?)
    }

    /// Runs a prepared statement and reads all its rows.
    ///
    /// # Errors
    /// The store's error, or rows of another type than `Row`.
    pub async fn fetch<Row>(
        &self,
        statement: &str,
        values: impl SerializeRow,
    ) -> Result<Vec<Row>, CqlError>
    where
        Row: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let result = self.execute(statement, values).await?.into_rows_result()?;
        let rows = result.rows::<Row>().map_err(CqlError::shape)?;
        rows.collect::<Result<_, _>>().map_err(CqlError::shape)
    }

    /// The names of the tables in our keyspace.
    pub(super) async fn tables(&self) -> Result<BTreeSet<String>, CqlError> {
        const FIND: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let names = self.fetch::<(String,)>(FIND, (&self.keyspace,)).await?;
        Ok(names.into_iter().map(|(name,)| name).collect())
    }

    /// Prepares a statement, once.
    pub(super) async fn prepare(&self, statement: &str) -> Result<PreparedStatement, CqlError> {
        let statement = self.statement(statement);
        let prepared = self.driver.add_prepared_statement(&statement).await;
        Ok(prepared.map_err(ExecutionError::from)?)
    }

    /// Runs statements that each end with a semicolon; `--` begins a comment. They are not prepared, because
    /// each runs once.
    pub(super) async fn run_all(&self, statements: &str) -> Result<(), CqlError> {
        let without_comments: Vec<&str> = statements
            .lines()
            .map(|line| line.split_once("--").map_or(line, |(code, _)| code))
            .collect();
        for statement in without_comments.join("\n").split(';') {
            if !statement.trim().is_empty() {
                let statement = self.statement(statement);
                self.driver
                    .get_session()
                    .query_unpaged(statement, ())
                    .await?;
            }
        }
        Ok(())
    }

    /// A statement in our keyspace. All statements are idempotent: writes of absolute values at given
    /// timestamps, reads, `IF NOT EXISTS`, and moves of a checkpoint from one offset to another.
    pub(crate) fn statement(&self, text: &str) -> Statement {
        let mut statement = Statement::new(text.replace(KEYSPACE, &self.keyspace));
        statement.set_is_idempotent(true);
        statement
    }
}
