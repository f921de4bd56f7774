//! Statements and their answers.

use super::CqlError;
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

/// Prepared statements kept; we have fewer than this.
const STATEMENTS_MAX: usize = 64;
/// Stands for the keyspace in every statement of ours. Names are always qualified: `USE` would make
/// a prepared statement mean whatever the connection it was prepared on did.
const KEYSPACE: &str = "{keyspace}";

/// A session with the store, and the keyspace of our tables.
pub struct Session {
    driver: CachingSession,
    keyspace: String,
}

impl Session {
    /// `keyspace` must be a plain name, as checked settings have it.
    pub(super) fn new(driver: Driver, keyspace: &str) -> Self {
        Self {
            driver: CachingSessionBuilder::new(driver)
                .max_capacity(STATEMENTS_MAX)
                .build(),
            keyspace: keyspace.to_owned(),
        }
    }

    /// The driver's own session, which knows of no keyspace.
    pub fn driver(&self) -> &CachingSession {
        &self.driver
    }

    /// Runs a prepared statement whose answer is short; `{keyspace}` in it is ours.
    pub async fn execute(
        &self,
        statement: &str,
        values: impl SerializeRow,
    ) -> Result<QueryResult, CqlError> {
        let statement = self.statement(statement);
        Ok(self.driver.execute_unpaged(statement, values).await?)
    }

    /// The same, and reads its rows.
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

    /// Prepares a statement, once.
    pub(super) async fn prepare(&self, statement: &str) -> Result<PreparedStatement, CqlError> {
        let statement = self.statement(statement);
        let prepared = self.driver.add_prepared_statement(&statement).await;
        Ok(prepared.map_err(ExecutionError::from)?)
    }

    /// Runs statements with a semicolon after each, and `--` before comments. Not prepared: each is
    /// run once.
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

    /// A statement of ours. Each may safely be sent twice: upserts of absolute values, reads, and
    /// tables made where there is none.
    pub(crate) fn statement(&self, text: &str) -> Statement {
        let mut statement = Statement::new(text.replace(KEYSPACE, &self.keyspace));
        statement.set_is_idempotent(true);
        statement
    }
}
