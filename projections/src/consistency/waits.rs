//! Makes the queries of all views wait for positions.

use super::stored;
use crate::{databases::Databases, registration::Registration};
use schemas::CONTEXTS;
use service::{
    consistency::{PositionLayer, View, WAIT_MS_DEFAULT},
    progress::Progress,
};
use std::time::Duration;

/// The progress and the setting that queries of all views need to wait for positions.
#[derive(Clone)]
pub struct Waits {
    /// The progress of this process's projectors.
    pub progress: Progress,
    /// Longest wait of a query.
    pub wait_max: Duration,
}

impl Default for Waits {
    /// For a process without projectors.
    fn default() -> Self {
        Self {
            progress: Progress::default(),
            wait_max: Duration::from_millis(WAIT_MS_DEFAULT),
        }
    }
}

impl Waits {
    /// The layer that makes the queries of a view wait for the positions in their requests. All of them share it.
    pub(crate) fn layer(&self, view: &Registration, databases: &Databases) -> PositionLayer {
        PositionLayer::new(View {
            reader: view.name,
            progress: self.progress.clone(),
            journals: CONTEXTS.iter().map(|context| context.topic).collect(),
            stored: stored::reader(view, databases),
            wait_max: self.wait_max,
        })
    }
}
