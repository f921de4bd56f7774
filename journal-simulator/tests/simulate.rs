//! The program that replays a seed: its exit code and its last line.

use std::process::{Command, Output};

/// Enough runs to catch the mutation that is used here.
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
fn runs_without_a_violation_exit_with_0() {
    let output = simulate(&["--seed", "7", "--runs", "20"]);
    let last = last_line(&output);
    assert_eq!(output.status.code(), Some(0), "{last}");
    assert!(
        last.starts_with("20 runs from seed 7: "),
        "no \"20 runs from seed 7: \" at the start of: {last}"
    );
    assert!(
        last.ends_with("; 0 violations"),
        "no \"; 0 violations\" at the end of: {last}"
    );
}

#[test]
fn a_violation_exits_with_1_and_its_seed_repeats_it() {
    let mutation = ["--mutation", "answers-on-bare-delivery"];
    let output = simulate(&[&["--seed", "0", "--runs", RUNS], &mutation[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", last_line(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let reported = text.lines().find_map(|line| line.strip_prefix("seed "));
    let (seed, violation) = reported.unwrap().split_once(": ").unwrap();
    let again = simulate(&[&["--seed", seed], &mutation[..]].concat());
    assert_eq!(again.status.code(), Some(1));
    let again = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.contains(violation), "no {violation:?} in: {again}");
}

#[test]
fn an_unknown_mutation_is_refused_with_the_known_ones() {
    let output = simulate(&["--seed", "0", "--mutation", "nothing"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("answers-on-bare-delivery"),
        "no \"answers-on-bare-delivery\" in: {text}"
    );
}
