//! `daybook new`: writes the files of a new context, aggregate, command or view into a source tree.
//!
//! [`names`] checks the names that the caller gives, [`edit`] inserts text at anchors of existing files, and
//! [`tree`] collects all changes of a call. Nothing is written if one change is impossible.

mod aggregate;
mod avro;
mod command;
mod context;
mod edit;
mod format;
mod names;
mod registry;
mod template;
mod tree;
mod view;

use anyhow::Context as _;
use clap::Subcommand;
use names::{AggregateName, CommandName, ContextName, ViewName};
use std::process::ExitCode;
use tree::{Changes, SourceTree};

#[derive(Debug, Subcommand)]
pub enum NewCommand {
    /// Add a context with its first aggregate
    Context {
        /// Lower-case letters, such as warehouse
        name: ContextName,
        /// Its first aggregate: CamelCase letters, such as Shipment
        #[arg(long)]
        aggregate: AggregateName,
    },
    /// Add an aggregate to a context
    Aggregate {
        /// The context, such as catalog
        context: ContextName,
        /// CamelCase letters, such as PriceList
        name: AggregateName,
    },
    /// Add a command to an aggregate
    Command {
        /// The aggregate's context, such as catalog
        context: ContextName,
        /// The aggregate, such as Product
        aggregate: AggregateName,
        /// A verb phrase in CamelCase letters, such as RenameProduct
        name: CommandName,
    },
    /// Add a view of a context's events
    View {
        /// Lower-case letters and underscores, without a version, such as product_list
        name: ViewName,
        /// The context whose events it reads
        #[arg(long)]
        context: ContextName,
    },
}

/// Writes the files into the source tree of the working directory, and prints their paths.
pub fn run(command: &NewCommand) -> anyhow::Result<ExitCode> {
    let folder = std::env::current_dir().context("the working directory")?;
    let tree = SourceTree::find(&folder)?;
    let mut changes = Changes::new(&tree);
    let next_steps = match command {
        NewCommand::Context { name, aggregate } => context::add(&mut changes, name, aggregate)?,
        NewCommand::Aggregate { context, name } => aggregate::add(&mut changes, context, name)?,
        NewCommand::Command {
            context,
            aggregate,
            name,
        } => command::add(&mut changes, context, aggregate, name)?,
        NewCommand::View { name, context } => view::add(&mut changes, name, context)?,
    };
    for line in changes.write()? {
        println!("{line}");
    }
    println!("next: {next_steps}");
    Ok(ExitCode::SUCCESS)
}
