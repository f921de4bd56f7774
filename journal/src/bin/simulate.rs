//! Runs simulations: `simulate --seed N [--runs M] [--broken NAME] [--trace]`. Its last line is a
//! summary; it ends with 1 if anything happened that never may.

use clap::Parser;
use journal::simulator::{MISTAKES, Mistake, Run, SOUND, Tally};
use std::process::ExitCode;

/// Lines of a trace that are shown, unless all are asked for: the last ones.
const TRACE_LINES_MAX: usize = 200;

/// Owners and readers of a journal, over a log in memory, with faults: all from one seed.
#[derive(Parser)]
struct Arguments {
    /// The first run's seed.
    #[arg(long)]
    seed: u64,
    /// How many runs, with consecutive seeds.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Makes a mistake on purpose; any other name lists them.
    #[arg(long)]
    broken: Option<String>,
    /// Prints each run's whole trace.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(mistake) = mistake(arguments.broken.as_deref()) else {
        let names: Vec<&str> = MISTAKES.iter().map(|mistake| mistake.name).collect();
        eprintln!("the mistakes are {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    let (mut tally, mut violations) = (Tally::default(), 0);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.runs) {
        let mut run = (mistake.run)(seed, arguments.trace);
        tally.add(&run.tally);
        violations += run.violations.len();
        if !run.violations.is_empty() && !arguments.trace {
            // The same again, and this time with its trace.
            run = (mistake.run)(seed, true);
        }
        show(&run, arguments.trace);
    }
    println!(
        "{} runs from seed {}: {tally}; {violations} violations",
        arguments.runs, arguments.seed
    );
    match violations {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn mistake(name: Option<&str>) -> Option<Mistake> {
    match name {
        None => Some(SOUND),
        Some(name) => MISTAKES
            .iter()
            .find(|mistake| mistake.name == name)
            .copied(),
    }
}

fn show(run: &Run, whole: bool) {
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
