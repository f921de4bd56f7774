//! The settings and secrets of `./dev up`, in a copy of its scripts. Needs no server.

use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, process::Command};
use system_tests::source_tree::files;
use tempfile::TempDir;

/// The steps of `./dev up` before it starts the service.
const UP: &str = "use_stack up; load_ports; restore_kept; write_environment";
/// The steps of `./dev down --wipe` after everything has stopped.
const WIPE: &str = "use_stack up; load_ports; restore_kept; wipe_up";
const HASH_KEY: &str = ".daybook/up/secrets/hash.key";

/// A copy of the scripts, with a state folder of its own.
struct SourceCopy {
    folder: TempDir,
}

impl SourceCopy {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let is_script = |path: &str| path.starts_with("deploy/local/");
        for file in files()?.iter().filter(|file| is_script(&file.path)) {
            let target = folder.path().join(&file.path);
            fs::create_dir_all(target.parent().context("a file is in a folder")?)?;
            fs::write(target, &file.text)?;
        }
        Ok(Self { folder })
    }

    /// Runs a script in a shell without this process's settings; returns its output.
    fn run(&self, script: &str) -> Result<String> {
        let settings = std::env::vars().map(|(name, _)| name);
        let settings =
            settings.filter(|name| name.starts_with("DAYBOOK_") || name.starts_with("DEV_"));
        let mut command = Command::new("bash");
        for name in settings {
            command.env_remove(name);
        }
        let output = command
            .current_dir(&self.folder)
            .args(["-euc", script])
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{script} ended with {} instead of 0: {error}",
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Calls functions of the scripts after the commands of a user's shell.
    fn call(&self, shell: &str, functions: &str) -> Result<String> {
        self.run(&format!(
            "{shell}; source deploy/local/parts.sh; {functions}"
        ))
    }

    /// Checks that the hash key is the given one. The error shows neither, because both are secrets.
    fn expect_key(&self, expected: &str) -> Result<()> {
        let is_expected = self.read(HASH_KEY)? == expected;
        ensure!(is_expected, "{HASH_KEY} has another key than before");
        Ok(())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| name.to_owned())
    }
}

#[test]
fn a_shell_with_the_settings_of_a_wiped_stack_starts_a_new_one() -> Result<()> {
    let copy = SourceCopy::new()?;
    copy.call("DEV_KAFKA_PORT=9999", UP)?;
    let key = copy.read(HASH_KEY)?;
    // The file is gone after the wipe.
    let shell = ". .daybook/up/environment";
    copy.run(&format!("cp .daybook/up/environment kept; {shell}"))?;
    let again = format!("{WIPE}; {UP}; echo \"kafka: $DAYBOOK_KAFKA_BROKERS\"");
    let output = copy.call(shell, &again)?;
    let is_new = copy.read(HASH_KEY)? != key;
    ensure!(is_new, "{HASH_KEY} has the same key as before the wipe");
    // The port was chosen for that stack only.
    expect_text(&output, "kafka: 127.0.0.1:9092\n")?;
    // The same holds in a later shell.
    let output = copy.call(
        ". ./kept",
        &format!("{UP}; echo \"kafka: $DAYBOOK_KAFKA_BROKERS\""),
    )?;
    expect_text(&output, "kafka: 127.0.0.1:9092\n")?;
    Ok(())
}

#[test]
fn a_setting_of_the_user_is_kept() -> Result<()> {
    let copy = SourceCopy::new()?;
    let user = "export DAYBOOK_KAFKA_BROKERS=elsewhere:1 DAYBOOK_COMMANDS_HASH_KEY_FILE=own.key";
    for shell in [user, ". .daybook/up/environment"] {
        copy.call(shell, UP)?;
        let environment = copy.read(".daybook/up/environment")?;
        for setting in [
            "DAYBOOK_KAFKA_BROKERS=elsewhere:1\n",
            "DAYBOOK_COMMANDS_HASH_KEY_FILE=own.key\n",
        ] {
            expect_text(&environment, setting)?;
        }
    }
    Ok(())
}

#[test]
fn a_wipe_keeps_the_key_and_the_schemas_of_journals_in_another_kafka() -> Result<()> {
    let copy = SourceCopy::new()?;
    copy.call("export DAYBOOK_KAFKA_BROKERS=elsewhere:1", UP)?;
    let key = copy.read(HASH_KEY)?;
    for data in ["registry/data/schemas", "postgres/db/rows"] {
        write(&copy.path(&format!(".daybook/up/{data}")))?;
    }
    // A later start with a Kafka of the stack does not remove those journals.
    copy.call("true", UP)?;
    let output = copy.call("true", WIPE)?;
    expect_text(&output, "elsewhere:1")?;
    copy.expect_key(&key)?;
    copy.read(".daybook/up/registry/data/schemas")?;
    ensure!(!copy.path(".daybook/up/postgres").exists(), "rows are kept");
    Ok(())
}

#[test]
fn an_interrupted_wipe_keeps_the_key_of_journals_in_another_kafka() -> Result<()> {
    let copy = SourceCopy::new()?;
    copy.call("export DAYBOOK_KAFKA_BROKERS=elsewhere:1", UP)?;
    let key = copy.read(HASH_KEY)?;
    copy.run("mkdir .daybook/up.kept; mv .daybook/up/secrets .daybook/up.kept; mv .daybook/up .daybook/up.dropped")?;
    copy.call("true", UP)?;
    copy.expect_key(&key)?;
    copy.call("true", WIPE)?;
    copy.expect_key(&key).context("after a wipe")
}

#[test]
fn a_wipe_removes_the_key_together_with_the_journals() -> Result<()> {
    let copy = SourceCopy::new()?;
    copy.call("true", UP)?;
    copy.call("true", WIPE)?;
    ensure!(!copy.path(".daybook/up").exists(), "the folder is kept");
    Ok(())
}

fn expect_text(found: &str, expected: &str) -> Result<()> {
    ensure!(found.contains(expected), "no {expected:?} in:\n{found}");
    Ok(())
}

fn write(path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
    Ok(fs::write(path, "")?)
}
