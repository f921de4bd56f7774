//! Many simulated runs: none violates an invariant, every situation occurs, and every mutation is caught.
//! `DEV_TEST_FULL=1`: fifty times as many runs.

use journal_simulator::{
    CORRECT, CORRECT_READING, CORRECT_VIEW_WRITES, Coverage, CoveragePoint, MUTATIONS, Mutation,
    Run,
};
use std::{
    io::Write,
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Runs of the correct protocol: with owners, as many with subscribers of a shared reader, and as many with projectors
/// of a view.
const RUNS: u64 = 4_000;
const RUNS_FULL: u64 = 200_000;
/// Each mutation must be caught within this number of runs.
const RUNS_TO_CATCH_MAX: u64 = 2_000;
/// Runs that are repeated.
const RUNS_TWICE: u64 = 30;

fn runs() -> u64 {
    match std::env::var("DEV_TEST_FULL").as_deref() {
        Ok("1") => RUNS_FULL,
        _ => RUNS,
    }
}

/// Prints a line even if the test passes: the test harness captures only `println!`.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The number of threads, each with a runtime of its own.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs the seeds below `count` until `stops` says so; passes each run to it, in no particular order.
fn over_seeds(mutation: Mutation, count: u64, stops: impl Fn(Run) -> bool + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    if stops((mutation.run)(seed, false)) {
                        next.store(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[test]
fn no_run_violates_an_invariant_and_every_situation_occurs() {
    let (started, runs) = (Instant::now(), runs());
    let coverage = Mutex::new(Coverage::default());
    let violations = Mutex::new(Vec::new());
    for correct in [CORRECT, CORRECT_READING, CORRECT_VIEW_WRITES] {
        over_seeds(correct, runs, |run| {
            coverage.lock().unwrap().add(&run.coverage);
            for violation in run.violations {
                let line = format!("{}, seed {}: {violation}", correct.name, run.seed);
                violations.lock().unwrap().push(line);
            }
            false
        });
    }
    let (coverage, violations) = (
        coverage.into_inner().unwrap(),
        violations.into_inner().unwrap(),
    );
    print(&format!(
        "{runs} runs in {:?}: {coverage}",
        started.elapsed()
    ));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    let missing = CoveragePoint::ALL
        .iter()
        .filter(|point| coverage.of(**point) == 0);
    let missing: Vec<&str> = missing.map(|point| point.text()).collect();
    assert!(missing.is_empty(), "never occurred: {missing:?}");
}

#[test]
fn every_mutation_is_caught() {
    let mut missed = Vec::new();
    for mutation in MUTATIONS {
        let caught: Mutex<Option<(u64, String)>> = Mutex::new(None);
        over_seeds(*mutation, RUNS_TO_CATCH_MAX, |run| {
            let Some(violation) = run.violations.first() else {
                return false;
            };
            let mut caught = caught.lock().unwrap();
            // If several threads caught it, report the lowest seed.
            if caught.as_ref().is_none_or(|(seed, _)| run.seed < *seed) {
                *caught = Some((run.seed, violation.clone()));
            }
            true
        });
        match caught.into_inner().unwrap() {
            Some((seed, violation)) => {
                print(&format!(
                    "{}: caught by seed {seed}, run {}: {violation}",
                    mutation.name,
                    seed + 1
                ));
            }
            None => missed.push(mutation.name),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught in {RUNS_TO_CATCH_MAX} runs: {missed:?}"
    );
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for correct in [CORRECT, CORRECT_READING, CORRECT_VIEW_WRITES] {
        for seed in 0..RUNS_TWICE {
            let (first, second) = ((correct.run)(seed, true), (correct.run)(seed, true));
            assert!(!first.trace.is_empty());
            assert_eq!(first, second, "seed {seed}");
            // Tracing does not change the run.
            let untraced = (correct.run)(seed, false);
            assert_eq!(untraced.digest, first.digest, "seed {seed}");
        }
    }
}
