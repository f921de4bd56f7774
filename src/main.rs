//! The `daybook` binary: one binary, a subcommand per role and tool.

mod config;
mod describe;
mod import;
mod reconcile;
mod serve;
mod setup;

use clap::{Parser, Subcommand};
use config::Config;
use mimalloc::MiMalloc;
use service::telemetry::Reader;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// A command's parts are made on one thread and dropped on another, which the system's allocator makes
/// dear. It serves the client library too, which is worth 8 % of an owner's commands a second.
/// Version 2, because with version 3 a program ends before it begins under libfaketime. Without huge
/// pages, for a thread touches a few bytes of many: with them an idle `serve` has 80 MiB more.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Event-sourced commerce on plain Kafka topics
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// A TOML file with settings; the environment (DAYBOOK_<SECTION>_<FIELD>) overrides it
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all roles in one process
    Serve,
    /// Run the write side alone: it takes commands, and owns a share of the journals' partitions
    Commands,
    /// Kafka topics
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// The journals, as operators look at them
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Avro schemas in the registry
    #[command(subcommand)]
    Schemas(SchemasCommand),
    /// Bring data in, through the service's own commands
    #[command(subcommand)]
    Import(ImportCommand),
    /// Read the journals independently of the services
    Audit(audit::Args),
    /// Compare the totals of the journal, of the views and of the aggregate topics
    Reconcile(reconcile::Args),
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Create what is missing and check what is there
    Create,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Say of each partition who owns it, since when, how long it is, and what of it is void.
    /// Exit code 0: well, 1: a partition can't be read to its end, 2: kafka could not be reached
    Describe(describe::Args),
}

#[derive(Debug, Subcommand)]
enum SchemasCommand {
    /// Register every schema, BACKWARD_TRANSITIVE
    Register,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Import UCI Online Retail
    OnlineRetail(import::Args),
}

/// How long calls of client libraries that block may keep the process from ending.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(cli));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // The importer is a client: it needs nothing but the service's address.
    if let Command::Import(ImportCommand::OnlineRetail(args)) = cli.command {
        return import::run(args).await;
    }
    let config = Config::load(cli.config.as_deref())?;
    let reader = match cli.command {
        Command::Serve | Command::Commands => Reader::Service,
        Command::Topics(_)
        | Command::Journal(_)
        | Command::Schemas(_)
        | Command::Import(_)
        | Command::Audit(_)
        | Command::Reconcile(_) => Reader::Person,
    };
    service::telemetry::init_logs(&config.log, reader)?;
    match cli.command {
        Command::Serve => serve::run(config, serve::Roles::All).await,
        Command::Commands => serve::run(config, serve::Roles::Commands).await,
        Command::Topics(TopicsCommand::Create) => setup::create_topics(&config).await,
        Command::Journal(JournalCommand::Describe(args)) => {
            describe::run(args, &config.kafka).await
        }
        Command::Schemas(SchemasCommand::Register) => setup::register_schemas(&config).await,
        Command::Audit(args) => audit::run(args, &config.kafka, &config.registry).await,
        Command::Reconcile(args) => reconcile::run(args, &config).await,
        Command::Import(_) => unreachable!("handled above"),
    }
}
