//! Every metric of an owner and of a reader is exposed, and counts when its event occurs. The simulated runs of this
//! test have every such event.

use journal::metrics as names;
use journal_simulator::{CORRECT, CORRECT_READING};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

/// Enough runs for every event.
const RUNS: u64 = 300;

/// The value of each metric by name, summed over labels; of a summary, its count.
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
fn every_metric_of_owners_and_readers_counts() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let mut highest: BTreeMap<String, f64> = BTreeMap::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Gauges of waiting commands are 0 again at the end of a run, so sample them meanwhile.
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
                (CORRECT.run)(seed, false);
                (CORRECT_READING.run)(seed, false);
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
        names::SHARED_SUBSCRIBERS,
        names::FALL_BACKS,
        names::APPENDS,
        names::NO_OPS,
        names::TAKEOVERS,
        takeover_seconds.as_str(),
        names::BARRIERS,
        names::DECIDED_AGAIN,
        names::FENCED,
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
        assert!(
            value > Some(0.0),
            "{name}: {value:?} instead of above 0, {highest:?}"
        );
    }
    // Every take-over appended an announcement, and every no-op is an append.
    let (appends, least) = (
        highest[names::APPENDS],
        highest[names::TAKEOVERS] + highest[names::NO_OPS],
    );
    assert!(
        appends >= least,
        "{appends} appends instead of at least {least}"
    );
}
