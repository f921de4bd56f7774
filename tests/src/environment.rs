//! The environment that `./dev test` gives to the tests. Without it a test fails and names the missing
//! variable.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The servers' addresses and the programs that the tests start.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Kafka's bootstrap servers, `host:port`.
    pub kafka_brokers: String,
    /// Base address of the registry's Confluent API.
    pub registry_url: String,
    /// Address of a Postgres database; the tests create theirs on the same server.
    pub postgres_url: String,
    /// Nodes of the CQL store, `host:port`.
    pub cql_nodes: String,
    /// Folder for logs and reports; emptied before each run.
    pub folder: PathBuf,
    /// The interpreter that has the packages of `tests/python/requirements.txt`.
    pub python: PathBuf,
    /// The binary under test.
    pub daybook: PathBuf,
    /// `deploy/local/server.sh`, which stops, kills and starts a server of the stack.
    pub server_control: PathBuf,
}

impl Environment {
    /// Reads the variables.
    pub fn read() -> Result<Self> {
        let path = |name| variable(name).map(PathBuf::from);
        Ok(Self {
            kafka_brokers: variable("DAYBOOK_KAFKA_BROKERS")?,
            registry_url: variable("DAYBOOK_REGISTRY_URL")?,
            postgres_url: variable("DAYBOOK_POSTGRES_URL")?,
            cql_nodes: variable("DAYBOOK_CQL_NODES")?,
            folder: path("DEV_TEST_DIR")?,
            python: path("DEV_PYTHON")?,
            daybook: path("DEV_DAYBOOK")?,
            server_control: path("DEV_SERVER_CONTROL")?,
        })
    }

    /// The address of a database on the Postgres server.
    pub fn postgres_database(&self, name: &str) -> String {
        let url = &self.postgres_url;
        let server = url
            .rsplit_once('/')
            .map_or(url.as_str(), |(server, _)| server);
        format!("{server}/{name}")
    }
}

/// The listener of the brokers for clients whose rights they check.
pub fn kafka_sasl_brokers() -> Result<String> {
    variable("DEV_KAFKA_SASL_BROKERS")
}

/// Base URL of the spare registry's Confluent API. Tests may empty this registry.
pub fn spare_registry_url() -> Result<String> {
    variable("DEV_SPARE_REGISTRY_URL")
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run the system tests with ./dev test"))
}

/// A file of the source tree.
pub fn source_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The data of the tests that import.
pub fn online_retail() -> PathBuf {
    source_file("data/online-retail.csv.gz")
}
