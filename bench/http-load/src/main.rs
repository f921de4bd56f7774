//! The programs of `bench/queries`, one subcommand per kind of load. Each prints one line, a JSON object with a member
//! per figure. An unexpected answer ends the program with an error.

mod closed;
mod latencies;
mod open;
mod pairs;
mod paths;
mod sql;

use anyhow::Result;
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// The same allocator as the service's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Each connection sends its next query once it has the answer to the last one.
    Closed(closed::Arguments),
    /// Queries at a fixed rate, however slow the answers are.
    Open(open::Arguments),
    /// Pairs of a command and a query that names the command's position.
    Pairs(pairs::Arguments),
    /// The lower bound: one SQL statement on the same rows, without the service.
    Sql(sql::Arguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    let figures = match Arguments::parse().load {
        Load::Closed(arguments) => closed::run(arguments).await?,
        Load::Open(arguments) => open::run(arguments).await?,
        Load::Pairs(arguments) => pairs::run(arguments).await?,
        Load::Sql(arguments) => sql::run(arguments).await?,
    };
    println!("{figures}");
    Ok(())
}
