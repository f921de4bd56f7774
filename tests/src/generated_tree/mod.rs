//! A copy of the source tree that `daybook new` or a test writes into, and its build.

mod build;

pub use build::Build;

use crate::{
    binary,
    node::{Output, output_of},
    source_tree::{self, root},
};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, time::Duration};
use tokio::process::Command;

/// Longest time for a call of the generator or of rustfmt.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A copy of the source tree in a temporary folder.
pub struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    /// Copies the text files; the code needs no others.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for file in source_tree::files()? {
            write(folder.path(), &file.path, &file.text)?;
        }
        Ok(Self { folder })
    }

    /// The text of every file, by path.
    pub fn files(&self) -> Result<BTreeMap<String, String>> {
        files_below(self.folder.path())
    }

    /// Calls `daybook new` in the copy, in one of its folders.
    pub async fn daybook_new(&self, arguments: &str) -> Result<Output> {
        let mut command = Command::new(binary::daybook()?);
        command
            .arg("new")
            .args(arguments.split(' '))
            .current_dir(self.folder.path().join("domain"));
        output_of(command, CALL_TIMEOUT).await
    }

    /// Fails if rustfmt would change a file.
    pub async fn check_format(&self, paths: &[&str]) -> Result<()> {
        let mut command = Command::new("rustfmt");
        command
            .args(["--check", "--edition", "2024"])
            .args(paths)
            .current_dir(self.folder.path());
        let output = output_of(command, CALL_TIMEOUT).await?;
        ensure!(
            output.code == 0,
            "exit code {} instead of 0: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(())
    }

    /// Turns the compiler's warnings into errors.
    pub fn deny_warnings(&self) -> Result<()> {
        let warn = "missing_docs = \"warn\"";
        let deny = "missing_docs = \"deny\"\nwarnings = \"deny\"";
        self.replace("Cargo.toml", warn, deny)
    }

    /// Replaces a text that a file has exactly once.
    pub fn replace(&self, path: &str, from: &str, to: &str) -> Result<()> {
        let file = self.folder.path().join(path);
        let text = fs::read_to_string(&file).with_context(|| path.to_owned())?;
        let count = text.matches(from).count();
        ensure!(
            count == 1,
            "{path} has {from:?} {count} times instead of once"
        );
        fs::write(file, text.replace(from, to)).with_context(|| path.to_owned())
    }
}

/// The target folder of the source tree.
fn target() -> Result<PathBuf> {
    let mut command = cargo_metadata::MetadataCommand::new();
    let metadata = command.manifest_path(root().join("Cargo.toml")).no_deps();
    Ok(metadata.exec()?.target_directory.into())
}

fn files_below(root: &Path) -> Result<BTreeMap<String, String>> {
    let (mut folders, mut files) = (vec![root.to_owned()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            let path = path.strip_prefix(root).context("a file of this folder")?;
            // The data file is not a text.
            if let Ok(text) = String::from_utf8(bytes) {
                files.insert(path.to_string_lossy().into_owned(), text);
            }
        }
    }
    Ok(files)
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let target = root.join(path);
    let folder = target.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(&target, text).with_context(|| target.display().to_string())
}
