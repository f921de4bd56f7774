//! A deployment of Daybook for one test: its own topics, registry subjects, consumer groups, databases,
//! state and addresses, on servers that all tests share. So tests can run at the same time.

use crate::{
    environment::Environment,
    fault_proxy::FaultProxy,
    free_address::free_address,
    node::{Node, Output, output_of},
};
use anyhow::{Context, Result, ensure};
use kafka::{Admin, KafkaSettings, Registry, RegistrySettings};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::process::Command;

/// Longest time for a subcommand.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(180);
/// A secret that protects nothing.
const HASH_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
/// Lines of each log in the message of a failed test.
const LOG_LINES_SHOWN: usize = 15;

/// Makes names unique within a run.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// One test's deployment. It exists on the servers only after a node has started.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The servers' addresses and the programs.
    pub environment: Environment,
    /// The folder of the test's files.
    pub folder: PathBuf,
    /// The Postgres database, the CQL keyspace, and the prefix of topics.
    name: String,
    listen: SocketAddr,
    /// The addresses that its nodes get: the servers' or the proxies'.
    of_nodes: Environment,
}

impl Deployment {
    /// A deployment with an empty folder that is named after the test.
    pub fn new(test: &str) -> Result<Self> {
        let environment = Environment::read()?;
        let folder = environment.folder.join("system").join(test);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join("hash.key"), HASH_KEY)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            of_nodes: environment.clone(),
            environment,
            folder,
            name: format!("system_{number}_{}", std::process::id()),
            listen: free_address()?,
        })
    }

    /// Lets its nodes reach a server through a proxy. The test itself still reaches the server directly.
    pub fn behind(mut self, proxy: &FaultProxy) -> Self {
        proxy.redirect(&mut self.of_nodes);
        self
    }

    /// Uses another registry, for the nodes and for the test itself.
    pub fn with_registry(mut self, url: &str) -> Self {
        for environment in [&mut self.environment, &mut self.of_nodes] {
            url.clone_into(&mut environment.registry_url);
        }
        self
    }

    /// Lets its nodes connect to Postgres as another role, which needs no password. The test itself keeps its role.
    pub fn with_postgres_role(mut self, role: &str) -> Result<Self> {
        let url = &mut self.of_nodes.postgres_url;
        let (_, server) = url.split_once('@').with_context(|| url.clone())?;
        *url = format!("postgres://{role}@{server}");
        Ok(self)
    }

    /// The binary with the settings of this deployment, without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.environment.daybook);
        command
            .current_dir(&self.folder)
            .env("DAYBOOK_HTTP_LISTEN", self.listen.to_string())
            .env("DAYBOOK_KAFKA_BROKERS", &self.of_nodes.kafka_brokers)
            .env("DAYBOOK_KAFKA_TOPIC_PREFIX", self.topic_prefix())
            .env("DAYBOOK_REGISTRY_URL", &self.of_nodes.registry_url)
            .env(
                "DAYBOOK_POSTGRES_URL",
                self.of_nodes.postgres_database(&self.name),
            )
            .env("DAYBOOK_CQL_NODES", &self.of_nodes.cql_nodes)
            .env("DAYBOOK_CQL_KEYSPACE", &self.name)
            .env("DAYBOOK_COMMANDS_HASH_KEY_FILE", self.hash_key_file());
        command
    }

    /// Starts `daybook serve`; returns once it is ready. It has the same address each time.
    pub async fn serve(&self) -> Result<Node> {
        let mut node = self.serve_unready().await?;
        node.ready().await?;
        Ok(node)
    }

    /// Starts one more `daybook serve` at an address, with a state store of its own; returns once it is ready.
    pub async fn serve_at(&self, listen: SocketAddr) -> Result<Node> {
        let mut node = self.serve_with(listen, |_| ()).await?;
        node.ready().await?;
        Ok(node)
    }

    /// Like [`Self::serve_at`]. The nodes that are started by this divide the views' partitions among them.
    pub async fn serve_in_group_at(&self, listen: SocketAddr) -> Result<Node> {
        let in_group = |command: &mut Command| {
            command.env("DAYBOOK_VIEWS_PARTITIONS", "group");
        };
        let mut node = self.serve_with(listen, in_group).await?;
        node.ready().await?;
        Ok(node)
    }

    /// Like [`Self::serve_at`], with further settings; returns once it answers over HTTP.
    pub async fn serve_with(
        &self,
        listen: SocketAddr,
        set: impl FnOnce(&mut Command),
    ) -> Result<Node> {
        let mut command = self.command();
        let name = format!("serve-{}", listen.port());
        command
            .env("DAYBOOK_HTTP_LISTEN", listen.to_string())
            .env("DAYBOOK_COMMANDS_STATE_DIR", self.folder.join(&name));
        set(&mut command);
        Node::start(command, "serve", listen, &self.log(&name)).await
    }

    /// Starts `daybook serve`; returns once it answers over HTTP.
    pub async fn serve_unready(&self) -> Result<Node> {
        Node::start(self.command(), "serve", self.listen, &self.log("serve")).await
    }

    /// Starts `daybook serve` without projectors; returns once it answers over HTTP. It is ready once a projector has
    /// created the views.
    pub async fn serve_without_projectors(&self) -> Result<Node> {
        let mut command = self.command();
        command.env("DAYBOOK_VIEWS_PARTITIONS", "none");
        Node::start(command, "serve", self.listen, &self.log("serve")).await
    }

    /// Starts `daybook projector` at an address, which is also its name in the group; returns once it answers over
    /// HTTP.
    pub async fn projector_at(&self, listen: SocketAddr) -> Result<Node> {
        self.projector_with(listen, |_| ()).await
    }

    /// Like [`Self::projector_at`], with further settings.
    pub async fn projector_with(
        &self,
        listen: SocketAddr,
        set: impl FnOnce(&mut Command),
    ) -> Result<Node> {
        let mut command = self.command();
        command.env("DAYBOOK_HTTP_LISTEN", listen.to_string());
        set(&mut command);
        let log = self.log(&format!("projector-{}", listen.port()));
        Node::start(command, "projector", listen, &log).await
    }

    /// Starts `daybook commands` at the deployment's address; returns once it is ready.
    pub async fn commands(&self) -> Result<Node> {
        let mut node = self.commands_at(self.listen).await?;
        node.ready().await?;
        Ok(node)
    }

    /// Starts `daybook commands` at an address and with the state store of that address; returns once it
    /// answers over HTTP.
    pub async fn commands_at(&self, listen: SocketAddr) -> Result<Node> {
        self.commands_with(listen, |_| ()).await
    }

    /// Like [`Self::commands_at`], with further settings.
    pub async fn commands_with(
        &self,
        listen: SocketAddr,
        set: impl FnOnce(&mut Command),
    ) -> Result<Node> {
        let mut command = self.command();
        let name = state_directory(listen);
        command
            .env("DAYBOOK_HTTP_LISTEN", listen.to_string())
            .env("DAYBOOK_COMMANDS_STATE_DIR", self.folder.join(&name));
        set(&mut command);
        Node::start(command, "commands", listen, &self.log(&name)).await
    }

    /// The directory of the state store of the command node at an address.
    pub fn state_directory(&self, listen: SocketAddr) -> PathBuf {
        self.folder.join(state_directory(listen))
    }

    /// The address of `daybook serve`.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The file with the key of command hashes.
    pub fn hash_key_file(&self) -> PathBuf {
        self.folder.join("hash.key")
    }

    /// The log file of a program of this deployment.
    pub fn log(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.log"))
    }

    /// Runs a subcommand to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command();
        command.args(arguments);
        output_of(command, COMMAND_TIMEOUT).await
    }

    /// Runs a subcommand to its end; it must end with exit code 0.
    pub async fn run_successfully(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(arguments).await?;
        let Output {
            code,
            stdout,
            stderr,
        } = &output;
        ensure!(
            *code == 0,
            "daybook {arguments:?} ended with {code} instead of 0:\n{stdout}\n{stderr}"
        );
        Ok(output)
    }

    /// The command that imports a file through this deployment's node, with its report in `report`.
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

    /// The name of one of its topics at the broker, for clients that are not ours.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix())
    }

    fn topic_prefix(&self) -> String {
        format!("{}.", self.name)
    }

    /// The settings of Kafka's clients.
    pub fn kafka(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.environment.kafka_brokers.clone(),
            topic_prefix: self.topic_prefix(),
            ..KafkaSettings::default()
        }
    }

    /// A client of the schema registry.
    pub fn registry(&self) -> Result<Registry> {
        let settings = RegistrySettings {
            url: self.environment.registry_url.clone(),
            ..RegistrySettings::default()
        };
        Ok(Registry::new(&settings)?)
    }

    /// A client for Kafka's topics.
    pub fn admin(&self) -> Result<Admin> {
        Ok(Admin::new(&self.kafka())?)
    }

    /// The Postgres database.
    pub async fn postgres(&self) -> Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(2);
        let url = self.environment.postgres_database(&self.name);
        options.connect(&url).await.with_context(|| url)
    }

    /// A session of the CQL store; tables must be named with their keyspace.
    pub async fn cql_session(&self) -> Result<Session> {
        let nodes = self.environment.cql_nodes.split(',');
        let session = SessionBuilder::new().known_nodes(nodes).build().await;
        session.with_context(|| self.environment.cql_nodes.clone())
    }

    /// The name of its database in Postgres.
    pub fn postgres_name(&self) -> &str {
        &self.name
    }

    /// The CQL keyspace.
    pub fn keyspace(&self) -> &str {
        &self.name
    }

    /// Runs a program of `tests/python`; returns its standard output.
    pub async fn python(&self, program: &str, arguments: &[&str]) -> Result<String> {
        crate::python::python(&self.environment, program, arguments, COMMAND_TIMEOUT).await
    }
}

/// The name of the directory with the state store of the command node at an address.
pub(crate) fn state_directory(listen: SocketAddr) -> String {
    format!("commands-{}", listen.port())
}

/// The ends of the logs in a test's folder, for the message of its failure.
pub fn log_tails(test: &str) -> Result<String> {
    let folder = Environment::read()?.folder.join("system").join(test);
    let mut tails = String::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&path)?;
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            tails += &format!("\nthe end of {}:\n{}\n", path.display(), shown.join("\n"));
        }
    }
    Ok(tails)
}
