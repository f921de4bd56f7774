//! The `daybook` binary, and the commands and options of its help.

use anyhow::{Context, Result, ensure};
use std::{collections::HashMap, path::PathBuf, process::Command};

/// The binary and its help.
pub struct Program {
    executable: PathBuf,
    /// Help by subcommand, such as `audit verify`; the key of the binary's own is empty.
    helps: HashMap<String, String>,
}

impl Program {
    /// The binary under test: the one in `DEV_DAYBOOK`, or the result of a build.
    pub fn find() -> Result<Self> {
        Ok(Self {
            executable: system_tests::binary::daybook()?,
            helps: HashMap::new(),
        })
    }

    /// Checks a call's subcommands, options and arguments.
    ///
    /// # Errors
    /// The first one that is unknown.
    pub fn check(&mut self, arguments: &[String]) -> Result<()> {
        let mut path = String::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let help = self.help(&path)?.to_owned();
            if argument.starts_with('-') {
                let name = argument.split('=').next().unwrap_or_default();
                let line = help.lines().find(|line| has_word(line, name));
                let line = line.with_context(|| format!("`daybook {path}` has no {name}"))?;
                // The value of an option is not checked.
                if line.contains(&format!("{name} <")) && !argument.contains('=') {
                    rest.next();
                }
            } else if subcommands(&help).contains(&argument.as_str()) {
                path = format!("{path} {argument}").trim_start().to_owned();
            } else {
                let takes = help.contains("Arguments:") && subcommands(&help).is_empty();
                ensure!(takes, "`daybook {path}` does not accept {argument:?}");
            }
        }
        Ok(())
    }

    /// Every subcommand that has no subcommands.
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
            ensure!(
                output.status.success(),
                "`daybook {path} --help` ended with {} instead of 0",
                output.status
            );
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
