//! The command line of the binary.

use crate::{
    describe, new::NewCommand, reconcile, setup::restore::RestoreArgs, views::ViewsCommand,
};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Event-sourced commerce on plain Kafka topics
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// TOML file with settings; environment variables (DAYBOOK_<SECTION>_<FIELD>) override it
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node with every role
    Serve,
    /// Run a node with the write side only: it accepts commands and owns a share of the journals' partitions
    Commands,
    /// Run a process that projects a share of the views' partitions, in parallel with other processes
    Projector,
    /// Manage Kafka topics
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Inspect the journals
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Manage Avro schemas in the registry
    #[command(subcommand)]
    Schemas(SchemasCommand),
    /// Import data through the HTTP API
    #[command(subcommand)]
    Import(ImportCommand),
    /// Audit the journals independently of the services
    Audit(audit::Args),
    Reconcile(reconcile::Args),
    /// Manage the builds of views, and the aggregates that they can't apply
    #[command(subcommand)]
    Views(ViewsCommand),
    /// Write the files of a new context, aggregate, command or view into the source tree
    #[command(subcommand)]
    New(NewCommand),
}

#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Create missing topics and check existing ones
    Create,
}

#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    Describe(describe::Args),
}

#[derive(Debug, Subcommand)]
pub enum SchemasCommand {
    /// Register every schema with the compatibility BACKWARD_TRANSITIVE
    Register,
    Restore(RestoreArgs),
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    OnlineRetail(import::Args),
}
