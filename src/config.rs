//! The binary's configuration: a section per part, each defined and documented by the part itself.

use anyhow::Context;
use commands::CommandsSettings;
use kafka::{KafkaSettings, RegistrySettings};
use projections::{CqlSettings, PostgresSettings};
use serde::Deserialize;
use service::telemetry::LogSettings;
use std::{net::SocketAddr, path::Path};

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub http: HttpSettings,
    #[serde(default)]
    pub kafka: KafkaSettings,
    #[serde(default)]
    pub registry: RegistrySettings,
    #[serde(default)]
    pub postgres: PostgresSettings,
    #[serde(default)]
    pub cql: CqlSettings,
    /// Needed where commands are taken.
    pub commands: Option<CommandsSettings>,
    #[serde(default)]
    pub log: LogSettings,
}

/// The section `http`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Where the service listens, `address:port`. Until sign-in exists it must be a loopback
    /// address. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        }
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment; then checks what can be checked alone.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let config: Self = service::config::load(file)?;
        config.kafka.check().context("configuration")?;
        Ok(config)
    }
}
