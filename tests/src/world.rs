//! What one scenario works on: the servers without anything of ours, and the binary under test.

use crate::{
    daybook::{Daybook, Output, output_of},
    environment::{Environment, checkout},
    servers::Server,
    wait::{Look, until},
};
use anyhow::{Context, Result, ensure};
use kafka::{Admin, KafkaSettings, RegistrySettings};
use schemas::topics::TOPICS;
use scylla::client::{session::Session, session_builder::SessionBuilder};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
};

/// Topics have fixed names, so that scenarios take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// Longest time for a subcommand.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time for a topic to go.
const WIPE_TIMEOUT: Duration = Duration::from_secs(30);
/// Below the ports that systems give to outgoing connections.
const PORTS: Range<u16> = 20_000..32_000;
/// A secret that protects nothing.
const HASH_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// One scenario's turn.
pub struct World {
    /// The servers' addresses and the programs.
    pub environment: Environment,
    /// Where the scenario's files go.
    pub folder: PathBuf,
    /// Postgres' database and the CQL keyspace.
    name: String,
    listen: SocketAddr,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Waits for its turn, starts servers that an earlier scenario left down, and removes everything
    /// of ours from all of them.
    pub async fn wiped(scenario: &str) -> Result<Self> {
        let world = Self::of(scenario, &Server::ALL).await?;
        world
            .wipe_databases()
            .await
            .context("wiping the databases")?;
        Ok(world)
    }

    /// The same for a scenario without a read side: Kafka and the registry alone.
    pub async fn of_journals(scenario: &str) -> Result<Self> {
        Self::of(scenario, &[Server::Kafka, Server::Registry]).await
    }

    async fn of(scenario: &str, servers: &[Server]) -> Result<Self> {
        let turn = TURN.lock().await;
        let environment = Environment::read()?;
        let folder = environment.folder.join("system").join(scenario);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join("hash.key"), HASH_KEY)?;
        let starts = servers.iter().map(|server| server.start(&environment));
        futures_util::future::try_join_all(starts).await?;
        let world = Self {
            environment,
            folder,
            name: format!("daybook_system_{scenario}"),
            listen: free_address()?,
            _turn: turn,
        };
        world.wipe_topics().await.context("wiping the topics")?;
        Ok(world)
    }

    async fn wipe_topics(&self) -> Result<()> {
        let admin = self.admin()?;
        admin.delete(&TOPICS.map(|topic| topic.name)).await?;
        for topic in TOPICS {
            until("topics to be gone", WIPE_TIMEOUT, async || {
                let partitions = admin.partitions(topic.name).await;
                Ok(Look::at(partitions.is_err(), || {
                    format!("{} is there", topic.name)
                }))
            })
            .await?;
            if let Some(subject) = topic.subject {
                self.forget_subject(subject).await?;
            }
        }
        Ok(())
    }

    async fn wipe_databases(&self) -> Result<()> {
        let postgres = self.connect_postgres("postgres").await?;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&postgres)
            .await?;
        let drop = format!("DROP KEYSPACE IF EXISTS {}", self.name);
        self.cql_session().await?.query_unpaged(drop, ()).await?;
        Ok(())
    }

    /// Removes a subject, its schemas and its rule from the registry.
    pub async fn forget_subject(&self, subject: &str) -> Result<()> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("{}/subjects/{subject}", self.environment.registry_url);
        // A registry deletes for good only what was deleted before.
        for url in [url.clone(), format!("{url}?permanent=true")] {
            let status = http.delete(&url).send().await?.status();
            ensure!(
                status.is_success() || status.as_u16() == 404,
                "DELETE {url}: {status}"
            );
        }
        Ok(())
    }

    /// The binary with the settings of this world, and no arguments yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.environment.daybook);
        command
            .current_dir(&self.folder)
            .env("DAYBOOK_HTTP_LISTEN", self.listen.to_string())
            .env("DAYBOOK_POSTGRES_URL", self.postgres_url(&self.name))
            .env("DAYBOOK_CQL_KEYSPACE", &self.name)
            .env(
                "DAYBOOK_COMMANDS_HASH_KEY_FILE",
                self.folder.join("hash.key"),
            );
        command
    }

    /// Starts `daybook serve` and returns once it is ready. It has the same address each time.
    pub async fn serve(&self) -> Result<Daybook> {
        let mut daybook = self.serve_unready().await?;
        daybook.ready().await?;
        Ok(daybook)
    }

    /// The same, as soon as it answers over HTTP.
    pub async fn serve_unready(&self) -> Result<Daybook> {
        Daybook::start(self.command(), "serve", self.listen, &self.serve_log()).await
    }

    /// Starts `daybook commands` at an address of its own, with a state store of its own, which it
    /// finds again when it is started there once more; returns once it answers over HTTP.
    pub async fn commands_at(&self, listen: SocketAddr) -> Result<Daybook> {
        let mut command = self.command();
        let name = format!("commands-{}", listen.port());
        command
            .env("DAYBOOK_HTTP_LISTEN", listen.to_string())
            .env("DAYBOOK_COMMANDS_STATE_DIR", self.folder.join(&name));
        let log = self.folder.join(format!("{name}.log"));
        Daybook::start(command, "commands", listen, &log).await
    }

    /// Where `daybook serve` listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn serve_log(&self) -> PathBuf {
        self.folder.join("serve.log")
    }

    /// Runs a subcommand to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command();
        command.args(arguments);
        output_of(command, COMMAND_TIMEOUT).await
    }

    /// The same; it must end with exit code 0.
    pub async fn run_well(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(arguments).await?;
        let Output {
            code,
            stdout,
            stderr,
        } = &output;
        ensure!(
            *code == 0,
            "daybook {arguments:?} ended with {code}:\n{stdout}\n{stderr}"
        );
        Ok(output)
    }

    /// The command that imports a file into this world's service, with its report in `report`.
    pub fn import(&self, file: &Path, report: &Path) -> Command {
        let mut command = self.command();
        command
            .args(["import", "online-retail"])
            .arg(file)
            .args(["--url", &format!("http://{}", self.listen)])
            .arg("--report")
            .arg(report);
        command
    }

    /// How Kafka is reached.
    pub fn kafka(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.environment.kafka_brokers.clone(),
            ..KafkaSettings::default()
        }
    }

    /// How the registry is reached.
    pub fn registry(&self) -> RegistrySettings {
        RegistrySettings {
            url: self.environment.registry_url.clone(),
            ..RegistrySettings::default()
        }
    }

    /// Measures topics.
    pub fn admin(&self) -> Result<Admin> {
        Ok(Admin::new(&self.kafka())?)
    }

    /// This world's database.
    pub async fn postgres(&self) -> Result<PgPool> {
        self.connect_postgres(&self.name).await
    }

    async fn connect_postgres(&self, database: &str) -> Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(2);
        let url = self.postgres_url(database);
        options.connect(&url).await.with_context(|| url)
    }

    fn postgres_url(&self, database: &str) -> String {
        let url = &self.environment.postgres_url;
        let server = url
            .rsplit_once('/')
            .map_or(url.as_str(), |(server, _)| server);
        format!("{server}/{database}")
    }

    /// The CQL store; tables must be named with their keyspace.
    pub async fn cql_session(&self) -> Result<Session> {
        let nodes = self.environment.cql_nodes.split(',');
        let session = SessionBuilder::new().known_nodes(nodes).build().await;
        session.with_context(|| self.environment.cql_nodes.clone())
    }

    /// This world's keyspace.
    pub fn keyspace(&self) -> &str {
        &self.name
    }

    /// A program of `tests/python`; gives its standard output.
    pub async fn python(&self, program: &str, arguments: &[&str]) -> Result<String> {
        crate::python::python(&self.environment, program, arguments, COMMAND_TIMEOUT).await
    }

    /// A file of the checkout as an argument.
    pub fn checkout(&self, path: &str) -> PathBuf {
        checkout(path)
    }
}

/// An address that nobody listens on now, and that no outgoing connection is given meanwhile.
pub fn free_address() -> Result<SocketAddr> {
    free_addresses(1).map(|addresses| addresses[0])
}

/// So many of them. Test runs beside each other look from different ports on, lest both choose the
/// same before either listens.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let first = usize::try_from(std::process::id())? * 101 % PORTS.len();
    let addresses = PORTS
        .cycle()
        .skip(first)
        .take(PORTS.len())
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    let free: Vec<SocketAddr> = free.take(count).collect();
    ensure!(
        free.len() == count,
        "{} free ports in {PORTS:?}",
        free.len()
    );
    Ok(free)
}
