//! The `daybook` binary, asked for its own help.

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Message;
use std::{
    collections::HashMap,
    env,
    io::BufReader,
    path::PathBuf,
    process::{Command, Stdio},
};

/// The binary and what it said.
pub struct Program {
    executable: PathBuf,
    /// By subcommand, such as `audit verify`; the binary's own is empty.
    helps: HashMap<String, String>,
}

impl Program {
    /// The binary under test: what `DEV_DAYBOOK` names, else it is built.
    pub fn find() -> Result<Self> {
        let executable = match env::var_os("DEV_DAYBOOK") {
            Some(path) => PathBuf::from(path),
            None => build()?,
        };
        Ok(Self {
            executable,
            helps: HashMap::new(),
        })
    }

    /// Whether a call's subcommands, options and arguments are known.
    ///
    /// # Errors
    /// Names the first one that is not.
    pub fn check(&mut self, arguments: &[String]) -> Result<()> {
        let mut path = String::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let help = self.help(&path)?.to_owned();
            if argument.starts_with('-') {
                let name = argument.split('=').next().unwrap_or_default();
                let line = help.lines().find(|line| has_word(line, name));
                let line = line.with_context(|| format!("`daybook {path}` has no {name}"))?;
                // An option's value is not ours to judge.
                if line.contains(&format!("{name} <")) && !argument.contains('=') {
                    rest.next();
                }
            } else if subcommands(&help).contains(&argument.as_str()) {
                path = format!("{path} {argument}").trim_start().to_owned();
            } else {
                let takes = help.contains("Arguments:") && subcommands(&help).is_empty();
                ensure!(takes, "`daybook {path}` does not take {argument:?}");
            }
        }
        Ok(())
    }

    /// Every subcommand that does something by itself.
    pub fn leaves(&mut self) -> Result<Vec<String>> {
        let (mut open, mut leaves) = (vec![String::new()], Vec::new());
        while let Some(path) = open.pop() {
            let help = self.help(&path)?.to_owned();
            let below = subcommands(&help);
            if below.is_empty() {
                leaves.push(path);
            } else {
                open.extend(
                    below
                        .iter()
                        .map(|name| format!("{path} {name}").trim_start().to_owned()),
                );
            }
        }
        Ok(leaves)
    }

    fn help(&mut self, path: &str) -> Result<&str> {
        if !self.helps.contains_key(path) {
            let mut command = Command::new(&self.executable);
            let command = command.args(path.split_whitespace()).arg("--help");
            let output = command
                .output()
                .with_context(|| self.executable.display().to_string())?;
            ensure!(output.status.success(), "`daybook {path} --help` fails");
            self.helps
                .insert(path.to_owned(), String::from_utf8(output.stdout)?);
        }
        Ok(&self.helps[path])
    }
}

/// The names under `Commands:`, without the one for help.
fn subcommands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.split([' ', ',', '=']).any(|one| one == word)
}

/// Builds the binary and says where it is.
fn build() -> Result<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--locked", "--bin", "daybook"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(super::super::checkout::root())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cargo build")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut executable = None;
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == "daybook"
            && let Some(path) = artifact.executable
        {
            executable = Some(path.into_std_path_buf());
        }
    }
    ensure!(child.wait()?.success(), "the binary does not build");
    let Some(executable) = executable else {
        bail!("cargo does not say where the binary is")
    };
    Ok(executable)
}
