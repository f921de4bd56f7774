//! A disk that hangs until the test lets it recover. The node preloads the C library of `hanging_disk.c`, which blocks
//! calls for files. So the disk needs neither root nor a separate file system.

use crate::{Deployment, deployment::state_directory, environment::source_file, node::output_of};
use anyhow::{Context, Result, ensure};
use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::PathBuf, time::Duration};
use tokio::process::Command;

/// Longest time to compile the library.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// The disk of the state stores of the nodes that it is attached to.
pub struct HangingDisk {
    library: PathBuf,
    folder: PathBuf,
    /// While this symbolic link exists, calls for files below its target block.
    link: PathBuf,
}

impl HangingDisk {
    /// Creates a disk for the nodes of a deployment. It does not hang at first.
    ///
    /// # Errors
    /// The library does not compile, for example because there is no C compiler. (The build needs one too.)
    pub async fn new(deployment: &Deployment) -> Result<Self> {
        // The library compares this path with paths from /proc, which contain no symbolic links.
        let folder = deployment.folder.canonicalize()?;
        let disk = Self {
            library: folder.join("hanging_disk.so"),
            link: folder.join("hanging"),
            folder,
        };
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&disk.library)
            .arg(source_file("tests/src/hanging_disk.c"))
            .arg("-ldl");
        let compiled = output_of(compiler, COMPILE_TIMEOUT).await?;
        ensure!(
            compiled.code == 0,
            "cc ended with {} instead of 0: {}",
            compiled.code,
            compiled.stderr
        );
        Ok(disk)
    }

    /// Lets a node preload the library.
    pub fn attach(&self, node: &mut Command) {
        node.env("LD_PRELOAD", &self.library)
            .env("HANGING_DISK", &self.link);
    }

    /// Lets the disk hang for the state store of the command node at this address.
    pub fn hang(&self, node: SocketAddr) -> Result<()> {
        let state = self.folder.join(state_directory(node));
        symlink(state, &self.link).with_context(|| self.link.display().to_string())
    }

    /// Lets the blocked calls continue.
    pub fn recover(&self) -> Result<()> {
        fs::remove_file(&self.link).with_context(|| self.link.display().to_string())
    }
}
