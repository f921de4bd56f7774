//! The entries of the list of builds.

use super::{
    State,
    version::{split, view_of},
};
use schemas::Timestamp;

/// A build in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The view's name. The list may contain views that this program does not know.
    pub view: String,
    /// The build's number.
    pub build: i32,
    /// Its state.
    pub state: State,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Time of the last change of its state.
    pub changed_at: Timestamp,
    /// Whether its tables were created. The checkpoints of a build without tables may be those of an earlier build with
    /// its number.
    pub has_tables: bool,
    /// Whether the build has ever read the journals to their ends. Before that, a serving build answers no queries.
    pub has_caught_up: bool,
}

/// The build that answers the queries of a view, which is named with or without a version. Programs before this list
/// was shared replaced a view without ending the service of its earlier version: then the newest version answers.
pub fn answering<'e>(entries: &'e [Entry], name: &str) -> Option<&'e Entry> {
    let serving = entries
        .iter()
        .filter(|one| is_same_view(&one.view, name) && one.state == State::Serving);
    serving.max_by_key(|one| split(&one.view).1)
}

/// Whether two names are those of versions of one view.
pub(super) fn is_same_view(one: &str, other: &str) -> bool {
    view_of(one) == view_of(other)
}
