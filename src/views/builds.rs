//! The commands on builds.

use super::{
    progress::follow,
    servers::{Servers, candidate, serving},
};
use anyhow::Result;
use journal::Readers;
use projections::{
    admin::{self, Comparison, Described, Difference, LogToExplain, Positions, Progress},
    builds::State,
    parking::table as parked,
    views::VIEWS,
};
use schemas::topics::TOPICS;
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// Maximum number of comparisons. Both builds are still projected, so a row may differ because one build is behind.
const COMPARISONS_MAX: u32 = 3;
/// Time between two comparisons.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(2);

/// The number of parked aggregates by view and build.
type ParkedCounts = BTreeMap<(String, i32), usize>;

/// `daybook views list`
pub(super) async fn list(servers: &Servers) -> Result<ExitCode> {
    let described = admin::describe(&servers.databases, None).await?;
    let parked = parked_counts(servers).await?;
    println!(
        "{:<24} {:<9} {:>7} {:>7} {:>7}  queries",
        "view", "database", "serving", "builds", "parked"
    );
    for view in VIEWS {
        let builds: Vec<_> = described
            .iter()
            .filter(|one| one.entry.view == view.name)
            .collect();
        let serving = builds.iter().find(|one| one.entry.state == State::Serving);
        let queries = match serving {
            None => "refused: no build serves".to_owned(),
            Some(one) if one.entry.has_caught_up => "answered".to_owned(),
            Some(one) => {
                let counts = servers.source.admin.partition_counts(&TOPICS).await?;
                let ends = admin::ends(&servers.source.admin, view, &counts).await?;
                refused(one, &ends)
            }
        };
        let serving = serving.map_or_else(|| "none".to_owned(), |one| one.entry.build.to_string());
        let of_view = parked.iter().filter(|((name, _), _)| name == view.name);
        let parked: usize = of_view.map(|(_, count)| count).sum();
        println!(
            "{:<24} {:<9} {serving:>7} {:>7} {parked:>7}  {queries}",
            view.name,
            view.database,
            builds.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The reason why the queries of a serving build are refused while the build has not caught up. The build's positions
/// count only if its tables exist.
fn refused(described: &Described, ends: &Positions) -> String {
    let nothing = Positions::new();
    let positions = match described.entry.has_tables {
        true => &described.positions,
        false => &nothing,
    };
    let Progress { read, end } = Progress::new(positions, ends);
    format!("refused: still being projected, {read} of {end} offsets are read")
}

/// `daybook views describe`
pub(super) async fn describe(servers: &Servers, view: Option<&str>) -> Result<ExitCode> {
    let counts = servers.source.admin.partition_counts(&TOPICS).await?;
    let parked = parked_counts(servers).await?;
    for described in admin::describe(&servers.databases, view).await? {
        let known = admin::view(&described.entry.view)?;
        let ends = admin::ends(&servers.source.admin, known, &counts).await?;
        print(&described, &ends, &parked);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(described: &Described, ends: &Positions, parked: &ParkedCounts) {
    let entry = &described.entry;
    let progress = Progress::new(&described.positions, ends);
    println!("{} build {}", entry.view, entry.build);
    println!(
        "  state    {}, since {}",
        entry.state.as_str(),
        entry.changed_at
    );
    println!("  created  {}", entry.created_at);
    if entry.state == State::Serving {
        let queries = match entry.has_caught_up {
            true => "answered".to_owned(),
            false => refused(described, ends),
        };
        println!("  queries  {queries}");
    }
    println!("  read     {} of {} records", progress.read, progress.end);
    let count = parked.get(&(entry.view.clone(), entry.build)).copied();
    println!("  parked   {} aggregates", count.unwrap_or(0));
    for ((topic, partition), end) in ends {
        let next = described
            .positions
            .get(&(topic.clone(), *partition))
            .copied();
        let next = next.unwrap_or(0);
        let lag = (end - next).max(0);
        println!("  {topic}/{partition}@{next}, {lag} records behind the end");
    }
    println!();
}

/// `daybook views rebuild`
pub(super) async fn rebuild(servers: &Servers, view: &str, waits: bool) -> Result<ExitCode> {
    let build = admin::rebuild(&servers.databases, view).await?;
    println!("created build {build} of view {view}");
    if waits {
        follow(servers, view, build).await?;
        println!(
            "build {build} has read every record: compare it with `daybook views diff {view}`, and let it answer \
             queries with `daybook views switch {view}`"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// `daybook views diff`
pub(super) async fn diff(
    servers: &Servers,
    view: &str,
    build: Option<i32>,
    limit: usize,
) -> Result<ExitCode> {
    let builds = servers.builds_of(view).await?;
    let (serving, other) = (serving(&builds)?, candidate(&builds, build)?);
    let operations = (admin::view(view)?.operations)(&servers.databases, serving);
    let log = LogToExplain {
        readers: Readers::new(servers.source.clone()),
        source: servers.source.clone(),
        partitions: servers.source.admin.partition_counts(&TOPICS).await?,
    };
    let mut comparison = Comparison::default();
    for attempt in 1..=COMPARISONS_MAX {
        comparison = operations.compare(other, limit, &log).await?;
        if comparison.different == 0 {
            break;
        }
        if attempt < COMPARISONS_MAX {
            tokio::time::sleep(COMPARISON_INTERVAL).await;
        }
    }
    println!(
        "{} rows in build {serving}; {} rows differ in build {other}",
        comparison.rows, comparison.different
    );
    for difference in &comparison.differences {
        print_difference(difference, serving, other);
    }
    Ok(match comparison.different {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn print_difference(difference: &Difference, serving: i32, other: i32) {
    let row = |row: &Option<String>| row.clone().unwrap_or_else(|| "no row".to_owned());
    println!("\n{} {}", difference.table, difference.key);
    println!("  build {serving}: {}", row(&difference.left));
    println!("  build {other}: {}", row(&difference.right));
    match &difference.folded {
        Ok(folded) => println!("  its events give: {}", row(folded)),
        Err(reason) => println!("  its events can't be applied: {reason}"),
    }
    for event in &difference.events {
        let (position, key, version) = (&event.position, &event.key, event.version);
        println!("  {position} {key} version {version}: {}", event.event);
    }
}

/// `daybook views switch`
pub(super) async fn switch(servers: &Servers, view: &str, build: Option<i32>) -> Result<ExitCode> {
    let builds = servers.builds_of(view).await?;
    let (before, build) = (serving(&builds)?, candidate(&builds, build)?);
    admin::switch(&servers.databases, view, build).await?;
    println!(
        "build {build} of view {view} answers its queries within a second; `daybook views undo {view}` returns to \
         build {before}"
    );
    Ok(ExitCode::SUCCESS)
}

/// `daybook views undo`
pub(super) async fn undo(servers: &Servers, view: &str) -> Result<ExitCode> {
    let build = admin::undo(&servers.databases, view).await?;
    println!("build {build} of view {view} answers its queries again within a second");
    Ok(ExitCode::SUCCESS)
}

/// `daybook views drop`
pub(super) async fn drop(servers: &Servers, view: &str, build: i32) -> Result<ExitCode> {
    admin::drop_build(&servers.databases, view, build).await?;
    println!("dropped build {build} of view {view}");
    Ok(ExitCode::SUCCESS)
}

/// `daybook views reset`
pub(super) async fn reset(servers: &Servers, view: &str, build: Option<i32>) -> Result<ExitCode> {
    let builds = servers.builds_of(view).await?;
    let build = match build {
        Some(build) => build,
        None => serving(&builds)?,
    };
    let number = admin::reset(&servers.databases, view, build).await?;
    println!(
        "build {number} of view {view} replaces build {build} and is projected from the start"
    );
    Ok(ExitCode::SUCCESS)
}

async fn parked_counts(servers: &Servers) -> Result<ParkedCounts> {
    let mut counts = ParkedCounts::new();
    for parked in parked::list(None, &servers.databases.postgres).await? {
        *counts.entry((parked.view_name, parked.build)).or_default() += 1;
    }
    Ok(counts)
}
