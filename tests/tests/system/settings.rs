//! Invalid settings and incompatible schemas: the node ends with an error that names them.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{net::TcpListener, time::Duration};
use system_tests::{Deployment, Output, expect_eq, node::output_of};
use tokio::process::Command;

/// Longest time until the node ends; the slowest case needs all servers.
const END_TIMEOUT: Duration = Duration::from_secs(60);
const SUBJECT: &str = "journal.orders-value";
/// A schema that can't read our records.
const OTHER_SCHEMA: &str = r#"{"type":"record","name":"Commit","namespace":"daybook.orders","fields":[{"name":"prev","type":"long"}]}"#;

pub async fn a_taken_port_ends_the_node_with_the_address(deployment: &Deployment) -> Result<()> {
    let _taken = TcpListener::bind(deployment.listen())?;
    let error = error_at_start(serve(deployment)).await?;
    let address = deployment.listen().to_string();
    ensure!(error.contains(&address), "no {address} in: {error}");
    Ok(())
}

pub async fn a_wrong_setting_ends_the_node_with_its_name(deployment: &Deployment) -> Result<()> {
    let everywhere = format!("0.0.0.0:{}", deployment.listen().port());
    let missing = deployment.folder.join("no.key").display().to_string();
    let short = deployment.folder.join("short.key");
    std::fs::write(&short, "0123")?;
    let short = short.display().to_string();
    let key_file = "DAYBOOK_COMMANDS_HASH_KEY_FILE";
    for (name, value, part) in [
        ("DAYBOOK_HTTP_LISTEN", everywhere.as_str(), "loopback"),
        ("DAYBOOK_HTTP_LISTEN", "here", "listen"),
        ("DAYBOOK_HTTP_LISTEN", "127.0.0.1:0", "http.listen"),
        ("DAYBOOK_HTTP_LISTN", "127.0.0.1:1", "listn"),
        ("DAYBOOK_HTP_LISTEN", "127.0.0.1:1", "htp"),
        ("DAYBOOK_HTTP_HOSTS", "http://shop.example", "http.hosts"),
        (
            "DAYBOOK_HTTP_WAITING_BYTES_MAX",
            "1000",
            "http.waiting_bytes_max",
        ),
        (key_file, &missing, "hash_key_file"),
        (key_file, &short, "64 hexadecimal digits"),
        ("DAYBOOK_POSTGRES_URL", "127.0.0.1", "postgres.url"),
        ("DAYBOOK_CQL_KEYSPACE", "Day Book", "cql.keyspace"),
        (
            "DAYBOOK_KAFKA_REPLICATION_FACTOR",
            "0",
            "kafka.replication_factor",
        ),
        ("DAYBOOK_LOG_FORMAT", "xml", "log"),
    ] {
        let mut command = serve(deployment);
        command.env(name, value);
        let error = error_at_start(command).await;
        let error = error.with_context(|| format!("{name}={value}"))?;
        ensure!(
            error.contains(part),
            "{name}={value}: no {part:?} in: {error}"
        );
    }
    Ok(())
}

pub async fn a_missing_hash_key_ends_the_node_with_the_name_of_the_setting(
    deployment: &Deployment,
) -> Result<()> {
    let mut command = serve(deployment);
    command.env_remove("DAYBOOK_COMMANDS_HASH_KEY_FILE");
    let error = error_at_start(command).await?;
    let part = "commands.hash_key_file";
    ensure!(error.contains(part), "no {part:?} in: {error}");
    Ok(())
}

pub async fn a_state_directory_with_foreign_files_ends_the_node_and_is_not_changed(
    deployment: &Deployment,
) -> Result<()> {
    let state = deployment.folder.join("state");
    let own = state.join("daybook-store");
    std::fs::create_dir_all(&own)?;
    let letters = [state.join("letter.txt"), own.join("letter.txt")];
    for letter in &letters {
        std::fs::write(letter, "dear")?;
    }
    for role in ["serve", "commands"] {
        let mut command = deployment.command();
        command.arg(role).env("DAYBOOK_COMMANDS_STATE_DIR", &state);
        let error = error_at_start(command).await?;
        let name = own.display().to_string().to_lowercase();
        for part in [
            &name,
            "is neither empty nor a state store",
            "commands.state_dir",
        ] {
            ensure!(error.contains(part), "no {part:?} in: {error}");
        }
    }
    for letter in &letters {
        let text = std::fs::read_to_string(letter);
        ensure!(
            matches!(text.as_deref(), Ok("dear")),
            "{letter:?} has {text:?} instead of \"dear\""
        );
    }
    for (directory, count) in [(&state, 2), (&own, 1)] {
        let found = std::fs::read_dir(directory)?.count();
        expect_eq(&format!("entries in {directory:?}"), &found, &count)?;
    }
    Ok(())
}

pub async fn an_incompatible_schema_ends_the_node_with_the_difference(
    deployment: &Deployment,
) -> Result<()> {
    let subject = deployment.topic(SUBJECT);
    register(deployment, &subject, OTHER_SCHEMA).await?;
    let error = error_at_start(serve(deployment)).await?;
    for part in [SUBJECT, "backward_transitive", "prev"] {
        ensure!(error.contains(part), "no {part:?} in: {error}");
    }
    Ok(())
}

fn serve(deployment: &Deployment) -> Command {
    let mut command = deployment.command();
    command.arg("serve");
    command
}

/// Runs a node that must end by itself with an error; returns that, in lower case.
async fn error_at_start(command: Command) -> Result<String> {
    let Output { code, stderr, .. } = output_of(command, END_TIMEOUT).await?;
    ensure!(code == 1, "exit code {code} instead of 1: {stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    ensure!(
        last.starts_with("error: "),
        "the last line is not an error: {stderr}"
    );
    Ok(last.to_lowercase())
}

async fn register(deployment: &Deployment, subject: &str, schema: &str) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let registry = &deployment.environment.registry_url;
    let url = format!("{registry}/subjects/{subject}/versions");
    let request = http.post(url).json(&json!({"schema": schema}));
    let answer = request.send().await?;
    let status = answer.status();
    ensure!(
        status.is_success(),
        "{status} instead of a success: {}",
        answer.text().await?
    );
    Ok(())
}
