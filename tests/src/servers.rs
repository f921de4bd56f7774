//! The four servers, shared by all tests.

use crate::{
    environment::Environment,
    node::{Output, output_of},
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::process::Command;

/// Longest time for one action; `deploy/local/server.sh` has its own, shorter bounds.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(180);

/// A server that the service needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Kafka
    Kafka,
    /// The schema registry
    Registry,
    /// Postgres
    Postgres,
    /// Cassandra, instead of Scylla
    Cassandra,
}

impl Server {
    /// Every server.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Registry, Self::Postgres, Self::Cassandra];

    /// Its name for `deploy/local/server.sh`.
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Postgres => "postgres",
            Self::Cassandra => "cassandra",
        }
    }

    /// Its name in `/health/ready`.
    pub fn component(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Postgres => "postgres",
            Self::Cassandra => "cql",
        }
    }

    /// The setting that has its address.
    pub fn setting(self, environment: &mut Environment) -> &mut String {
        match self {
            Self::Kafka => &mut environment.kafka_brokers,
            Self::Registry => &mut environment.registry_url,
            Self::Postgres => &mut environment.postgres_url,
            Self::Cassandra => &mut environment.cql_nodes,
        }
    }

    /// Its address, `host:port`.
    pub fn address(self, environment: &Environment) -> Result<String> {
        let setting = self.setting(&mut environment.clone()).clone();
        let after_scheme = setting
            .rsplit_once("://")
            .map_or(&*setting, |(_, rest)| rest);
        let authority = after_scheme.split('/').next().unwrap_or_default();
        let address = authority.rsplit('@').next().unwrap_or_default();
        ensure!(
            address.contains(':'),
            "{self:?} has no address: {setting:?}"
        );
        Ok(address.to_owned())
    }

    /// Kills it, like a power cut.
    pub async fn kill(self, environment: &Environment) -> Result<()> {
        control(environment, "kill", self.name()).await
    }

    /// Starts it; returns once it answers.
    pub async fn start(self, environment: &Environment) -> Result<()> {
        control(environment, "start", self.name()).await
    }
}

/// Empties the spare registry by a restart, because its data is only in memory.
pub async fn empty_spare_registry(environment: &Environment) -> Result<()> {
    for action in ["kill", "start"] {
        control(environment, action, "registry_spare").await?;
    }
    Ok(())
}

async fn control(environment: &Environment, action: &str, name: &str) -> Result<()> {
    let mut command = Command::new(&environment.server_control);
    command.args([action, name]);
    let output = output_of(command, CONTROL_TIMEOUT).await;
    let output = output.with_context(|| format!("{action} {name}"))?;
    let Output {
        code,
        stdout,
        stderr,
    } = output;
    ensure!(
        code == 0,
        "{action} {name} ended with {code} instead of 0: {stdout}{stderr}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_address_of_a_server_is_read_out_of_its_setting() {
        let environment = Environment {
            kafka_brokers: "127.0.0.1:1".into(),
            registry_url: "http://127.0.0.1:2/apis/ccompat/v7".into(),
            postgres_url: "postgres://daybook@127.0.0.1:3/daybook".into(),
            cql_nodes: "127.0.0.1:4".into(),
            folder: PathBuf::new(),
            python: PathBuf::new(),
            daybook: PathBuf::new(),
            server_control: PathBuf::new(),
        };
        for (server, port) in Server::ALL.into_iter().zip(1..) {
            let address = server.address(&environment).unwrap();
            assert_eq!(address, format!("127.0.0.1:{port}"));
        }
    }
}
