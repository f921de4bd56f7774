//! Many simulated runs: nothing happens that never may, everything happens that can, and every owner
//! with a mistake is found out. `DEV_TEST_FULL=1`: twenty times as many.

use journal::simulator::{Happening, MISTAKES, Mistake, Run, SOUND, Tally};
use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Runs of owners without a mistake.
const RUNS: u64 = 10_000;
const RUNS_FULL: u64 = 200_000;
/// Within so many runs each mistake must show.
const RUNS_TO_CATCH_MAX: u64 = 2_000;
/// Each with a runtime of its own.
const THREADS: usize = 2;
/// Runs that are made twice.
const RUNS_TWICE: u64 = 30;

fn runs() -> u64 {
    match std::env::var("DEV_TEST_FULL").as_deref() {
        Ok("1") => RUNS_FULL,
        _ => RUNS,
    }
}

/// A line that is seen though the test passes, for of that the library keeps what is printed.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs the seeds below `count` until `stops`; gives each run to it, in no certain order.
fn over_seeds(mistake: Mistake, count: u64, stops: impl Fn(Run) -> bool + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    if stops((mistake.run)(seed, false)) {
                        next.store(count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_happens_that_never_may_and_everything_else_does() {
    let (started, runs) = (Instant::now(), runs());
    let tally = Mutex::new(Tally::default());
    let violations = Mutex::new(Vec::new());
    over_seeds(SOUND, runs, |run| {
        tally.lock().unwrap().add(&run.tally);
        for violation in run.violations {
            let line = format!("seed {}: {violation}", run.seed);
            violations.lock().unwrap().push(line);
        }
        false
    });
    let (tally, violations) = (
        tally.into_inner().unwrap(),
        violations.into_inner().unwrap(),
    );
    tell(&format!("{runs} runs in {:?}: {tally}", started.elapsed()));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    let missing = Happening::ALL
        .iter()
        .filter(|happening| tally.of(**happening) == 0);
    let missing: Vec<&str> = missing.map(|happening| happening.text()).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn every_mistake_is_found_out() {
    let mut missed = Vec::new();
    for mistake in MISTAKES {
        let caught: Mutex<Option<(u64, String)>> = Mutex::new(None);
        over_seeds(*mistake, RUNS_TO_CATCH_MAX, |run| {
            let Some(violation) = run.violations.first() else {
                return false;
            };
            let mut caught = caught.lock().unwrap();
            // Of two that came together, the lower seed is told.
            if caught.as_ref().is_none_or(|(seed, _)| run.seed < *seed) {
                *caught = Some((run.seed, violation.clone()));
            }
            true
        });
        match caught.into_inner().unwrap() {
            Some((seed, violation)) => {
                tell(&format!(
                    "{}: caught by seed {seed}, run {}: {violation}",
                    mistake.name,
                    seed + 1
                ));
            }
            None => missed.push(mistake.name),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught in {RUNS_TO_CATCH_MAX} runs: {missed:?}"
    );
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..RUNS_TWICE {
        let (first, second) = ((SOUND.run)(seed, true), (SOUND.run)(seed, true));
        assert!(!first.trace.is_empty());
        assert_eq!(first, second, "seed {seed}");
        // The trace changes nothing.
        assert_eq!((SOUND.run)(seed, false).digest, first.digest, "seed {seed}");
    }
}
