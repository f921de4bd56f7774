//! The servers that the commands use, and the builds of a view.

use anyhow::{Context, Result, bail};
use journal::Source;
use projections::{
    Databases,
    builds::{self, Entry, State, registry, version::view_of},
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

    /// The build that answers the queries of a view, of any version.
    pub async fn answering(&self, view: &str) -> Result<Entry> {
        let builds = registry::all(&self.databases.postgres).await?;
        let answering = builds::answering(&builds, view);
        let view = view_of(view);
        let answering = answering
            .with_context(|| format!("the view {view} has no build that answers queries"))?;
        Ok(answering.clone())
    }
}

/// The number of the build that answers queries.
pub(super) fn serving(builds: &[Entry]) -> Result<i32> {
    let serving = builds.iter().find(|entry| entry.state == State::Serving);
    let entry = serving.context("this version has no build that answers queries")?;
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
