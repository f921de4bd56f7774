//! A process's connections to both databases of the read side.

use crate::{
    builds::{Build, Serving},
    cql::{Cql, CqlError},
    parking::Marks,
    postgres,
    problems::QueryError,
    settings::{CqlSettings, PostgresSettings, SettingsError},
    view::View,
};
use sqlx::PgPool;
use std::time::Duration;
use tokio::time::timeout;

/// Longest wait of a ping for a connection. It is shorter than the wait of the probe that sends the ping, so that
/// readiness names a pool without a free connection.
const PING_CONNECTION_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Handles to both databases. Cheap to clone.
#[derive(Clone)]
pub struct Databases {
    /// Postgres, for queries and for operators. The pool connects at its first use, and reconnects when
    /// needed.
    pub postgres: PgPool,
    /// The same database, for projectors. Their pool is separate, so that they take no connections from
    /// queries.
    pub projectors: PgPool,
    /// The CQL store. It connects in the background, and reconnects when needed.
    pub cql: Cql,
    /// The version of each view that answers queries, and its build.
    pub serving: Serving,
    /// The parked aggregates of each build.
    pub marks: Marks,
}

impl Databases {
    /// Creates the handles. The databases need not be running yet.
    ///
    /// # Errors
    /// [`SettingsError`] for invalid settings.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub fn connect_lazily(
        postgres: &PostgresSettings,
        cql: &CqlSettings,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            postgres: postgres::connect_lazily(postgres)?,
            projectors: postgres::connect_lazily(postgres)?,
            cql: Cql::connect_lazily(cql)?,
            serving: Serving::default(),
            marks: Marks::default(),
        })
    }

    /// The build of a view that answers queries. If another version of the view answers by now, this is the build that
    /// served last, because the query began before the switch.
    ///
    /// # Errors
    /// [`QueryError::NoBuild`] until the list of builds has been read. [`QueryError::Rebuilding`] while the build is
    /// projected from the start, because a missing row would not mean that the resource does not exist.
    pub fn build<V: View>(&self) -> Result<Build, QueryError> {
        self.build_of(V::NAME)
    }

    /// Like [`Self::build`], for the view with this name.
    ///
    /// # Errors
    /// Those of [`Self::build`].
    pub(crate) fn build_of(&self, view: &'static str) -> Result<Build, QueryError> {
        let found = self.serving.build_and_catch_up(view);
        let (build, catch_up) = found.ok_or(QueryError::NoBuild { view })?;
        match catch_up {
            None => Ok(build),
            Some(catch_up) => Err(QueryError::Rebuilding { view, catch_up }),
        }
    }

    /// Checks that Postgres answers. The error of a missing database counts as an answer.
    ///
    /// # Errors
    /// The transient error, if Postgres does not answer. [`sqlx::Error::PoolTimedOut`] if all connections for queries
    /// are in use, or no connection can be opened.
    pub async fn ping_postgres(&self) -> Result<(), sqlx::Error> {
        let answer = async {
            let connection = timeout(PING_CONNECTION_TIMEOUT, self.postgres.acquire()).await;
            let mut connection = connection.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
            sqlx::query("SELECT 1").execute(&mut *connection).await
        };
        match answer.await {
            Err(error) if postgres::is_transient(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Checks that the CQL store answers.
    ///
    /// # Errors
    /// The store's error, or [`CqlError::NotConnected`].
    pub async fn ping_cql(&self) -> Result<(), CqlError> {
        let session = self.cql.session()?;
        session.execute("SELECT key FROM system.local", ()).await?;
        Ok(())
    }
}
