//! The binary's configuration: a section per crate, defined and documented there.

use anyhow::{Context, ensure};
use commands::CommandsSettings;
use kafka::{KafkaSettings, RegistrySettings};
use projections::{CqlSettings, PostgresSettings, ViewsSettings};
use serde::Deserialize;
use service::{budget, consistency, hosts::Hosts, otlp::TelemetrySettings, telemetry::LogSettings};
use std::{net::SocketAddr, path::Path};

/// All settings.
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
    #[serde(default)]
    pub views: ViewsSettings,
    /// Required by `serve` and `commands`.
    pub commands: Option<CommandsSettings>,
    #[serde(default)]
    pub log: LogSettings,
    #[serde(default)]
    pub telemetry: TelemetrySettings,
}

/// The section `http`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address and port to listen on, `address:port`. It must be a loopback address, because there is no
    /// sign-in yet. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Names or addresses, separated by commas, under which clients may call the service besides `localhost`,
    /// the loopback addresses and `http.listen`. A request with any other `Host` is refused. Default: none.
    pub hosts: String,
    /// Maximum number of bytes of requests, batch lines, unread answers and missed events of live clients that wait in
    /// the process; further requests are refused with 503. Missed events take at most a quarter. At least 33554432
    /// (32 MiB). Default 268435456 (256 MiB).
    pub waiting_bytes_max: u32,
    /// Longest time that a query waits until its view has applied the positions in its `Daybook-Position`, in
    /// milliseconds. Default 2000; at most 30000.
    pub position_wait_ms: u64,
    /// Maximum number of live clients of the process: streams of the events of an order or a customer. Further clients
    /// are refused with 503. Default 10000.
    pub live_clients_max: usize,
}

/// Minimum of `http.waiting_bytes_max`: enough for a batch's own bound and some requests.
const WAITING_BYTES_MIN: u32 = 32 << 20;
/// Maximum of `http.position_wait_ms`: clients and proxies often give up after a minute.
const POSITION_WAIT_MS_MAX: u64 = 30_000;

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: String::new(),
            waiting_bytes_max: budget::BYTES_DEFAULT,
            position_wait_ms: consistency::WAIT_MS_DEFAULT,
            live_clients_max: projections::live::CLIENTS_MAX_DEFAULT,
        }
    }
}

impl HttpSettings {
    /// The names under which clients may call the service.
    ///
    /// # Errors
    /// `hosts` has a text that is not a host name.
    pub fn hosts(&self) -> anyhow::Result<Hosts> {
        Hosts::new(self.listen.ip(), &self.hosts).context("http.hosts")
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.listen.port() != 0,
            "http.listen is {}; name a port, because other nodes send commands to this address",
            self.listen
        );
        self.hosts()?;
        ensure!(
            self.waiting_bytes_max >= WAITING_BYTES_MIN,
            "http.waiting_bytes_max is {}; it must be {WAITING_BYTES_MIN} or more",
            self.waiting_bytes_max
        );
        ensure!(
            self.position_wait_ms <= POSITION_WAIT_MS_MAX,
            "http.position_wait_ms is {}; it must be {POSITION_WAIT_MS_MAX} or less",
            self.position_wait_ms
        );
        Ok(())
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment; then checks the settings that can be checked
    /// without a server.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let config: Self = service::config::load(file)?;
        config.kafka.check().context("configuration")?;
        config.http.check().context("configuration")?;
        Ok(config)
    }

    /// This process's name in the consumer group of the views.
    pub fn views_member(&self) -> String {
        let listen = || self.http.listen.to_string();
        self.views.member.clone().unwrap_or_else(listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_waits_2_s_for_its_positions_by_default() {
        assert_eq!(HttpSettings::default().position_wait_ms, 2_000);
    }

    #[test]
    fn an_address_with_port_0_is_refused() {
        let check = |listen: &str| {
            let listen = listen.parse().unwrap();
            let settings = HttpSettings {
                listen,
                ..HttpSettings::default()
            };
            settings.check()
        };
        check("127.0.0.1:8080").unwrap();
        let error = check("127.0.0.1:0").unwrap_err().to_string();
        assert!(
            error.contains("http.listen is 127.0.0.1:0"),
            "no \"http.listen is 127.0.0.1:0\" in: {error}"
        );
    }
}
