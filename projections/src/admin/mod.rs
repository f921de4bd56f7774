//! Operations of an operator on views and their builds.

mod builds;
mod difference;
mod operations;

pub use builds::{AdminError, BuildOperations, LogToExplain, Positions, ViewAdmin};
pub(crate) use difference::Differing;
pub use difference::{Comparison, Difference, EventOfRow, Explain, Explained};
pub use operations::{
    Described, Progress, describe, drop_build, ends, rebuild, reset, switch, undo, view,
};
