//! The four servers: stopped, killed and started again.

use crate::{
    daybook::{Output, output_of},
    environment::Environment,
};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::process::Command;

/// Longest time for one action; `deploy/local/server.sh` has its own, shorter bounds.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A server that the service needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Kafka
    Kafka,
    /// The schema registry
    Registry,
    /// Postgres
    Postgres,
    /// Cassandra, which stands in for Scylla
    Cassandra,
}

impl Server {
    /// Every server.
    pub const ALL: [Self; 4] = [Self::Kafka, Self::Registry, Self::Postgres, Self::Cassandra];

    /// As `deploy/local/server.sh` names it.
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Postgres => "postgres",
            Self::Cassandra => "cassandra",
        }
    }

    /// As `/health/ready` names it.
    pub fn component(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Postgres => "postgres",
            Self::Cassandra => "cql",
        }
    }

    /// Stops it in order.
    async fn stop(self, environment: &Environment) -> Result<()> {
        control(environment, "stop", self.name()).await
    }

    /// Ends it as a power cut would.
    pub async fn kill(self, environment: &Environment) -> Result<()> {
        control(environment, "kill", self.name()).await
    }

    /// Starts it, and returns once it answers; nothing happens if it runs.
    pub async fn start(self, environment: &Environment) -> Result<()> {
        control(environment, "start", self.name()).await
    }

    /// Stops all of them, side by side.
    pub async fn stop_all(environment: &Environment) -> Result<()> {
        let stops = Self::ALL.map(|server| server.stop(environment));
        futures_util::future::try_join_all(stops).await.map(drop)
    }

    /// Starts all that do not run, side by side.
    pub async fn start_all(environment: &Environment) -> Result<()> {
        let starts = Self::ALL.map(|server| server.start(environment));
        futures_util::future::try_join_all(starts).await.map(drop)
    }
}

async fn control(environment: &Environment, action: &str, name: &str) -> Result<()> {
    let mut command = Command::new(&environment.server_control);
    command.args([action, name]);
    let Output {
        code,
        stdout,
        stderr,
    } = output_of(command, TIMEOUT).await?;
    ensure!(
        code == 0,
        "{action} {name} ended with {code}: {stdout}{stderr}"
    );
    Ok(())
}
