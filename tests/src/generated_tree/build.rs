//! The build of a generated tree. Only a build shows that generated code compiles; the rest of this file makes the
//! build cheap.
//!
//! The tree is built in a fixed folder, and only files that differ are written, so Cargo compiles only the changes
//! since the previous run. It has a target folder of its own, because Cargo can't distinguish the crates of two
//! source trees, and because the builds of other tests must not wait for this one. Third-party libraries are copied
//! from the main target folder. The copy relies on the layout of target folders; if the layout changes, Cargo
//! compiles the libraries again.

use super::{Copy, files_below, target, write};
use crate::{binary, node::output_of, source_tree::root};
use anyhow::{Context, Result, ensure};
use cargo_metadata::{MetadataCommand, Package};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;

/// Longest time for one call of Cargo; on two cores, with nothing compiled before, it takes about ten minutes.
const BUILD_TIMEOUT: Duration = Duration::from_secs(1_800);
/// The crates with generated code.
const GENERATED: [&str; 4] = ["schemas", "domain", "commands", "projections"];
/// Further selected crates. With them, third-party libraries have the same features as in a build of the whole
/// workspace, and need not be compiled again.
const FOR_FEATURES: [&str; 3] = ["daybook", "system-tests", "bench-journal"];
/// The data file, which documents name.
const DATA: &str = "data/online-retail.csv.gz";
/// The parts of a target folder that hold compiled libraries.
const PARTS: [&str; 3] = [".fingerprint", "build", "deps"];

/// A generated tree, and the folder of its build.
pub struct Build {
    tree: PathBuf,
    target: PathBuf,
    /// The names of our packages.
    packages: Vec<String>,
}

impl Build {
    /// Copies a tree to the folder of this name, in which it is built. Builds with the same name must not run at the
    /// same time.
    pub fn of(copy: &Copy, name: &str) -> Result<Self> {
        let folder = target()?.join(name);
        let build = Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
            packages: our_packages()?
                .into_iter()
                .map(|package| package.name.to_string())
                .collect(),
        };
        fs::create_dir_all(&build.tree)?;
        let (old, new) = (build.files()?, copy.files()?);
        for path in old.keys().filter(|path| !new.contains_key(*path)) {
            fs::remove_file(build.tree.join(path))?;
        }
        for (path, text) in new
            .iter()
            .filter(|(path, text)| old.get(*path) != Some(text))
        {
            write(&build.tree, path, text)?;
        }
        let data = build.tree.join(DATA);
        if !data.exists() {
            fs::copy(root().join(DATA), &data).with_context(|| data.display().to_string())?;
        }
        take_libraries(&target()?.join("debug"), &build.target.join("debug"))?;
        Ok(build)
    }

    /// The text of every file of the tree, by path.
    pub fn files(&self) -> Result<BTreeMap<String, String>> {
        files_below(&self.tree)
    }

    /// Tests the crates with generated code; returns the output.
    pub async fn test(&self, update_golden: bool, targets: &[&str]) -> Result<String> {
        let mut command = self.cargo("test");
        // The tests of the documents call the binary, which does not differ from the main tree's.
        command
            .arg("--no-fail-fast")
            .args(targets)
            .env("DEV_DAYBOOK", binary::daybook()?);
        if update_golden {
            command.env("UPDATE_GOLDEN", "1");
        }
        log_of(command).await
    }

    /// Builds the `daybook` binary; returns its path.
    pub async fn daybook(&self) -> Result<PathBuf> {
        let mut command = self.cargo("build");
        // A test program is also built, so that third-party libraries have the features of the main tree's build.
        command.args(["--bin", "daybook", "--test", "arrows"]);
        log_of(command).await?;
        Ok(self.target.join("debug").join("daybook"))
    }

    /// Runs clippy on the crates with generated code and on their dependencies.
    pub async fn lint(&self) -> Result<String> {
        let mut command = self.cargo("clippy");
        command.args(["--all-targets", "--", "-D", "warnings"]);
        log_of(command).await
    }

    fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command
            .args([subcommand, "--offline", "--locked"])
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env_remove("UPDATE_GOLDEN");
        for name in GENERATED.iter().chain(&FOR_FEATURES) {
            command.args(["-p", name]);
        }
        // Compiling takes longer than the tests, so our crates are compiled as fast as possible. The libraries keep their
        // profile, because they are copied.
        for name in &self.packages {
            for setting in ["opt-level=0", "debug=false"] {
                let setting = format!("profile.dev.package.{name}.{setting}");
                command.args(["--config", &setting]);
            }
        }
        command
    }
}

/// Runs Cargo in the generated tree; returns its output.
async fn log_of(command: Command) -> Result<String> {
    let output = output_of(command, BUILD_TIMEOUT).await?;
    let log = output.stdout + &output.stderr;
    ensure!(
        output.code == 0,
        "the generated tree fails with {} instead of 0:\n{log}",
        output.code
    );
    Ok(log)
}

/// Copies the third-party libraries of one target folder that another one lacks.
fn take_libraries(from: &Path, to: &Path) -> Result<()> {
    let ours = our_crates()?;
    for part in PARTS {
        fs::create_dir_all(to.join(part))?;
        for entry in fs::read_dir(from.join(part)).with_context(|| part.to_owned())? {
            let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let name = name.to_string_lossy();
            let target = to.join(part).join(&*name);
            if is_library(part, &name, &ours) && !target.exists() {
                take(&entry, &target)?;
            }
        }
    }
    Ok(())
}

/// Whether an entry is part of a library that is not ours. Names end with a hash: `libserde-<hash>.rlib`.
fn is_library(part: &str, name: &str, ours: &[String]) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let krate = stem.rsplit_once('-').map_or(stem, |(krate, _)| krate);
    let krate = match part {
        "deps" => krate.strip_prefix("lib"),
        _ => Some(krate),
    };
    krate.is_some_and(|krate| !ours.contains(&krate.replace('-', "_")))
}

/// Copies a file or a folder with its times, which Cargo compares to find changes. A compiled library is linked,
/// because it is large, and rustc replaces it instead of writing into it.
fn take(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            take(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let is_library = from.extension().is_some_and(|extension| {
        ["rlib", "rmeta", "so", "a", "dylib"]
            .iter()
            .any(|known| extension == *known)
    });
    if is_library {
        fs::hard_link(from, to).with_context(|| from.display().to_string())?;
        return Ok(());
    }
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    let times = fs::metadata(from)?;
    let times = fs::FileTimes::new()
        .set_accessed(times.accessed()?)
        .set_modified(times.modified()?);
    fs::File::options()
        .append(true)
        .open(to)?
        .set_times(times)?;
    Ok(())
}

/// The names of our packages and libraries, with underscores.
fn our_crates() -> Result<Vec<String>> {
    let packages = our_packages()?;
    let targets = packages.iter().flat_map(|package| &package.targets);
    let targets = targets.map(|target| target.name.replace('-', "_"));
    let names = packages
        .iter()
        .map(|package| package.name.replace('-', "_"));
    Ok(names.chain(targets).collect())
}

fn our_packages() -> Result<Vec<Package>> {
    let mut command = MetadataCommand::new();
    let metadata = command.manifest_path(root().join("Cargo.toml")).no_deps();
    Ok(metadata.exec()?.packages)
}
