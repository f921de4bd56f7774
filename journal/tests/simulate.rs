//! The program that replays a seed: what it ends with, and its last line.

use std::process::{Command, Output};

/// Runs in which every mistake that is used here shows.
const RUNS: &str = "200";

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(arguments)
        .output()
        .expect("the program is built beside its tests")
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn sound_runs_end_with_0_and_are_counted() {
    let output = simulate(&["--seed", "7", "--runs", "20"]);
    let last = last_line(&output);
    assert_eq!(output.status.code(), Some(0), "{last}");
    assert!(last.starts_with("20 runs from seed 7: "), "{last}");
    assert!(last.ends_with("; 0 violations"), "{last}");
}

#[test]
fn a_violation_ends_with_1_and_its_seed_shows_it_again() {
    let broken = ["--broken", "answers-on-bare-delivery"];
    let output = simulate(&[&["--seed", "0", "--runs", RUNS], &broken[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", last_line(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().find_map(|line| line.strip_prefix("seed "));
    let (seed, violation) = told.unwrap().split_once(": ").unwrap();
    let again = simulate(&[&["--seed", seed], &broken[..]].concat());
    assert_eq!(again.status.code(), Some(1));
    let again = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.contains(violation), "{violation}: {again}");
}

#[test]
fn an_unknown_mistake_is_refused_with_those_that_are_known() {
    let output = simulate(&["--seed", "0", "--broken", "nothing"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("answers-on-bare-delivery"), "{text}");
}
