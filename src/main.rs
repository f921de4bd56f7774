//! The `daybook` binary: one binary, a subcommand per role and tool.

mod cli;
mod config;
mod describe;
mod new;
mod projector;
mod reconcile;
mod serve;
mod setup;
mod views;

use clap::Parser;
use cli::{Cli, Command, ImportCommand, JournalCommand, SchemasCommand, TopicsCommand};
use config::Config;
use mimalloc::MiMalloc;
use service::telemetry::{Reader, init_logs};
use std::{process::ExitCode, time::Duration};

/// A command's data is allocated on one thread and freed on another, which is expensive with the system's allocator.
/// The Kafka client library also uses this allocator; this alone raises an owner's commands per second by 8 %. Version
/// 2 of mimalloc is used, because under libfaketime a program with version 3 exits at its start. Huge pages are off,
/// because a thread touches few bytes of many pages: with them an idle `serve` takes 80 MiB more.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Longest time for which blocking calls of client libraries may delay the exit.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Time without work after which a thread for blocking calls ends. All owners of a process ask the brokers when they
/// take over, and each call occupies a thread. The runtime gives later calls to these threads in turn. So with the
/// runtime's default of 10 s, a few calls per second keep all of them alive.
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime cannot be started: {error}");
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
    // Dropped at the end, which exports the last spans.
    let mut export = None;
    let mut load = |reader| -> anyhow::Result<Config> {
        let config = Config::load(cli.config.as_deref())?;
        export = init_logs(&config.log, &config.telemetry, reader)?;
        Ok(config)
    };
    match cli.command {
        Command::Serve => serve::run(load(Reader::Service)?, serve::Roles::All).await,
        Command::Commands => serve::run(load(Reader::Service)?, serve::Roles::Commands).await,
        Command::Projector => projector::run(load(Reader::Service)?).await,
        Command::Topics(TopicsCommand::Create) => {
            setup::create_topics(&load(Reader::Person)?).await
        }
        Command::Schemas(SchemasCommand::Register) => {
            setup::register_schemas(&load(Reader::Person)?).await
        }
        Command::Schemas(SchemasCommand::Restore(args)) => {
            setup::restore::run(args, &load(Reader::Person)?).await
        }
        Command::Journal(JournalCommand::Describe(args)) => {
            describe::run(args, &load(Reader::Person)?.kafka).await
        }
        Command::Audit(args) => {
            let config = load(Reader::Person)?;
            audit::run(args, &config.kafka, || setup::tool_registry(&config)).await
        }
        Command::Reconcile(args) => reconcile::run(args, &load(Reader::Person)?).await,
        Command::Views(command) => views::run(command, &load(Reader::Person)?).await,
        Command::New(command) => new::run(&command),
        // A client of the HTTP API needs no configuration.
        Command::Import(ImportCommand::OnlineRetail(args)) => import::run(args).await,
    }
}
