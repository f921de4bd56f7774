//! The servers that the commands use, and the builds of a view.

use anyhow::{Context, Result, bail};
use journal::Source;
use projections::{
    Databases,
    builds::{Entry, State, registry},
};

/// The servers that the commands use.
pub(super) struct Servers {
    pub databases: Databases,
    pub source: Source,
}

impl Servers {
    /// The builds of a view that are not dropped.
    pub async fn builds_of(&self, view: &str) -> Result<Vec<Entry>> {
        projections::admin::view(view)?;
        let mut builds = registry::all(&self.databases.postgres).await?;
        builds.retain(|entry| entry.view == view);
        if builds.is_empty() {
            bail!("view {view} has no build yet: start a projector, which creates the first one");
        }
        Ok(builds)
    }
}

/// The number of the build that answers queries.
pub(super) fn serving(builds: &[Entry]) -> Result<i32> {
    let serving = builds.iter().find(|entry| entry.state == State::Serving);
    let entry = serving.context("the view has no build that answers queries")?;
    Ok(entry.build)
}

/// The given build, or the newest one that does not serve.
pub(super) fn candidate(builds: &[Entry], wanted: Option<i32>) -> Result<i32> {
    let others = builds.iter().filter(|entry| entry.state != State::Serving);
    let newest = others.map(|entry| entry.build).max();
    wanted.or(newest).context(
        "the view has no build beside the serving one: `daybook views rebuild` creates one",
    )
}
