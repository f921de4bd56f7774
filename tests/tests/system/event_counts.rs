//! The events that a process counts for each build: each event that it reads also counts as applied, parked or stale.

use anyhow::{Context, Result, bail};
use projections::metrics::{EVENTS_APPLIED, EVENTS_PARKED, EVENTS_READ, EVENTS_STALE};
use std::{collections::BTreeMap, time::Duration};
use system_tests::{Node, Poll, until};

/// The counters that must agree.
const COUNTERS: [&str; 4] = [EVENTS_READ, EVENTS_APPLIED, EVENTS_PARKED, EVENTS_STALE];
/// Longest time until a batch that is being applied has been counted.
const COUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// The events of one build that a process has counted since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    pub read: u64,
    pub applied: u64,
    pub parked: u64,
    /// Read but not committed by this process; see `projections::metrics`.
    pub stale: u64,
}

/// The counts by view and build.
pub type BuildCounts = BTreeMap<(String, i32), EventCounts>;

/// Waits until each event that a process has read for a build also counts as applied, parked or stale. Returns the
/// counts.
pub async fn each_event_counts_once(process: &Node) -> Result<BuildCounts> {
    until("the counts of events", COUNT_TIMEOUT, async || {
        let counts = counts(process).await?;
        let is_unequal =
            |count: &EventCounts| count.read != count.applied + count.parked + count.stale;
        let unequal = counts.iter().find(|(_, count)| is_unequal(count));
        let unequal = unequal.map(|one| format!("{one:?}"));
        Ok(match unequal {
            None => Poll::Ready(counts),
            Some(unequal) => Poll::Pending(unequal),
        })
    })
    .await
}

async fn counts(process: &Node) -> Result<BuildCounts> {
    let metrics = process.client().get("/metrics").await?;
    let mut counts = BuildCounts::new();
    for line in metrics.expect(200)?.text.lines() {
        let Some((name, rest)) = line.split_once('{') else {
            continue;
        };
        if !COUNTERS.contains(&name) {
            continue;
        }
        let (labels, value) = rest.split_once("} ").with_context(|| line.to_owned())?;
        let build = (
            label(labels, "view")?.to_owned(),
            label(labels, "build")?.parse()?,
        );
        let count = counts.entry(build).or_default();
        let counter = match name {
            EVENTS_READ => &mut count.read,
            EVENTS_APPLIED => &mut count.applied,
            EVENTS_PARKED => &mut count.parked,
            EVENTS_STALE => &mut count.stale,
            other => bail!("{other} has no place in the counts"),
        };
        *counter += value.parse::<u64>().with_context(|| line.to_owned())?;
    }
    Ok(counts)
}

/// The value of a label, such as `orders_v3` in `view="orders_v3",build="1"`.
fn label<'l>(labels: &'l str, name: &str) -> Result<&'l str> {
    let found = labels.split_once(&format!("{name}=\""));
    let value = found.and_then(|(_, rest)| rest.split('"').next());
    value.with_context(|| format!("no label {name} in {labels}"))
}
