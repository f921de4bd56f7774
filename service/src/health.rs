//! Health: each part of the process says whether it can do its work, and why not.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// All components of the process.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// By name: `None` is ready, else the reason why not.
    components: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// One part's own switch.
#[derive(Debug, Clone)]
pub struct Component {
    name: String,
    health: Health,
}

/// The answer of `/health/ready`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Whether every component is ready.
    pub ready: bool,
    /// By name: `ready`, or the reason why not.
    pub components: BTreeMap<String, String>,
}

impl Health {
    /// Adds a component; it begins not ready.
    pub fn component(&self, name: impl Into<String>) -> Component {
        let component = Component {
            name: name.into(),
            health: self.clone(),
        };
        component.not_ready("starting");
        component
    }

    /// How every component is.
    pub fn readiness(&self) -> Readiness {
        let components = self
            .components
            .lock()
            .expect("no holder of this lock panics");
        Readiness {
            ready: components.values().all(Option::is_none),
            components: components
                .iter()
                .map(|(name, reason)| {
                    (
                        name.clone(),
                        reason.clone().unwrap_or_else(|| "ready".to_owned()),
                    )
                })
                .collect(),
        }
    }
}

impl Component {
    /// It can do its work.
    pub fn ready(&self) {
        self.set(None);
    }

    /// It can't, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Logs only changes between ready and not ready, for a reason may be set many times a second.
    fn set(&self, state: Option<String>) {
        let mut components = self
            .health
            .components
            .lock()
            .expect("no holder of this lock panics");
        let before = components.insert(self.name.clone(), state.clone());
        match (before.flatten(), state) {
            (Some(_), None) => tracing::info!(component = self.name, "ready"),
            (None, Some(reason)) => {
                tracing::warn!(component = self.name, reason, "not ready");
            }
            (Some(before), Some(reason)) if before == "starting" && reason != before => {
                tracing::warn!(component = self.name, reason, "not ready");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

/// `/health/live`: the process runs and answers.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "The process runs.")))]
pub async fn live() -> &'static str {
    "alive"
}

/// `/health/ready`: every component can do its work.
#[utoipa::path(get, path = "/health/ready", tag = "operations", responses(
    (status = 200, description = "Every component is ready.", body = Readiness),
    (status = 503, description = "Some are not; each says why.", body = Readiness)))]
pub async fn ready(State(health): State<Health>) -> (StatusCode, Json<Readiness>) {
    let readiness = health.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_once_every_component_is() {
        let health = Health::default();
        let (journal, view) = (health.component("journal"), health.component("view"));
        journal.ready();
        assert!(!health.readiness().ready);
        view.ready();
        assert!(health.readiness().ready);
        journal.not_ready("kafka is away");
        assert_eq!(health.readiness().components["journal"], "kafka is away");
    }
}
