//! What no waiting mends: the service ends and says what is wrong.

use anyhow::{Result, ensure};
use serde_json::json;
use std::{net::TcpListener, time::Duration};
use system_tests::{Output, World, daybook::output_of};
use tokio::process::Command;

/// Longest time to find out that a setting is wrong; the slowest needs all servers.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(30);
const SUBJECT: &str = "journal.orders-value";
/// What no record of ours can be read with.
const OTHER_SCHEMA: &str = r#"{"type":"record","name":"Commit","namespace":"daybook.orders","fields":[{"name":"prev","type":"long"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_end_the_service_and_are_named() -> Result<()> {
    let world = World::wiped("bad_settings").await?;
    let taken = TcpListener::bind(world.listen())?;
    let said = refusal(serve(&world)).await?;
    ensure!(
        said.contains(&world.listen().to_string()),
        "a taken port: {said}"
    );
    drop(taken);

    let everywhere = format!("0.0.0.0:{}", world.listen().port());
    let key_file = world.folder.join("hash.key");
    std::fs::write(world.folder.join("short.key"), "0123")?;
    let short = world.folder.join("short.key");
    let (hash_key_file, short) = (key_file.with_extension("none"), short.display().to_string());
    let cases: [(&str, &str, &str); 10] = [
        ("DAYBOOK_HTTP_LISTEN", &everywhere, "loopback"),
        ("DAYBOOK_HTTP_LISTEN", "here", "listen"),
        ("DAYBOOK_HTTP_LISTN", "127.0.0.1:1", "listn"),
        ("DAYBOOK_HTP_LISTEN", "127.0.0.1:1", "htp"),
        (
            "DAYBOOK_COMMANDS_HASH_KEY_FILE",
            &hash_key_file.display().to_string(),
            "hash_key_file",
        ),
        (
            "DAYBOOK_COMMANDS_HASH_KEY_FILE",
            &short,
            "64 hexadecimal digits",
        ),
        ("DAYBOOK_POSTGRES_URL", "127.0.0.1", "postgres.url"),
        ("DAYBOOK_CQL_KEYSPACE", "Day Book", "cql.keyspace"),
        (
            "DAYBOOK_KAFKA_REPLICATION_FACTOR",
            "0",
            "kafka.replication_factor",
        ),
        ("DAYBOOK_LOG_FORMAT", "xml", "log"),
    ];
    for (name, value, part) in cases {
        let mut command = serve(&world);
        command.env(name, value);
        let said = refusal(command).await?;
        ensure!(
            said.contains(part),
            "{name}={value}: it does not say {part:?}: {said}"
        );
    }
    let mut command = serve(&world);
    command.env_remove("DAYBOOK_COMMANDS_HASH_KEY_FILE");
    let said = refusal(command).await?;
    ensure!(
        said.contains("commands.hash_key_file"),
        "no hash key: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incompatible_schema_ends_the_service_and_the_difference_is_named() -> Result<()> {
    let world = World::wiped("bad_schema").await?;
    register(&world, OTHER_SCHEMA).await?;
    let said = refusal(serve(&world)).await;
    // Before anything else, or no later scenario could start.
    world.forget_subject(SUBJECT).await?;
    let said = said?;
    for part in [SUBJECT, "backward_transitive", "prev"] {
        ensure!(said.contains(part), "it does not say {part:?}: {said}");
    }
    world.serve().await?.kill().await
}

fn serve(world: &World) -> Command {
    let mut command = world.command();
    command.arg("serve");
    command
}

/// Runs the service, which must end by itself and not well; gives the last thing that it says,
/// in lower case.
async fn refusal(command: Command) -> Result<String> {
    let Output { code, stderr, .. } = output_of(command, REFUSAL_TIMEOUT).await?;
    ensure!(code == 1, "it ended with {code}: {stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    ensure!(
        last.starts_with("error: "),
        "it does not end with an error: {stderr}"
    );
    Ok(last.to_lowercase())
}

async fn register(world: &World, schema: &str) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!(
        "{}/subjects/{SUBJECT}/versions",
        world.environment.registry_url
    );
    let answer = http
        .post(url)
        .json(&json!({"schema": schema}))
        .send()
        .await?;
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await?);
    Ok(())
}
