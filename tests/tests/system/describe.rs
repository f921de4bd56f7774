//! `daybook journal describe`: what an operator learns of a partition.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use system_tests::{World, world::free_address};

/// Exit codes of `daybook journal describe`.
const WELL: i32 = 0;
const UNREADABLE: i32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_learns_who_owns_what_and_what_is_void() -> Result<()> {
    let world = World::of_journals("describe").await?;
    let address = free_address()?;
    let mut process = world.commands_at(address).await?;
    process.ready().await?;
    let body = json!({"sku": "D-1", "description": "a product"});
    let answer = process
        .client()
        .post("/api/v1/products", &body, None)
        .await?;
    let position = answer.expect(201)?.header("daybook-position").to_owned();
    let (place, offset) = position.split_once('@').context("no offset")?;

    let all = described(&world, &[]).await?;
    let partitions = all["partitions"].as_array().context("no partitions")?;
    ensure!(partitions.len() == 8 && all["alarms"] == 0, "{all}");
    let one = described(&world, &[place]).await?["partitions"][0].take();
    ensure!(one["owner_url"] == format!("http://{address}"), "{one}");
    ensure!(one["epoch"] == 1 && one["decisions"] == 1, "{one}");
    ensure!(one["last_offset"] == offset.parse::<i64>()?, "{one}");
    ensure!(one["void"] == json!({}) && one["behind"] == 0, "{one}");
    ensure!(one["directory_lag"] == 0, "{one}");
    ensure!(one["directory"]["term"] == one["term"], "{one}");
    for hash in ["log_id", "last_hash"] {
        ensure!(
            one[hash].as_str().map(str::len) == Some(64),
            "{hash}: {one}"
        );
    }

    // Whatever anybody else writes there is void, and an operator sees how much of it there is.
    let brokers = &world.environment.kafka_brokers;
    let (topic, partition) = place.split_once('/').context("no partition")?;
    let written = world
        .python("garbage.py", &[brokers, topic, partition])
        .await?;
    let written: u64 = written.trim().parse()?;
    let one = described(&world, &[place]).await?["partitions"][0].take();
    let reasons = one["void"].as_object().context("no reasons")?;
    let void: u64 = reasons.values().filter_map(Value::as_u64).sum();
    ensure!(
        void == written && one["behind"] == written,
        "{written} void: {one}"
    );
    ensure!(one["last_offset"] == offset.parse::<i64>()?, "{one}");

    let text = world.run(&["journal", "describe", place]).await?;
    ensure!(text.code == WELL, "{}", text.stderr);
    for words in [place, "says the same", "described 1 partitions, 0 alarms"] {
        ensure!(text.stdout.contains(words), "no {words:?}: {}", text.stdout);
    }
    let unknown = world
        .run(&["journal", "describe", "journal.catalog/9"])
        .await?;
    ensure!(unknown.code == UNREADABLE, "{}", unknown.stderr);
    ensure!(
        unknown.stderr.contains("no such partition"),
        "{}",
        unknown.stderr
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_it_says_so() -> Result<()> {
    let world = World::of_journals("describe_alone").await?;
    let nobody = free_address()?.to_string();
    let mut command = world.command();
    command
        .env("DAYBOOK_KAFKA_BROKERS", &nobody)
        .args(["journal", "describe"]);
    let output = system_tests::daybook::output_of(command, std::time::Duration::from_secs(60));
    let output = output.await?;
    ensure!(output.code == UNREADABLE, "{}", output.stderr);
    ensure!(output.stderr.contains(&nobody), "{}", output.stderr);
    ensure!(output.stdout.is_empty(), "{}", output.stdout);
    Ok(())
}

async fn described(world: &World, arguments: &[&str]) -> Result<Value> {
    let mut all = vec!["journal", "describe", "--json"];
    all.extend(arguments);
    let output = world.run_well(&all).await?;
    Ok(serde_json::from_str(&output.stdout)?)
}
