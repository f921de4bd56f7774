//! Every metric of an owner is exposed, and moves when what it measures happens: over simulated runs,
//! in which everything does.

use journal::{metrics as names, simulator::SOUND};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

/// Runs that show everything.
const RUNS: u64 = 300;

/// The names and what they came to, summed over labels; a summary by its count.
fn samples(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in handle.render().lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = series.split('{').next().unwrap_or_default();
        if !line.starts_with('#') && !series.contains("quantile=") {
            *samples.entry(name.to_owned()).or_default() += value.parse::<f64>().expect(line);
        }
    }
    samples
}

#[test]
fn everything_is_counted_that_owners_do() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let mut highest: BTreeMap<String, f64> = BTreeMap::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What waits is nothing again at the end of a run, so it is looked at from beside.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (name, value) in samples(&handle) {
                    let highest = highest.entry(name).or_default();
                    *highest = highest.max(value);
                }
            }
        });
        metrics::with_local_recorder(&recorder, || {
            for seed in 0..RUNS {
                (SOUND.run)(seed, false);
            }
        });
        is_over.store(true, Ordering::Relaxed);
    });
    for (name, value) in samples(&handle) {
        highest.insert(
            name.clone(),
            value.max(highest.get(&name).copied().unwrap_or_default()),
        );
    }
    let takeover_seconds = format!("{}_count", names::TAKEOVER_SECONDS);
    let moved = [
        names::VOID_RECORDS,
        names::HALTED_PARTITIONS,
        names::APPENDS,
        names::NO_OPS,
        names::TAKEOVERS,
        takeover_seconds.as_str(),
        names::BARRIERS,
        names::DECIDED_AGAIN,
        names::DEPOSITIONS,
        names::REPLAYS,
        names::JOINED,
        names::STORE_ERRORS,
        names::EPOCH,
        names::UNANSWERED,
        names::QUEUED,
        names::UNPROVED,
        names::UNSAVED,
    ];
    for name in moved {
        let value = highest.get(name).copied();
        assert!(value > Some(0.0), "{name}: {value:?}, {highest:?}");
    }
    // Not an append is missed: every take-over appended an announcement, every no-op is one.
    assert!(highest[names::APPENDS] >= highest[names::TAKEOVERS] + highest[names::NO_OPS]);
}
