//! A file system in a file, which a test can freeze (`tests/src/mounted_image.sh`). While it is frozen, the kernel
//! holds every call that changes the file system, as it does while a disk hangs. Calls that read are answered. Mounting
//! needs root, and Linux with loop devices.

use crate::environment::source_file;
use anyhow::{Context, Result, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Longest time for one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// A mounted file system. It is thawed and unmounted when this is dropped, or when this process is killed.
pub struct MountedImage {
    folder: PathBuf,
    /// The program ends once this is closed.
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _program: Child,
}

impl MountedImage {
    /// Mounts a new file system at a folder, and creates the folder.
    ///
    /// # Errors
    /// The file system can't be mounted, for example because this user may not mount.
    pub async fn mount(folder: &Path) -> Result<Self> {
        let image = folder.with_extension("image");
        let mut program = Command::new("sh")
            .arg(source_file("tests/src/mounted_image.sh"))
            .arg(&image)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A signal to the group of the tests must not end it, because only this program thaws the file system.
            .process_group(0)
            .spawn()?;
        let input = program.stdin.take().context("no standard input")?;
        let output = program.stdout.take().context("no standard output")?;
        let mut mounted = Self {
            folder: folder.to_owned(),
            input,
            output: BufReader::new(output).lines(),
            _program: program,
        };
        mounted.expect("mounted").await?;
        Ok(mounted)
    }

    /// Freezes the file system.
    pub async fn freeze(&mut self) -> Result<()> {
        self.run("freeze").await
    }

    /// Lets the calls continue that the kernel holds.
    pub async fn thaw(&mut self) -> Result<()> {
        self.run("thaw").await
    }

    async fn run(&mut self, action: &str) -> Result<()> {
        self.input
            .write_all(format!("{action}\n").as_bytes())
            .await?;
        self.expect(action).await
    }

    /// Reads the next line of the program. Any other line is the reason for a failure.
    async fn expect(&mut self, expected: &str) -> Result<()> {
        let folder = self.folder.display();
        let line = timeout(STEP_TIMEOUT, self.output.next_line()).await;
        let line = line.with_context(|| format!("{folder}: no {expected:?} in time"))??;
        let Some(line) = line else {
            bail!("{folder}: the program ended without {expected:?}");
        };
        ensure!(
            line == expected,
            "{folder}: {line:?} instead of {expected:?}"
        );
        Ok(())
    }
}
