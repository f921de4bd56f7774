//! A build's name, the names of its tables, and its state.

use schemas::Timestamp;
use std::fmt;

/// The placeholder for a build's suffix in the statements that create its tables.
const PLACEHOLDER: &str = "{build}";

/// A build of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Build {
    /// The view.
    pub view: &'static str,
    /// The number of the build within its view, from 1. A number is never reused.
    pub number: i32,
}

/// A build, identified for good: after a loss of the list of builds, another build may have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildId {
    /// The build.
    pub build: Build,
    /// Time of its creation.
    pub created_at: Timestamp,
}

/// The state of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The build is projected, and has not answered queries yet.
    Building,
    /// The build answers queries. At most one build of all versions of a view does so.
    Serving,
    /// The build answered queries until another build, perhaps of another version, replaced it. It is still projected,
    /// so that it can answer them again.
    Previous,
    /// The build is no longer projected, and its tables are dropped.
    Dropped,
}

impl Build {
    /// The first build of a view.
    pub const fn first(view: &'static str) -> Self {
        Self { view, number: 1 }
    }

    /// The name of this build's table: `orders_v2` becomes `orders_v2_b3`.
    pub fn table(self, table: &str) -> String {
        format!("{table}_b{}", self.number)
    }

    /// A text with `{build}` replaced by the suffix of this build's tables.
    pub fn fill(self, text: &str) -> String {
        text.replace(PLACEHOLDER, &format!("_b{}", self.number))
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} build {}", self.view, self.number)
    }
}

impl State {
    /// Every state.
    const ALL: [Self; 4] = [Self::Building, Self::Serving, Self::Previous, Self::Dropped];

    /// The name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "BUILDING",
            Self::Serving => "SERVING",
            Self::Previous => "PREVIOUS",
            Self::Dropped => "DROPPED",
        }
    }

    /// Parses a stored name.
    pub fn stored(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_two_builds_have_different_names() {
        let build = |number| Build {
            view: "orders_v2",
            number,
        };
        assert_eq!(build(1).table("orders_v2_lines"), "orders_v2_lines_b1");
        assert_eq!(
            build(12).fill("CREATE TABLE a{build}; CREATE INDEX a{build}_by_time ON a{build}"),
            "CREATE TABLE a_b12; CREATE INDEX a_b12_by_time ON a_b12"
        );
    }

    #[test]
    fn a_state_has_one_stored_name() {
        for state in State::ALL {
            assert_eq!(State::stored(state.as_str()), Some(state));
        }
        assert_eq!(State::stored("OTHER"), None);
    }
}
