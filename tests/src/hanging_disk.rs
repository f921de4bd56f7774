//! A disk that hangs for as long as a test wants. It is a small library in C that the node loads before all others, so
//! it needs neither root nor a file system of its own. The file next to this one says what it does.

use crate::{Deployment, deployment::state_directory, environment::source_file, node::output_of};
use anyhow::{Context, Result, ensure};
use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::PathBuf, time::Duration};
use tokio::process::Command;

/// Longest time for the compiler.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// The disk of the state stores of some nodes.
pub struct HangingDisk {
    library: PathBuf,
    folder: PathBuf,
    /// While this symbolic link exists, calls that concern a file below its target do not return.
    link: PathBuf,
}

impl HangingDisk {
    /// A disk for the nodes of a deployment; it does not hang yet.
    ///
    /// # Errors
    /// There is no C compiler, which the build needs too.
    pub async fn new(deployment: &Deployment) -> Result<Self> {
        // The system names open files by their paths without symbolic links.
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
        ensure!(compiled.code == 0, "cc: {}", compiled.stderr);
        Ok(disk)
    }

    /// Puts a node's files on this disk.
    pub fn attach(&self, node: &mut Command) {
        node.env("LD_PRELOAD", &self.library)
            .env("HANGING_DISK", &self.link);
    }

    /// Lets it hang for the state store of the command node at an address.
    pub fn hang(&self, node: SocketAddr) -> Result<()> {
        let state = self.folder.join(state_directory(node));
        symlink(state, &self.link).with_context(|| self.link.display().to_string())
    }

    /// Lets it go on.
    pub fn recover(&self) -> Result<()> {
        fs::remove_file(&self.link).with_context(|| self.link.display().to_string())
    }
}
