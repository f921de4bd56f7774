//! The import from one end to the other, and its exit code.

use crate::import::{
    answer::{Tally, Verdict},
    book::Book,
    client::{Client, Patience},
    command::{self, Command},
    exchange::Answered,
    progress::{Form, Progress},
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

/// The exit code when rows were rejected or commands refused; all the rest was imported.
const EXIT_INCOMPLETE: u8 = 2;

/// Imports Online Retail: products, sales and credit notes. Importing again changes nothing twice.
///
/// Exit code 0: all imported. 2: all but what the rejects file lists. 1: the file can't be read, or
/// the service can't be reached, stopped or failed; import again then.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// CSV of Online Retail, plain or packed with gzip
    pub file: PathBuf,
    /// Address of the service
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Where to list rows and commands that could not be imported; written anew each time
    #[arg(long, default_value = "rejects.csv")]
    pub rejects: PathBuf,
    /// Where to write the report as JSON
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    pub no_progress: bool,
}

/// Imports, prints the report, and gives the exit code; an error is exit code 1.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let form = Form::choose(!args.no_progress);
    let report = import(&args, form, Patience::default()).await?;
    writeln!(std::io::stdout(), "{report}").context("cannot print the report")?;
    if let Some(path) = &args.report {
        write_report(path, &report)?;
    }
    if report.answers.failed > 0 {
        bail!(
            "the service failed {} commands: {:?}; import again: what was taken is not done twice",
            report.answers.failed,
            report.answers.failed_by_code
        );
    }
    if report.is_complete() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("what could not be imported: {}", args.rejects.display());
    Ok(ExitCode::from(EXIT_INCOMPLETE))
}

async fn import(args: &Args, form: Form, patience: Patience) -> anyhow::Result<Report> {
    let client = Client::new(&args.url, patience)?;
    let reading_started = Instant::now();
    let rows = Rows::open(&args.file).with_context(|| cannot_import(&args.file))?;
    for output in std::iter::once(&args.rejects).chain(&args.report) {
        if is_same_file(&args.file, output) {
            bail!(
                "{} is the file to import, and would be overwritten",
                output.display()
            );
        }
    }
    let rejects = Rejects::create(&args.rejects)?;
    let (book, rejects) = read_rows(args.file.clone(), rows, rejects).await?;
    let reading = reading_started.elapsed();

    client.wait_until_ready().await?;
    let mut sending = Sending {
        client,
        form,
        tally: Tally::default(),
        rejects,
    };
    let sending_started = Instant::now();
    let products = command::for_products(book.clone());
    sending.send("products", products).await?;
    let invoices = command::for_invoices(book.clone());
    sending.send("invoices", invoices).await?;
    let sending_time = sending_started.elapsed();
    let Sending {
        tally, mut rejects, ..
    } = sending;
    rejects.flush()?;
    let rejected_rows = rejects.rows();
    Ok(Report::new(
        &book,
        rejected_rows,
        tally,
        reading,
        sending_time,
    ))
}

/// Reads the file on a thread of its own, for that is work and not waiting.
async fn read_rows(
    path: PathBuf,
    rows: Rows,
    mut rejects: Rejects,
) -> anyhow::Result<(Arc<Book>, Rejects)> {
    tokio::task::spawn_blocking(move || {
        let book = reading::read(rows, || Rows::open(&path), &mut rejects);
        let book = book.with_context(|| cannot_import(&path))?;
        Ok((Arc::new(book), rejects))
    })
    .await
    .context("reading the file was broken off")?
}

fn cannot_import(path: &Path) -> String {
    format!("cannot import {}", path.display())
}

/// Whether both paths lead to one file that is there.
fn is_same_file(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// What sending needs and gathers.
struct Sending {
    client: Client,
    form: Form,
    tally: Tally,
    rejects: Rejects,
}

impl Sending {
    /// Sends one lot of commands and takes up all their answers.
    async fn send<Commands>(&mut self, what: &'static str, commands: Commands) -> anyhow::Result<()>
    where
        Commands: ExactSizeIterator<Item = Command> + Send + 'static,
    {
        if commands.len() == 0 {
            return Ok(());
        }
        let mut progress = Progress::begin(self.form, what, commands.len() as u64);
        let mut exchange = self.client.send(what, commands).await?;
        while let Some(answered) = exchange.next().await? {
            self.tally.count(&answered.verdict);
            match &answered.verdict {
                Verdict::New | Verdict::Already | Verdict::DescribedOtherwise => {}
                Verdict::Refused { reason, .. } | Verdict::Failed { reason, .. } => {
                    let Answered { line, key, .. } = &answered;
                    self.rejects.add_command(*line, key, reason)?;
                }
            }
            progress.advance();
        }
        progress.end();
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
    use crate::import::service_fake::{Behaviour, ServiceFake};
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
            no_progress: true,
        }
    }

    fn rejects(args: &Args) -> String {
        std::fs::read_to_string(&args.rejects).unwrap()
    }

    #[tokio::test]
    async fn imports_all_and_says_so() {
        let service = ServiceFake::start(Behaviour::Accept).await;
        let folder = tempfile::tempdir().unwrap();
        let args = args(&folder, service.url(), CSV);
        assert_eq!(run(args.clone()).await.unwrap(), ExitCode::SUCCESS);
        assert_eq!(
            service.keys(),
            ["product/A", "product/B", "sale/1", "credit-note/C2"]
        );
        let report = std::fs::read(args.report.as_ref().unwrap()).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["total_minor"], 200);
        assert_eq!(report["invoices"], 2);
        assert_eq!(report["answers"]["new"], 4);
        assert_eq!(rejects(&args), "line,command,reason,row\n");

        assert_eq!(run(args.clone()).await.unwrap(), ExitCode::SUCCESS);
        let report = std::fs::read(args.report.as_ref().unwrap()).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["answers"]["new"], 0);
        assert_eq!(report["answers"]["already"], 4);
    }

    #[tokio::test]
    async fn lists_bad_rows_and_refused_commands() {
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
    async fn failures_of_the_service_are_errors() {
        let service = ServiceFake::start(Behaviour::Fail("sale/1")).await;
        let folder = tempfile::tempdir().unwrap();
        let error = run(args(&folder, service.url(), CSV)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the service failed 1 commands")
        );
    }

    #[tokio::test]
    async fn names_the_file_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&folder, "http://127.0.0.1:1", "a,b\n");
        let error = run(args.clone()).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sales.csv: the file is not Online Retail"),
            "{text}"
        );
        args.file = folder.path().join("none.csv");
        let text = format!("{:#}", run(args).await.unwrap_err());
        assert!(text.contains("none.csv: cannot open the file"), "{text}");
    }

    #[tokio::test]
    async fn never_overwrites_what_it_imports() {
        let folder = tempfile::tempdir().unwrap();
        let mut args = args(&folder, "http://127.0.0.1:1", CSV);
        args.rejects = folder.path().join(".").join("sales.csv");
        let text = run(args.clone()).await.unwrap_err().to_string();
        assert!(text.ends_with("would be overwritten"), "{text}");
        assert_eq!(std::fs::read_to_string(&args.file).unwrap(), CSV);
    }
}
