//! `daybook import` as a process of its own, so that a test can disturb other processes during the import, and its
//! data.

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use system_tests::{Deployment, environment::online_retail, signal::signal};
use tokio::{process::Child, time::timeout};

/// Lines of the shortened file: about 2,900 products, almost as many prices, and 2,300 invoices.
const LINES: usize = 50_000;

/// A running import. It is killed when it is dropped.
pub struct Importer {
    child: Child,
    log: PathBuf,
}

impl Importer {
    /// Begins to import a file through the deployment's node.
    pub fn begin(deployment: &Deployment, file: &Path) -> Result<Self> {
        let log = deployment.log("import");
        let mut command = deployment.import(file, &deployment.folder.join("interrupted.json"));
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true);
        let child = command.spawn()?;
        Ok(Self { child, log })
    }

    /// Stops the process until [`Self::resume`]. The node still answers the commands that it has received.
    pub async fn suspend(&self) -> Result<()> {
        signal(&self.child, "STOP").await
    }

    /// Continues after [`Self::suspend`].
    pub async fn resume(&self) -> Result<()> {
        signal(&self.child, "CONT").await
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end; returns its exit status and its standard error.
    pub async fn end(mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let status = timeout(limit, self.child.wait()).await;
        let status =
            status.with_context(|| format!("the importer still runs after {limit:?}"))??;
        Ok((status, std::fs::read_to_string(&self.log)?))
    }
}

/// The first lines of the data, without the last invoice, which may be cut off.
pub fn shortened(deployment: &Deployment) -> Result<PathBuf> {
    let mut text = String::new();
    GzDecoder::new(File::open(online_retail())?).read_to_string(&mut text)?;
    let mut lines: Vec<&str> = text.split_inclusive('\n').take(LINES).collect();
    let invoice = |line: &str| line.split(',').next().map(str::to_owned);
    let last = lines.last().and_then(|line| invoice(line));
    lines.retain(|line| invoice(line) != last);
    let path = deployment.folder.join("shortened.csv");
    std::fs::write(&path, lines.concat()).with_context(|| path.display().to_string())?;
    Ok(path)
}
