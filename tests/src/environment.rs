//! What `./dev test` tells the tests. Without it a test fails and says what is missing: it never
//! passes by doing nothing.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The servers' addresses and the programs that the tests start.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Kafka's bootstrap servers, `host:port`.
    pub kafka_brokers: String,
    /// Base address of the registry's Confluent API.
    pub registry_url: String,
    /// Address of a Postgres database on the server where the tests make theirs.
    pub postgres_url: String,
    /// Nodes of the CQL store, `host:port`.
    pub cql_nodes: String,
    /// Folder for logs and reports; emptied at each run.
    pub folder: PathBuf,
    /// The interpreter that has the packages of `tests/python/requirements.txt`.
    pub python: PathBuf,
    /// The binary under test.
    pub daybook: PathBuf,
    /// `deploy/local/server.sh`, which stops, kills and starts a server of the stack.
    pub server_control: PathBuf,
}

impl Environment {
    /// Reads the environment.
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
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run the system tests by ./dev test"))
}

/// A file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The data that the import scenarios import.
pub fn online_retail() -> PathBuf {
    checkout("data/online-retail.csv.gz")
}
