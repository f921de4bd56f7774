//! The commands on parked aggregates.

use super::servers::Servers;
use anyhow::{Result, bail, ensure};
use projections::{
    admin,
    parking::{
        ParkedKey,
        decisions::{self, Decision},
        table::{self, Parked},
    },
};
use std::{process::ExitCode, time::Duration};
use tokio::time::Instant;

/// Maximum number of an aggregate's waiting commits that are shown.
const COMMITS_SHOWN_MAX: i64 = 20;
/// Longest wait for the projectors to apply the events again. They check for requests every second.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two checks of the list.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// `daybook views parked`
pub(super) async fn list(servers: &Servers, view: Option<&str>) -> Result<ExitCode> {
    if let Some(view) = view {
        admin::view(view)?;
    }
    let all = table::list(view, &servers.databases.postgres).await?;
    if all.is_empty() {
        println!("no aggregate is parked");
    }
    for parked in &all {
        print(parked);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(parked: &Parked) {
    println!("{} {}", parked.key, parked.state);
    println!("  view     {} build {}", parked.view_name, parked.build);
    println!(
        "  first    {}/{}@{}",
        parked.topic, parked.partition, parked.first_offset
    );
    println!("  error    {}", parked.error);
    println!(
        "  parked   at {}, failed attempts: {}",
        parked.parked_at(),
        parked.attempts
    );
    println!(
        "  waiting  {} commits with {} events",
        parked.commits, parked.events
    );
    if let (Some(by), Some(reason)) = (&parked.discarded_by, &parked.reason) {
        println!("  discarded by {by}: {reason}");
    }
}

/// `daybook views show`
pub(super) async fn show(servers: &Servers, view: &str, key: &str) -> Result<ExitCode> {
    let known = admin::view(view)?;
    let pool = &servers.databases.postgres;
    for parked in of_key(servers, view, key).await? {
        print(&parked);
        let parked_key = ParkedKey {
            topic: parked.topic.clone(),
            partition: parked.partition,
            key: parked.key.clone(),
        };
        let waiting =
            table::waiting(view, parked.build, &parked_key, COMMITS_SHOWN_MAX, pool).await?;
        let offsets: Vec<i64> = waiting.iter().map(|one| one.offset).collect();
        let operations = (known.operations)(&servers.databases, parked.build);
        let events = operations.events(&servers.source, &parked_key, &offsets);
        for event in events.await? {
            println!(
                "  {} version {}: {}",
                event.position, event.version, event.event
            );
        }
        let more = parked.commits - i64::try_from(waiting.len())?;
        if more > 0 {
            println!("  and {more} more commits");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `daybook views retry`
pub(super) async fn retry(
    servers: &Servers,
    view: &str,
    key: Option<&str>,
    by: Option<&str>,
    waits: bool,
) -> Result<ExitCode> {
    admin::view(view)?;
    let pool = &servers.databases.postgres;
    let requested = decisions::request_retry(view, key, by, pool).await?;
    ensure!(
        requested > 0 || key.is_none(),
        "view {view} has no parked aggregate {}: `daybook views parked {view}` lists them",
        key.unwrap_or_default()
    );
    println!("requested another attempt for {requested} aggregates");
    if !waits {
        return Ok(ExitCode::SUCCESS);
    }
    let started = Instant::now();
    loop {
        let mut left = table::list(Some(view), pool).await?;
        left.retain(|parked| key.is_none_or(|key| key == parked.key));
        left.retain(|parked| parked.state != "DISCARDED");
        if left.iter().any(|parked| parked.state == table::REQUESTED) {
            if started.elapsed() > RETRY_TIMEOUT {
                bail!(
                    "no projector has tried again: check that a projector is running, and see `daybook views list`"
                );
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
            continue;
        }
        for parked in &left {
            print(parked);
        }
        println!("{} aggregates are still parked", left.len());
        return Ok(match left.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        });
    }
}

/// `daybook views discard`
pub(super) async fn discard(
    servers: &Servers,
    view: &str,
    key: &str,
    (by, reason): (&str, &str),
) -> Result<ExitCode> {
    admin::view(view)?;
    ensure!(
        !reason.trim().is_empty(),
        "--reason: say why the events will not be applied"
    );
    of_key(servers, view, key).await?;
    let pool = &servers.databases.postgres;
    let discarded = decisions::discard(view, key, by, reason, pool).await?;
    println!("discarded the waiting events of {key} in {discarded} builds of view {view}");
    Ok(ExitCode::SUCCESS)
}

/// `daybook views decisions`
pub(super) async fn list_decisions(
    servers: &Servers,
    view: Option<&str>,
    key: Option<&str>,
    limit: u32,
) -> Result<ExitCode> {
    if let Some(view) = view {
        admin::view(view)?;
    }
    let found = decisions::decisions(view, key, limit, &servers.databases.postgres).await?;
    if found.is_empty() {
        println!("no decision is recorded");
    }
    for decision in &found {
        print_decision(decision);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_decision(decision: &Decision) {
    let by = decision
        .decided_by
        .as_deref()
        .unwrap_or("an unknown operator");
    println!("{} {}", decision.decision, decision.key);
    println!("  decided  at {} by {by}", decision.decided_at());
    if let Some(reason) = &decision.reason {
        println!("  reason   {reason}");
    }
    println!("  view     {} build {}", decision.view_name, decision.build);
    println!(
        "  waiting  {} commits with {} events, {}/{} from {} to {}",
        decision.commits,
        decision.events,
        decision.topic,
        decision.partition,
        decision.first_offset,
        decision.last_offset
    );
    println!("  error    {}", decision.error);
}

/// The entries of a parked aggregate, one for each build in which it is parked.
async fn of_key(servers: &Servers, view: &str, key: &str) -> Result<Vec<Parked>> {
    let mut found = table::list(Some(view), &servers.databases.postgres).await?;
    found.retain(|parked| parked.key == key);
    ensure!(
        !found.is_empty(),
        "view {view} has no parked aggregate {key}: `daybook views parked {view}` lists them"
    );
    Ok(found)
}
