//! The commands on builds.

use super::{
    progress::follow,
    servers::{Servers, candidate, serving},
};
use anyhow::{Context, Result};
use journal::Readers;
use projections::{
    admin::{self, Comparison, Described, Difference, LogToExplain, Positions, Progress},
    builds::{self, Build, Entry, State},
    parking::table as parked,
    versions::Versions,
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
    let entries: Vec<Entry> = described.iter().map(|one| one.entry.clone()).collect();
    let parked = parked_counts(servers).await?;
    println!(
        "{:<24} {:<9} {:>7} {:>7} {:>7}  queries",
        "view", "database", "serving", "builds", "parked"
    );
    for name in listed(&entries) {
        let builds: Vec<_> = described
            .iter()
            .filter(|one| one.entry.view == name)
            .collect();
        let answering = builds::answering(&entries, name);
        let answers = |one: &Described| Some(&one.entry) == answering;
        let known = admin::view(name);
        let queries = match (answering, builds.iter().find(|one| answers(one)), &known) {
            (None, _, _) => "refused: no build serves".to_owned(),
            (Some(other), None, _) => format!("answered by {}", other.view),
            (Some(_), Some(_), Err(_)) => "refused by nodes of this release".to_owned(),
            (Some(_), Some(one), _) if one.entry.has_caught_up => "answered".to_owned(),
            (Some(_), Some(one), Ok(view)) => {
                let counts = servers.source.admin.partition_counts(&TOPICS).await?;
                let ends = admin::ends(&servers.source.admin, view, &counts).await?;
                refused(one, &ends)
            }
        };
        let serving = builds.iter().find(|one| answers(one));
        let serving = serving.map_or_else(|| "none".to_owned(), |one| one.entry.build.to_string());
        let database = known.map_or("not here", |view| view.database);
        let of_view = parked.iter().filter(|((view, _), _)| view == name);
        let parked: usize = of_view.map(|(_, count)| count).sum();
        println!(
            "{name:<24} {database:<9} {serving:>7} {:>7} {parked:>7}  {queries}",
            builds.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The names in the list: the newest version of each view in this program, then its earlier versions with builds, and
/// at the end the versions with builds that this program does not have.
fn listed(entries: &[Entry]) -> Vec<&str> {
    let has_builds = |name: &str| entries.iter().any(|entry| entry.view == name);
    let mut names = Vec::new();
    for view in Versions::of_all(VIEWS) {
        let newest = view.newest().name;
        let versions = view.all().iter().rev().map(|version| version.name);
        names.extend(versions.filter(|name| *name == newest || has_builds(name)));
    }
    for entry in entries {
        if !names.contains(&entry.view.as_str()) {
            names.push(&entry.view);
        }
    }
    names
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
        let Ok(known) = admin::view(&described.entry.view) else {
            print_other_version(&described.entry);
            continue;
        };
        let ends = admin::ends(&servers.source.admin, known, &counts).await?;
        print(&described, &ends, &parked);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a build of a version that this program does not have.
fn print_other_version(entry: &Entry) {
    print_state(entry);
    println!(
        "  this program does not have the version; `daybook views drop {}` drops all of its builds\n",
        entry.view
    );
}

fn print_state(entry: &Entry) {
    println!("{} build {}", entry.view, entry.build);
    println!(
        "  state    {}, since {}",
        entry.state.as_str(),
        entry.changed_at
    );
    println!("  created  {}", entry.created_at);
}

fn print(described: &Described, ends: &Positions, parked: &ParkedCounts) {
    let entry = &described.entry;
    let progress = Progress::new(&described.positions, ends);
    print_state(entry);
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
    let serving = serving(&builds)
        .context("builds of different versions can't be compared, because their rows differ")?;
    let other = candidate(&builds, build)?;
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
    let before = servers.answering(view).await?;
    let build = candidate(&servers.builds_of(view).await?, build)?;
    admin::switch(&servers.databases, view, build).await?;
    let former = match before.view == view {
        true => format!("build {}", before.build),
        false => format!("build {} of view {}", before.build, before.view),
    };
    println!(
        "build {build} of view {view} answers its queries within a second; `daybook views undo {view}` returns to \
         {former}"
    );
    Ok(ExitCode::SUCCESS)
}

/// `daybook views undo`
pub(super) async fn undo(servers: &Servers, view: &str) -> Result<ExitCode> {
    let Build { view, number } = admin::undo(&servers.databases, view).await?;
    println!("build {number} of view {view} answers its queries again within a second");
    Ok(ExitCode::SUCCESS)
}

/// `daybook views drop`
pub(super) async fn drop(servers: &Servers, view: &str, build: Option<i32>) -> Result<ExitCode> {
    match build {
        Some(build) => {
            admin::drop_build(&servers.databases, view, build).await?;
            println!("dropped build {build} of view {view}");
        }
        None => {
            admin::drop_version(&servers.databases, view).await?;
            println!("dropped every build of view {view}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `daybook views reset`
pub(super) async fn reset(servers: &Servers, view: &str, build: Option<i32>) -> Result<ExitCode> {
    let builds = servers.builds_of(view).await?;
    let build = match build {
        Some(build) => build,
        None => serving(&builds).context("--build: name the build to replace")?,
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
