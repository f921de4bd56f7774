//! Runs simulations: `simulate --seed N [--runs M] [--reading | --view-writes] [--mutation NAME] [--trace]`. The last
//! line is a summary; the exit code is 1 if a run violated an invariant.

use clap::Parser;
use journal_simulator::{
    CORRECT, CORRECT_READING, CORRECT_VIEW_WRITES, Coverage, MUTATIONS, Mutation, Run,
};
use std::process::ExitCode;

/// Maximum number of lines from the end of a trace that are shown without `--trace`.
const TRACE_LINES_MAX: usize = 200;

/// Owners and readers of a journal over a simulated log, with faults, all from one seed.
#[derive(Parser)]
struct Arguments {
    /// The first run's seed.
    #[arg(long)]
    seed: u64,
    /// Number of runs, with consecutive seeds.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Runs subscribers of a shared reader instead of owners.
    #[arg(long, conflicts_with = "mutation")]
    reading: bool,
    /// Runs projectors of a view in the CQL store instead of owners.
    #[arg(long, conflicts_with_all = ["mutation", "reading"])]
    view_writes: bool,
    /// Runs this mutation of the protocol; an unknown name lists them.
    #[arg(long)]
    mutation: Option<String>,
    /// Prints each run's whole trace.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(mutation) = mutation(&arguments) else {
        let names: Vec<&str> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
        eprintln!("the mutations are {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    let (mut coverage, mut violations) = (Coverage::default(), 0);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.runs) {
        let mut run = (mutation.run)(seed, arguments.trace);
        coverage.add(&run.coverage);
        violations += run.violations.len();
        if !run.violations.is_empty() && !arguments.trace {
            // Repeats the run with a trace.
            run = (mutation.run)(seed, true);
        }
        print_run(&run, arguments.trace);
    }
    println!(
        "{} runs from seed {}: {coverage}; {violations} violations",
        arguments.runs, arguments.seed
    );
    match violations {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn mutation(arguments: &Arguments) -> Option<Mutation> {
    match &arguments.mutation {
        None if arguments.reading => Some(CORRECT_READING),
        None if arguments.view_writes => Some(CORRECT_VIEW_WRITES),
        None => Some(CORRECT),
        Some(name) => MUTATIONS
            .iter()
            .find(|mutation| mutation.name == name)
            .copied(),
    }
}

fn print_run(run: &Run, whole: bool) {
    let from = match whole {
        true => 0,
        false => run.trace.len().saturating_sub(TRACE_LINES_MAX),
    };
    if from > 0 {
        println!("... {from} lines before; --trace shows them");
    }
    for line in &run.trace[from..] {
        println!("{line}");
    }
    for violation in &run.violations {
        println!("seed {}: {violation}", run.seed);
    }
}
