//! What goes wrong with one process, or with all, and must not go on for ever.

use super::{CHANGE_TIMEOUT, SHUTDOWN_TIMEOUT, in_office, start};
use anyhow::{Result, ensure};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use system_tests::{Client, Daybook, Look, Server, World, audit_log, until, world::free_addresses};
use tokio::time::sleep;

/// Partitions of all journals.
const PLACES: f64 = 8.0;
/// Longer than a session.
const SLEEP: Duration = Duration::from_secs(12);
/// Long enough for what a process does in error after a sleep.
const CALM: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_without_a_broker_processes_end_in_time() -> Result<()> {
    let world = World::of_journals("stop_without_broker").await?;
    let mut processes = start(&world, &free_addresses(2)?).await?;
    for (number, process) in processes.iter().enumerate() {
        create(process.client(), &format!("BEFORE-{number}")).await?;
    }
    Server::Kafka.kill(&world.environment).await?;
    // These wait for a broker when the signal comes.
    let mut waiting = Vec::new();
    for number in 0..16 {
        let client = processes[number % 2].client().clone();
        waiting.push(tokio::spawn(async move {
            create(&client, &format!("MEANWHILE-{number}")).await
        }));
    }
    sleep(Duration::from_secs(1)).await;
    let ended = processes
        .iter_mut()
        .map(|process| process.terminate(SHUTDOWN_TIMEOUT));
    for (status, time) in futures_util::future::try_join_all(ended).await? {
        println!("told to stop, it ended within {} ms", time.as_millis());
        ensure!(status.success(), "it ended with {status} after {time:?}");
    }
    for waited in waiting {
        // Refused, or cut off: there is no broker that could have taken it.
        ensure!(
            waited.await?.is_err(),
            "a command was done without a broker"
        );
    }
    Server::Kafka.start(&world.environment).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_slept_longer_than_its_session_deposes_nobody() -> Result<()> {
    let world = World::of_journals("sleeper").await?;
    let processes = start(&world, &free_addresses(2)?).await?;
    let [sleeper, other] = &processes[..] else {
        anyhow::bail!("there are not two");
    };
    for number in 0..16 {
        create(sleeper.client(), &format!("BEFORE-{number}")).await?;
    }
    sleeper.signal("STOP").await?;
    sleep(SLEEP).await;
    in_office(other, PLACES).await?;
    let before = takeovers(other).await?;
    sleeper.signal("CONT").await?;
    sleep(CALM).await;
    for (number, process) in [(0, sleeper), (1, other), (2, sleeper), (3, other)] {
        create(process.client(), &format!("AFTER-{number}")).await?;
    }
    // It was given a share again, and took that; of the other's nothing was taken in between.
    let (after, retaken) = (takeovers(other).await?, takeovers(sleeper).await?);
    println!(
        "take-overs after the sleep: {} and, in all, {retaken}",
        after - before
    );
    ensure!(
        after <= before,
        "the other one was deposed: {before}, {after}"
    );
    audit_log::verify(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_fenced_says_so_and_comes_back() -> Result<()> {
    let world = World::of_journals("fenced").await?;
    let addresses = free_addresses(2)?;
    let mut first = named(&world, addresses[0]).await?;
    first.ready().await?;
    let second = named(&world, addresses[1]).await?;
    until(
        "the first one to say that it was fenced",
        CHANGE_TIMEOUT,
        async || {
            let answer = first.client().get("/health/ready").await?;
            let is_fenced = answer.text.contains("member twin");
            Ok(Look::at(is_fenced, || answer.text))
        },
    )
    .await?;
    second.kill().await?;
    first.ready().await?;
    for number in 0..16 {
        create(first.client(), &format!("AFTER-{number}")).await?;
    }
    Ok(())
}

/// A process with the name that another one has, too.
async fn named(world: &World, listen: SocketAddr) -> Result<Daybook> {
    let mut command = world.command();
    let name = format!("commands-{}", listen.port());
    command
        .env("DAYBOOK_HTTP_LISTEN", listen.to_string())
        .env("DAYBOOK_COMMANDS_MEMBER", "twin")
        .env("DAYBOOK_COMMANDS_STATE_DIR", &name);
    let log = world.environment.folder.join(format!("{name}.log"));
    Daybook::start(command, "commands", listen, &log).await
}

async fn create(client: &Client, sku: &str) -> Result<()> {
    let body = json!({"sku": sku, "description": "a product"});
    let answer = client.post("/api/v1/products", &body, Some(sku)).await?;
    answer.expect(201).map(drop)
}

async fn takeovers(process: &Daybook) -> Result<f64> {
    let client = process.client();
    client.metric("daybook_journal_takeovers_total").await
}
