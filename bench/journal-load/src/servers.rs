//! The servers' addresses, from the same variables as the service's settings.

use kafka::{KafkaSettings, RegistrySettings};
use serde::Deserialize;

/// The sections that this program reads. Sections of other programs are ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct Servers {
    /// The brokers.
    #[serde(default)]
    pub kafka: KafkaSettings,
    /// The schema registry.
    #[serde(default)]
    pub registry: RegistrySettings,
    /// The baseline's database.
    pub postgres: Option<Postgres>,
}

/// The section `postgres`.
#[derive(Debug, Clone, Deserialize)]
pub struct Postgres {
    /// `postgres://user@host:port/database`.
    pub url: String,
}

impl Servers {
    /// Reads the environment.
    pub fn load() -> anyhow::Result<Self> {
        let servers: Self = service::config::load(None)?;
        servers.kafka.check()?;
        Ok(servers)
    }
}
