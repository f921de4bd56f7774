//! Health: each component of the process reports whether it is ready, and if not, why.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// All components of the process.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// By name, the reason why the component is not ready; `None` if it is ready.
    components: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// Reports the state of one component.
#[derive(Debug, Clone)]
pub struct Component {
    name: String,
    health: Health,
}

/// The answer of `/health/ready`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Whether every component is ready. It is false if there is no component yet.
    pub ready: bool,
    /// By name: `ready`, or the reason why the component is not ready.
    pub components: BTreeMap<String, String>,
}

impl Health {
    /// Adds a component, which is not ready at first.
    pub fn component(&self, name: impl Into<String>) -> Component {
        let component = Component {
            name: name.into(),
            health: self.clone(),
        };
        component.not_ready("starting");
        component
    }

    /// Adds a component, which takes over the state of the component of this name, if there is one.
    pub fn continued(&self, name: impl Into<String>) -> Component {
        let name = name.into();
        let is_known = {
            let components = self
                .components
                .lock()
                .expect("no holder of this lock panics");
            components.contains_key(&name)
        };
        match is_known {
            true => Component {
                name,
                health: self.clone(),
            },
            false => self.component(name),
        }
    }

    /// Removes a component that has ended, by its name.
    pub fn remove(&self, name: &str) {
        let mut components = self
            .components
            .lock()
            .expect("no holder of this lock panics");
        components.remove(name);
    }

    /// The state of every component.
    pub fn readiness(&self) -> Readiness {
        let components = self
            .components
            .lock()
            .expect("no holder of this lock panics");
        Readiness {
            // A process that has not added its components yet is not ready.
            ready: !components.is_empty() && components.values().all(Option::is_none),
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
    /// Reports that the component is ready.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Reports that the component is not ready, with the reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Logs only changes between ready and not ready, because a reason may be set many times a second.
    fn set(&self, state: Option<String>) {
        let mut components = self
            .health
            .components
            .lock()
            .expect("no holder of this lock panics");
        let before = components.insert(self.name.clone(), state.clone());
        match (before.flatten(), state) {
            (Some(_), None) => tracing::info!(component = self.name, "the component is ready"),
            (None, Some(reason)) => {
                tracing::warn!(component = self.name, reason, "the component is not ready");
            }
            (Some(before), Some(reason)) if before == "starting" && reason != before => {
                tracing::warn!(component = self.name, reason, "the component is not ready");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
}

/// Tells whether the process runs and answers.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "The process runs and answers.")))]
pub async fn live() -> &'static str {
    "alive"
}

/// Tells whether every component is ready.
#[utoipa::path(get, path = "/health/ready", tag = "operations", responses(
    (status = 200, description = "Every component is ready.", body = Readiness),
    (status = 503, description = "Some components are not ready; the body has their reasons.", body = Readiness)))]
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
    fn a_process_without_components_is_not_ready() {
        let health = Health::default();
        assert!(!health.readiness().ready);
        health.component("journal").ready();
        assert!(health.readiness().ready);
    }

    #[test]
    fn a_continued_component_keeps_its_state_and_a_removed_one_is_new() {
        let health = Health::default();
        health.continued("view").ready();
        assert!(health.readiness().ready);
        health.continued("view");
        assert!(health.readiness().ready);
        health.remove("view");
        health.continued("view");
        assert_eq!(health.readiness().components["view"], "starting");
    }

    #[test]
    fn the_process_is_ready_once_every_component_is() {
        let health = Health::default();
        let (journal, view) = (health.component("journal"), health.component("view"));
        journal.ready();
        assert!(!health.readiness().ready);
        view.ready();
        assert!(health.readiness().ready);
        journal.not_ready("kafka is unreachable");
        assert_eq!(
            health.readiness().components["journal"],
            "kafka is unreachable"
        );
    }
}
