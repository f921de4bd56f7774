//! The subcommands of `daybook audit`.
//!
//! Exit codes: 0 no findings, 1 findings about the log or the copy, 2 the log or the copy can't be read.

use crate::{
    export::{ExportError, export},
    log::{Filter, LogError, Outcome, print_log},
    report::Report,
    verify::{verify_copy, verify_topics},
};
use kafka::{KafkaSettings, Registry};
use schemas::{CONTEXTS, Context, Timestamp};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Exit code for findings.
const EXIT_FINDINGS: u8 = 1;
/// Exit code for a log or a copy that can't be read.
const EXIT_UNREADABLE: u8 = 2;

/// Read and verify the journals independently of the service
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check the journals from their first record on: the void rule, the hash chain, versions,
    /// command ids. Exit code 0: no findings, 1: findings, 2: the log can't be read
    Verify(VerifyArgs),
    /// Print the journals' valid decisions as JSON Lines, or copy the journals with --raw
    Log(LogArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Only the journal of this context; can be repeated [default: all]
    #[arg(long = "context", value_name = "NAME", value_parser = context)]
    contexts: Vec<&'static Context>,
    /// Check a copy made by `daybook audit log --raw` instead; needs neither Kafka nor registry
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table, then notes and findings; the last line is the summary
    Text,
    /// One JSON document
    Json,
}

#[derive(Debug, clap::Args)]
struct LogArgs {
    /// Only the journal of this context; can be repeated [default: all]
    #[arg(long = "context", value_name = "NAME", value_parser = context)]
    contexts: Vec<&'static Context>,
    /// Only decisions about this aggregate, such as product_85123A
    #[arg(long)]
    key: Option<String>,
    /// Only decisions with an event of this type, such as SaleImported
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only decisions recorded at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    from_time: Option<Timestamp>,
    /// Only decisions recorded before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    to_time: Option<Timestamp>,
    /// Only the partition with this number
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Only records from this offset on, in each partition
    #[arg(long, value_name = "N", default_value_t = 0)]
    from_offset: i64,
    /// Stop after this many lines
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print void records too, with the reason
    #[arg(long)]
    include_void: bool,
    /// Print announcements and no-ops too
    #[arg(long)]
    all: bool,
    /// Wait for new records at the end of the log, and print them
    #[arg(long)]
    follow: bool,
    /// Copy every record unchanged, for `daybook audit verify --from-file`
    #[arg(long, conflicts_with_all = [
        "key", "event", "from_time", "to_time", "partition", "from_offset", "limit",
        "include_void", "all", "follow",
    ])]
    raw: bool,
    /// File to write the copy to [default: standard output]
    #[arg(long, value_name = "FILE", requires = "raw")]
    output: Option<PathBuf>,
}

fn context(name: &str) -> Result<&'static Context, String> {
    Context::named(name).ok_or_else(|| {
        let names: Vec<&str> = CONTEXTS.iter().map(|context| context.name).collect();
        format!("unknown context; use one of {}", names.join(", "))
    })
}

/// Runs a subcommand. `registry` creates the registry's client, for the subcommands that need it. If the log can't be
/// read, it prints a message to standard error and returns an exit code, not an error.
pub async fn run(
    args: Args,
    kafka: &KafkaSettings,
    registry: impl FnOnce() -> anyhow::Result<Registry>,
) -> anyhow::Result<ExitCode> {
    let result = match args.command {
        Command::Verify(args) => verify(args, kafka, registry).await,
        Command::Log(args) if args.raw => copy(args, kafka, registry).await,
        Command::Log(args) => log(args, kafka, registry).await,
    };
    match result {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(EXIT_UNREADABLE))
        }
    }
}

async fn verify(
    args: VerifyArgs,
    kafka: &KafkaSettings,
    registry: impl FnOnce() -> anyhow::Result<Registry>,
) -> anyhow::Result<u8> {
    let report = match args.from_file {
        Some(path) => {
            let file = File::open(&path).map_err(|error| with_path(&path, &error))?;
            let check = move || verify_copy(BufReader::new(file), &args.contexts);
            tokio::task::spawn_blocking(check).await??
        }
        None => verify_topics(kafka, &registry()?, &or_all(args.contexts)).await?,
    };
    print_report(&report, args.format)?;
    Ok(match report.findings_total() {
        0 => 0,
        _ if report.lacks_schemas_only() => EXIT_UNREADABLE,
        _ => EXIT_FINDINGS,
    })
}

fn print_report(report: &Report, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => report.write_text(&mut out)?,
        Format::Json => report.write_json(&mut out)?,
    }
    out.flush()
}

async fn log(
    args: LogArgs,
    kafka: &KafkaSettings,
    registry: impl FnOnce() -> anyhow::Result<Registry>,
) -> anyhow::Result<u8> {
    let filter = Filter {
        key: args.key,
        event: args.event,
        from_time: args.from_time,
        to_time: args.to_time,
        partition: args.partition,
        from_offset: args.from_offset,
        include_void: args.include_void,
        all: args.all,
    };
    let contexts = or_all(args.contexts);
    let out = BufWriter::new(io::stdout());
    let outcome = print_log(
        kafka,
        &registry()?,
        &contexts,
        filter,
        args.limit,
        args.follow,
        out,
    )
    .await?;
    let Outcome {
        alarms,
        undecodable,
    } = &outcome;
    for alarm in alarms {
        eprintln!("error: {alarm}; the partition is not read from here on");
    }
    if *undecodable > 0 {
        eprintln!("error: {undecodable} decisions can't be decoded");
    }
    Ok(match outcome == Outcome::default() {
        true => 0,
        false => EXIT_FINDINGS,
    })
}

async fn copy(
    args: LogArgs,
    kafka: &KafkaSettings,
    registry: impl FnOnce() -> anyhow::Result<Registry>,
) -> anyhow::Result<u8> {
    let (contexts, registry) = (or_all(args.contexts), registry()?);
    let records = match args.output {
        Some(path) => {
            let file = File::create(&path).map_err(|error| with_path(&path, &error))?;
            export(kafka, &registry, &contexts, BufWriter::new(file)).await?
        }
        None => export(kafka, &registry, &contexts, BufWriter::new(io::stdout())).await?,
    };
    eprintln!("copied {records} records");
    Ok(0)
}

fn or_all(contexts: Vec<&'static Context>) -> Vec<&'static Context> {
    match contexts.is_empty() {
        true => CONTEXTS.to_vec(),
        false => contexts,
    }
}

fn with_path(path: &std::path::Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("{}: {error}", path.display())
}

/// Whether the reader of our output has closed the pipe.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = match error.downcast_ref::<LogError>() {
        Some(LogError::Write(error)) => Some(error),
        Some(LogError::Source(_)) => None,
        None => match error.downcast_ref::<ExportError>() {
            Some(ExportError::Write(error)) => Some(error),
            Some(ExportError::Source(_)) => None,
            None => error.downcast_ref::<io::Error>(),
        },
    };
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
