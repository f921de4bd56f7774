//! Both databases of the read side, for a whole process.

use crate::{
    cql::{Cql, CqlError},
    postgres,
    settings::{CqlSettings, PostgresSettings, SettingsError},
};
use sqlx::PgPool;

/// Handles to both databases. Cheap to clone.
#[derive(Clone)]
pub struct Databases {
    /// Connects when it is first used, and again whenever that is needed.
    pub postgres: PgPool,
    /// Connects in the background, and again whenever that is needed.
    pub cql: Cql,
}

impl Databases {
    /// Handles to databases that need not be there yet.
    ///
    /// # Errors
    /// [`SettingsError`] for settings that can never work.
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

    /// Asks Postgres for a sign of life. A database that is not made yet is one.
    pub async fn ping_postgres(&self) -> Result<(), sqlx::Error> {
        match sqlx::query("SELECT 1").execute(&self.postgres).await {
            Err(error) if postgres::is_transient(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks the CQL store for a sign of life.
    pub async fn ping_cql(&self) -> Result<(), CqlError> {
        let session = self.cql.session()?;
        session.execute("SELECT key FROM system.local", ()).await?;
        Ok(())
    }
}
