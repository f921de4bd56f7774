//! The command `import online-retail`: reads the file, sends its commands, prints the report, and decides
//! the exit code.

use crate::{
    answer::{Outcome, OutcomeCounts},
    batch_stream::Answered,
    client::{Client, Timeouts},
    command::{self, Command},
    dataset::Dataset,
    local_time::DateOrder,
    progress::{Mode, Progress},
    reading,
    rejects::Rejects,
    report::Report,
    source::Rows,
};
use anyhow::{Context, bail};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

/// Exit code if rows were rejected or commands refused; everything else was imported.
const EXIT_INCOMPLETE: u8 = 2;

/// Import UCI Online Retail: products with their last prices, sales and credit notes
///
/// Importing a file again executes no command twice. Before anything is sent, all rows are compared: a file
/// whose rows contradict each other in the order of day and month, or in the form of ids, is not imported.
/// Exit codes: 0: everything was imported; 2: everything except the entries of the rejects file was imported;
/// 1: the file cannot be read or contradicts itself, or the service is unreachable, stopped or failed: import
/// again.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// CSV file of Online Retail, plain or compressed with gzip
    pub file: PathBuf,
    /// Address of the service
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// File that lists the rows and commands that were not imported; overwritten by each import
    #[arg(long, default_value = "rejects.csv")]
    pub rejects: PathBuf,
    /// File for the report as JSON
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Order of day and month in the file's dates; required if no date in the file shows it
    #[arg(long)]
    pub dates: Option<DateOrder>,
    /// Do not show progress
    #[arg(long)]
    pub no_progress: bool,
}

/// Imports the file, prints the report, and returns the exit code; an error means exit code 1.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mode = Mode::choose(!args.no_progress);
    let report = import(&args, mode, Timeouts::default()).await?;
    writeln!(std::io::stdout(), "{report}").context("cannot print the report")?;
    if let Some(path) = &args.report {
        write_report(path, &report)?;
    }
    if report.answers.failed > 0 {
        bail!(
            "the service failed to execute {} commands: {:?}; import again: accepted commands are not executed twice",
            report.answers.failed,
            report.answers.failed_by_code
        );
    }
    if report.is_complete() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "rows and commands that were not imported: {}",
        args.rejects.display()
    );
    Ok(ExitCode::from(EXIT_INCOMPLETE))
}

async fn import(args: &Args, mode: Mode, timeouts: Timeouts) -> anyhow::Result<Report> {
    let client = Client::new(&args.url, timeouts)?;
    let reading_started = Instant::now();
    let rows = Rows::open(&args.file).with_context(|| cannot_import(&args.file))?;
    for output in std::iter::once(&args.rejects).chain(&args.report) {
        if is_same_file(&args.file, output) {
            bail!(
                "{} is the file to import and would be overwritten; choose another path for the output",
                output.display()
            );
        }
    }
    let rejects = Rejects::create(&args.rejects)?;
    let (dataset, rejects) = read_rows(args.file.clone(), rows, args.dates, rejects).await?;
    let reading = reading_started.elapsed();

    client.wait_until_ready().await?;
    let mut sender = Sender {
        client,
        mode,
        outcomes: OutcomeCounts::default(),
        rejects,
    };
    let sending_started = Instant::now();
    let products = command::for_products(dataset.clone());
    sender.send("products", products).await?;
    // A price needs its product, so the prices are sent after the products have been answered.
    let prices = command::for_prices(&dataset);
    sender.send("prices", prices).await?;
    let invoices = command::for_invoices(dataset.clone());
    sender.send("invoices", invoices).await?;
    let sending = sending_started.elapsed();
    sender.rejects.flush()?;
    Ok(Report::new(
        &dataset,
        sender.rejects.rows(),
        sender.outcomes,
        reading,
        sending,
    ))
}

/// Reads the file on a blocking thread, because reading is computation.
async fn read_rows(
    path: PathBuf,
    rows: Rows,
    dates: Option<DateOrder>,
    mut rejects: Rejects,
) -> anyhow::Result<(Arc<Dataset>, Rejects)> {
    tokio::task::spawn_blocking(move || {
        let dataset = reading::read(rows, || Rows::open(&path), dates, &mut rejects);
        let dataset = dataset.with_context(|| cannot_import(&path))?;
        Ok((Arc::new(dataset), rejects))
    })
    .await
    .context("reading the file was interrupted")?
}

fn cannot_import(path: &Path) -> String {
    format!("cannot import {}", path.display())
}

/// Whether both paths lead to the same existing file.
fn is_same_file(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Sends batches of commands and collects their outcomes.
struct Sender {
    client: Client,
    mode: Mode,
    outcomes: OutcomeCounts,
    rejects: Rejects,
}

impl Sender {
    /// Sends one batch of commands and receives all of its outcomes.
    async fn send<Commands>(&mut self, name: &'static str, commands: Commands) -> anyhow::Result<()>
    where
        Commands: ExactSizeIterator<Item = Command> + Send + 'static,
    {
        if commands.len() == 0 {
            return Ok(());
        }
        let mut progress = Progress::start(self.mode, name, commands.len() as u64);
        let mut stream = self.client.send(name, commands).await?;
        while let Some(answered) = stream.next().await? {
            self.outcomes.count(&answered.outcome);
            match &answered.outcome {
                Outcome::New | Outcome::Already | Outcome::DescriptionDiffers => {}
                Outcome::Refused { reason, .. } | Outcome::Failed { reason, .. } => {
                    let Answered { line, key, .. } = &answered;
                    self.rejects.add_command(*line, key, reason)?;
                }
            }
            progress.advance();
        }
        progress.finish();
        Ok(())
    }
}

fn write_report(path: &Path, report: &Report) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let mut file = File::create(path)?;
        serde_json::to_writer_pretty(&mut file, report)?;
        writeln!(file)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write the report {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_fake::{Behaviour, ServiceFake};
    use tempfile::TempDir;

    const CSV: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,cup,2,12/1/2010 8:26,1.00,7,France
C2,B,tea,-1,12/1/2010 8:27,0.50,,Spain
1,B,tea,1,12/1/2010 8:26,0.50,7,France
";

    fn args(folder: &TempDir, url: &str, csv: &str) -> Args {
        let file = folder.path().join("sales.csv");
        std::fs::write(&file, csv).unwrap();
        Args {
            file,
            url: url.to_owned(),
            rejects: folder.path().join("rejects.csv"),
            report: Some(folder.path().join("report.json")),
            dates: Some(DateOrder::MonthFirst),
            no_progress: true,
        }
    }

    fn rejects(args: &Args) -> String {
        std::fs::read_to_string(&args.rejects).unwrap()
    }

    #[tokio::test]
    async fn a_complete_import_is_reported_and_a_repetition_executes_nothing() {
        let service = ServiceFake::start(Behaviour::Accept).await;
        let folder = tempfile::tempdir().unwrap();
        let args = args(&folder, service.url(), CSV);
        assert_eq!(run(args.clone()).await.unwrap(), ExitCode::SUCCESS);
        assert_eq!(
            service.keys(),
            [
                "product/A/f5b9fb190cc189af",
                "product/B/56e4c91944536249",
                "price/A/GBP/100",
                "price/B/GBP/50",
                "sale/1",
                "credit-note/C2"
            ]
        );
        let report = std::fs::read(args.report.as_ref().unwrap()).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["totals"]["GBP"]["total_minor"], 200);
        assert_eq!(report["totals"]["GBP"]["invoices"], 2);
        assert_eq!(report["answers"]["new"], 6);
        assert_eq!(rejects(&args), "line,command,reason,row\n");

        assert_eq!(run(args.clone()).await.unwrap(), ExitCode::SUCCESS);
        let report = std::fs::read(args.report.as_ref().unwrap()).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["answers"]["new"], 0);
        assert_eq!(report["answers"]["already"], 6);
    }

    #[tokio::test]
    async fn rejected_rows_and_refused_commands_are_listed() {
        let service = ServiceFake::start(Behaviour::Refuse("sale/1")).await;
        let folder = tempfile::tempdir().unwrap();
        let args = args(&folder, service.url(), &format!("{CSV}3,A\n"));
        let code = run(args.clone()).await.unwrap();
        assert_eq!(code, ExitCode::from(EXIT_INCOMPLETE));
        assert_eq!(
            rejects(&args),
            concat!(
                "line,command,reason,row\n",
                "5,,\"the row has 2 fields, the header has 8\",\"3,A\"\n",
                "2,sale/1,422: LINE_QUANTITY_ZERO: no pieces,\n",
            )
        );
    }

    #[tokio::test]
    async fn a_command_that_the_service_failed_to_execute_is_an_error() {
        let service = ServiceFake::start(Behaviour::Fail("sale/1")).await;
        let folder = tempfile::tempdir().unwrap();
        let error = run(args(&folder, service.url(), CSV)).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("the service failed to execute 1 commands"),
            "no \"the service failed to execute 1 commands\" at the start of: {error}"
        );
    }

    #[tokio::test]
    async fn the_error_names_the_file_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&folder, "http://127.0.0.1:1", "a,b\n");
        let error = run(args.clone()).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sales.csv: the file is not Online Retail"),
            "no \"sales.csv: the file is not Online Retail\" in: {text}"
        );
        args.file = folder.path().join("none.csv");
        let text = format!("{:#}", run(args).await.unwrap_err());
        assert!(
            text.contains("none.csv: cannot open the file"),
            "no \"none.csv: cannot open the file\" in: {text}"
        );
    }

    #[tokio::test]
    async fn a_file_that_contradicts_itself_is_not_sent() {
        let service = ServiceFake::start(Behaviour::Accept).await;
        let folder = tempfile::tempdir().unwrap();
        let contradiction = "3,A,cup,1,13/12/2010 8:26,1.00,7,France\n";
        let mut args = args(&folder, service.url(), &format!("{CSV}{contradiction}"));
        let text = format!("{:#}", run(args.clone()).await.unwrap_err());
        assert!(
            text.contains("line 5: 13/12/2010 8:26"),
            "no \"line 5: 13/12/2010 8:26\" in: {text}"
        );
        // Without that row no date shows its order.
        args.dates = None;
        std::fs::write(&args.file, CSV).unwrap();
        let text = format!("{:#}", run(args).await.unwrap_err());
        assert!(
            text.contains("--dates day-first"),
            "no \"--dates day-first\" in: {text}"
        );
        assert_eq!(service.keys(), [] as [String; 0]);
    }

    #[tokio::test]
    async fn the_imported_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&folder, "http://127.0.0.1:1", CSV);
        args.rejects = folder.path().join(".").join("sales.csv");
        let text = run(args.clone()).await.unwrap_err().to_string();
        assert!(
            text.contains("would be overwritten"),
            "no \"would be overwritten\" in: {text}"
        );
        assert_eq!(std::fs::read_to_string(&args.file).unwrap(), CSV);
    }
}
