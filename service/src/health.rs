//! Health: each component of the process reports whether it is ready, and if not, why.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Shortest time between two log messages about a component that stays not ready. A reason may be set many times a
/// second.
const REASON_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The reason of a component that has not reported anything.
const STARTING: &str = "starting";

/// All components of the process.
#[derive(Debug, Clone, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<String, ComponentState>>>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
}

/// The state of one component.
#[derive(Debug, Default)]
struct ComponentState {
    /// The reason why the component is not ready; `None` if it is ready.
    reason: Option<String>,
    /// The last reason in the log, and when it was logged.
    logged: Option<(String, Instant)>,
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
    /// Whether every component is ready. It is false until the process has added a component.
    #[schema(example = true)]
    pub ready: bool,
    /// By name: `ready`, or the reason why the component is not ready.
    #[schema(example = json!({"topics and schemas": "ready"}))]
    pub components: BTreeMap<String, String>,
    /// By name: states of the process that clients notice, although it is ready, such as a view that is projected from
    /// the start.
    #[schema(example = json!({"rebuild.orders_v2": "the view is still being projected: 3 of 7 offsets are read"}))]
    pub notes: BTreeMap<String, String>,
}

impl Health {
    /// Adds a component, which is not ready at first.
    pub fn component(&self, name: impl Into<String>) -> Component {
        let component = Component {
            name: name.into(),
            health: self.clone(),
        };
        component.not_ready(STARTING);
        component
    }

    /// Adds a component. If a component with this name exists, the new one takes over its state.
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

    /// Renames a component, whose state stays, unless a component has the new name.
    pub fn rename(&self, name: &str, new_name: &str) {
        let mut components = self
            .components
            .lock()
            .expect("no holder of this lock panics");
        if !components.contains_key(new_name)
            && let Some(state) = components.remove(name)
        {
            components.insert(new_name.to_owned(), state);
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

    /// Adds a note to the answers of `/health/ready`, or replaces the note with this name. A note does not affect
    /// whether the process is ready.
    pub fn note(&self, name: impl Into<String>, text: impl Into<String>) {
        self.lock_notes().insert(name.into(), text.into());
    }

    /// Removes a note, by its name.
    pub fn remove_note(&self, name: &str) {
        self.lock_notes().remove(name);
    }

    fn lock_notes(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.notes.lock().expect("no holder of this lock panics")
    }

    /// The state of every component, and the notes.
    pub fn readiness(&self) -> Readiness {
        let notes = self.lock_notes().clone();
        let components = self
            .components
            .lock()
            .expect("no holder of this lock panics");
        Readiness {
            // A process is not ready before it has added its components.
            ready: !components.is_empty()
                && components
                    .values()
                    .all(|component| component.reason.is_none()),
            components: components
                .iter()
                .map(|(name, component)| {
                    let reason = component.reason.clone();
                    (name.clone(), reason.unwrap_or_else(|| "ready".to_owned()))
                })
                .collect(),
            notes,
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

    fn set(&self, reason: Option<String>) {
        let mut components = self
            .health
            .components
            .lock()
            .expect("no holder of this lock panics");
        let component = components.entry(self.name.clone()).or_default();
        let now = Instant::now();
        let is_new = component.is_new_in_the_log(reason.as_deref(), now);
        component.reason.clone_from(&reason);
        if !is_new {
            return;
        }
        component.logged = reason.clone().map(|reason| (reason, now));
        drop(components);
        match reason {
            Some(reason) => {
                tracing::warn!(component = self.name, reason, "the component is not ready");
            }
            None => tracing::info!(component = self.name, "the component is ready"),
        }
    }
}

impl ComponentState {
    /// Whether the log needs a message about this reason: the component was ready or becomes ready, this is its first
    /// own reason, or the last logged reason was another one and is old enough.
    fn is_new_in_the_log(&self, reason: Option<&str>, now: Instant) -> bool {
        match (reason, &self.logged) {
            (Some(_), None) => true,
            (Some(reason), Some((logged, at))) => {
                reason != logged && (logged == STARTING || now - *at >= REASON_LOG_INTERVAL)
            }
            (None, _) => self.reason.is_some(),
        }
    }
}

/// Reports whether the process runs and answers.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "The process runs and answers.", body = String,
        content_type = "text/plain", example = "alive")))]
pub async fn live() -> &'static str {
    "alive"
}

/// Reports whether every component is ready, and which views are being projected from the start.
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
    fn a_changed_reason_is_logged_after_some_time() {
        let (begun, later) = (Instant::now(), Instant::now() + REASON_LOG_INTERVAL);
        let mut component = ComponentState::default();
        assert!(component.is_new_in_the_log(Some(STARTING), begun));
        component.logged = Some((STARTING.into(), begun));
        assert!(component.is_new_in_the_log(Some("kafka is unreachable"), begun));
        component.reason = Some("kafka is unreachable".into());
        component.logged = Some(("kafka is unreachable".into(), begun));
        assert!(!component.is_new_in_the_log(Some("partition 1 has no owner"), begun));
        assert!(component.is_new_in_the_log(Some("partition 1 has no owner"), later));
        assert!(!component.is_new_in_the_log(Some("kafka is unreachable"), later));
        assert!(component.is_new_in_the_log(None, begun));
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
    fn a_renamed_component_keeps_its_state() {
        let health = Health::default();
        health.component("view_v1").ready();
        health.rename("view_v1", "view_v2");
        health.continued("view_v2");
        let ready = BTreeMap::from([("view_v2".to_owned(), "ready".to_owned())]);
        assert_eq!(health.readiness().components, ready);
        health.component("view_v1");
        health.rename("view_v1", "view_v2");
        assert_eq!(health.readiness().components["view_v2"], "ready");
    }

    #[test]
    fn a_process_with_a_note_is_ready() {
        let health = Health::default();
        health.component("view").ready();
        health.note("rebuild.orders_v2", "3 of 7 offsets are read");
        let readiness = health.readiness();
        assert!(readiness.ready, "{readiness:?}");
        assert_eq!(
            readiness.notes["rebuild.orders_v2"],
            "3 of 7 offsets are read"
        );
        health.remove_note("rebuild.orders_v2");
        assert_eq!(health.readiness().notes, BTreeMap::new());
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
