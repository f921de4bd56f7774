//! A node's connections to both databases of the read side.

use crate::{
    cql::{Cql, CqlError},
    postgres,
    settings::{CqlSettings, PostgresSettings, SettingsError},
};
use sqlx::PgPool;

/// Handles to both databases. Cheap to clone.
#[derive(Clone)]
pub struct Databases {
    /// Connects at its first use, and reconnects when needed.
    pub postgres: PgPool,
    /// Connects in the background, and reconnects when needed.
    pub cql: Cql,
}

impl Databases {
    /// Creates the handles. The databases need not be running yet.
    ///
    /// # Errors
    /// [`SettingsError`] for invalid settings.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect_lazily(
        postgres: &PostgresSettings,
        cql: &CqlSettings,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            postgres: postgres::connect_lazily(postgres)?,
            cql: Cql::connect_lazily(cql)?,
        })
    }

    /// Checks that Postgres answers. The error of a missing database counts as an answer.
    ///
    /// # Errors
    /// The transient error, if Postgres does not answer.
    pub async fn ping_postgres(&self) -> Result<(), sqlx::Error> {
        match sqlx::query("SELECT 1").execute(&self.postgres).await {
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
