//! `daybook views`: the builds of views, and the aggregates that they can't apply.
//!
//! [`builds`] has the commands on builds, [`parked`] those on parked aggregates. They only change the lists in
//! Postgres; the running projectors read these lists every second.

mod builds;
mod parked;
mod progress;
mod servers;

use self::servers::Servers;
use crate::{config::Config, setup};
use anyhow::{Context, Result};
use clap::Subcommand;
use journal::Source;
use kafka::Admin;
use projections::Databases;
use std::process::ExitCode;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum ViewsCommand {
    /// List the versions of the views with the builds that answer their queries
    List,
    /// Describe the builds of a view: state, progress, positions and parked aggregates
    Describe {
        /// The view [default: every view]
        view: Option<String>,
    },
    /// Project a view again, into a new build beside the serving one
    ///
    /// The running projectors project it. This command shows their progress until the build has read every journal to
    /// its current end. Stopping the command does not affect the build.
    Rebuild {
        /// The view
        view: String,
        /// Return at once, without showing the progress
        #[arg(long)]
        no_wait: bool,
    },
    /// Compare a build with the serving one, row by row, and explain each difference by the events of its row
    ///
    /// Exit code 1 if the builds differ.
    Diff {
        /// The view
        view: String,
        /// The build to compare [default: the newest one that does not serve]
        #[arg(long)]
        build: Option<i32>,
        /// Maximum number of differing rows per table that are explained
        #[arg(long, default_value_t = 10)]
        limit: u16,
    },
    /// Let another build answer the queries of a view, once it has read everything that the serving build has read
    ///
    /// The build may be of another version than the serving one: `orders_v3` instead of `orders_v2`. The former build
    /// is still projected: `daybook views undo` lets it answer the queries again.
    Switch {
        /// The view, in the version that will answer
        view: String,
        /// The build [default: the newest one that does not serve]
        #[arg(long)]
        build: Option<i32>,
    },
    /// Switch back to the build that answered the queries of a view before the last switch, perhaps one of another
    /// version
    Undo {
        /// The view, in the version that answers now, or without a version
        view: String,
    },
    /// Stop projecting a build that does not serve, or all builds of a version that does not answer, and drop the
    /// tables
    ///
    /// This program need not have the version, unless a build is given.
    Drop {
        /// The view
        view: String,
        /// The build [default: every build of the version]
        #[arg(long)]
        build: Option<i32>,
    },
    /// Replace a build with an empty one in the same state, which is projected from the start
    ///
    /// While a new serving build is projected, its queries are refused; `daybook views rebuild` and `switch` avoid
    /// this.
    Reset {
        /// The view
        view: String,
        /// The build [default: the serving one]
        #[arg(long)]
        build: Option<i32>,
    },
    /// List the aggregates that views can't apply
    Parked {
        /// The view [default: every view]
        view: Option<String>,
    },
    /// Show the waiting events of a parked aggregate
    Show {
        /// The view
        view: String,
        /// The aggregate, as `daybook views parked` shows it
        key: String,
    },
    /// Apply the waiting events of parked aggregates again
    Retry {
        /// The view
        view: String,
        /// The aggregate [default: every aggregate that is not discarded]
        key: Option<String>,
        /// The person who decided to retry, for `daybook views decisions` [default: the value of USER]
        #[arg(long)]
        by: Option<String>,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
    },
    /// Record that the waiting events of a parked aggregate will not be applied
    ///
    /// The waiting events stay recorded, and later events of the aggregate are added to them. `daybook views retry`
    /// with the aggregate's key still applies them.
    Discard {
        /// The view
        view: String,
        /// The aggregate, as `daybook views parked` shows it
        key: String,
        /// The reason why the events will not be applied
        #[arg(long)]
        reason: String,
        /// The person who decided to discard the events [default: the value of USER]
        #[arg(long)]
        by: Option<String>,
    },
    /// List the decisions of operators about parked aggregates, the newest first
    ///
    /// A decision stays in the list after its aggregate was applied, and after its build was dropped or reset.
    Decisions {
        /// The view [default: every view]
        view: Option<String>,
        /// The aggregate [default: every aggregate]
        key: Option<String>,
        /// Maximum number of decisions that are listed
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

/// Runs a command.
pub async fn run(command: ViewsCommand, config: &Config) -> Result<ExitCode> {
    let servers = Servers {
        databases: Databases::connect_lazily(&config.postgres, &config.cql)?,
        source: Source {
            kafka: config.kafka.clone(),
            admin: Admin::new(&config.kafka)?,
            registry: setup::tool_registry(config)?,
        },
    };
    match command {
        ViewsCommand::List => builds::list(&servers).await,
        ViewsCommand::Describe { view } => builds::describe(&servers, view.as_deref()).await,
        ViewsCommand::Rebuild { view, no_wait } => builds::rebuild(&servers, &view, !no_wait).await,
        ViewsCommand::Diff { view, build, limit } => {
            builds::diff(&servers, &view, build, limit.into()).await
        }
        ViewsCommand::Switch { view, build } => builds::switch(&servers, &view, build).await,
        ViewsCommand::Undo { view } => builds::undo(&servers, &view).await,
        ViewsCommand::Drop { view, build } => builds::drop(&servers, &view, build).await,
        ViewsCommand::Reset { view, build } => builds::reset(&servers, &view, build).await,
        ViewsCommand::Parked { view } => parked::list(&servers, view.as_deref()).await,
        ViewsCommand::Show { view, key } => parked::show(&servers, &view, &key).await,
        ViewsCommand::Retry {
            view,
            key,
            by,
            no_wait,
        } => {
            let by = by.or_else(user);
            parked::retry(&servers, &view, key.as_deref(), by.as_deref(), !no_wait).await
        }
        ViewsCommand::Discard {
            view,
            key,
            reason,
            by,
        } => {
            let by = by
                .or_else(user)
                .context("--by: say who decided it, because USER is not set")?;
            parked::discard(&servers, &view, &key, (&by, &reason)).await
        }
        ViewsCommand::Decisions { view, key, limit } => {
            parked::list_decisions(&servers, view.as_deref(), key.as_deref(), limit).await
        }
    }
}

/// The name of the person who runs this program, if it is set.
fn user() -> Option<String> {
    std::env::var("USER").ok()
}
