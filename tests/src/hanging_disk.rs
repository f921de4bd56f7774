//! A disk that hangs until the test lets it recover.
//!
//! Either the disk is real: a file system per node, which the kernel freezes ([`MountedImage`]). Then calls that change
//! it hang, and a process with such a call can't end before the disk recovers. Or the nodes preload the C library of
//! `hanging_disk.c`, which blocks calls for files, also those that read. The library needs neither root nor a separate
//! file system.

use crate::{
    Deployment, deployment::state_directory, environment::source_file, mounted_image::MountedImage,
    node::output_of,
};
use anyhow::{Context, Result, ensure};
use std::{
    collections::HashMap, fs, net::SocketAddr, os::unix::fs::symlink, path::PathBuf, time::Duration,
};
use tokio::process::Command;

/// Longest time to compile the library.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// The disk of the state stores of the nodes that it is attached to.
pub struct HangingDisk {
    folder: PathBuf,
    kind: Kind,
}

enum Kind {
    /// The nodes preload a library.
    Library {
        library: PathBuf,
        /// While this symbolic link exists, calls for files below its target block.
        link: PathBuf,
    },
    /// The file system of each node's state store, by the node's address.
    FileSystems(HashMap<SocketAddr, MountedImage>),
}

impl HangingDisk {
    /// Creates a disk for the nodes of a deployment, with the library. It does not hang at first.
    ///
    /// # Errors
    /// The library does not compile, for example because there is no C compiler. (The build needs one too.)
    pub async fn new(deployment: &Deployment) -> Result<Self> {
        // The library compares this path with paths from /proc, which contain no symbolic links.
        let folder = deployment.folder.canonicalize()?;
        let library = folder.join("hanging_disk.so");
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source_file("tests/src/hanging_disk.c"))
            .arg("-ldl");
        let compiled = output_of(compiler, COMPILE_TIMEOUT).await?;
        ensure!(
            compiled.code == 0,
            "cc ended with {} instead of 0: {}",
            compiled.code,
            compiled.stderr
        );
        let link = folder.join("hanging");
        Ok(Self {
            folder,
            kind: Kind::Library { library, link },
        })
    }

    /// Creates a disk with a file system of its own for each of these nodes. On a machine where this user may not mount
    /// file systems, creates one with the library instead, and prints this. It does not hang at first.
    ///
    /// # Errors
    /// Those of [`HangingDisk::new`]; or only some of the file systems can be mounted.
    pub async fn mounted(deployment: &Deployment, nodes: &[SocketAddr]) -> Result<Self> {
        let folder = deployment.folder.canonicalize()?;
        let mut file_systems = HashMap::new();
        for node in nodes {
            match MountedImage::mount(&folder.join(state_directory(*node))).await {
                Ok(mounted) => {
                    file_systems.insert(*node, mounted);
                }
                Err(error) if file_systems.is_empty() => {
                    println!(
                        "no file system can be mounted here, so a preloaded library blocks calls instead: {error:#}"
                    );
                    return Self::new(deployment).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            folder,
            kind: Kind::FileSystems(file_systems),
        })
    }

    /// Attaches a node with a state store in [`HangingDisk::state_directory`], where command nodes have theirs.
    pub fn attach(&self, node: &mut Command) {
        if let Kind::Library { library, link } = &self.kind {
            node.env("LD_PRELOAD", library).env("HANGING_DISK", link);
        }
    }

    /// The directory on the disk for the state store of the node at this address.
    pub fn state_directory(&self, node: SocketAddr) -> PathBuf {
        self.folder.join(state_directory(node))
    }

    /// Lets the disk hang for the state store of the node at this address.
    pub async fn hang(&mut self, node: SocketAddr) -> Result<()> {
        let state = self.state_directory(node);
        match &mut self.kind {
            Kind::Library { link, .. } => {
                symlink(state, &*link).with_context(|| link.display().to_string())
            }
            Kind::FileSystems(mounted) => {
                let mounted = mounted.get_mut(&node);
                let mounted = mounted.with_context(|| format!("{node} has no file system"))?;
                mounted.freeze().await
            }
        }
    }

    /// Lets the blocked calls of the node at this address continue.
    pub async fn recover(&mut self, node: SocketAddr) -> Result<()> {
        match &mut self.kind {
            Kind::Library { link, .. } => {
                fs::remove_file(&*link).with_context(|| link.display().to_string())
            }
            Kind::FileSystems(mounted) => {
                let mounted = mounted.get_mut(&node);
                let mounted = mounted.with_context(|| format!("{node} has no file system"))?;
                mounted.thaw().await
            }
        }
    }
}
