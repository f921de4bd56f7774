//! `daybook schemas restore` at a registry with modes, as Confluent's has them. Confluent's server is not among the
//! servers of the tests, so the test uses a model of it. Its rules are those of `checkRegisterMode`, `register` and
//! `setMode` in the source of Confluent's registry.

use anyhow::{Result, ensure};
use axum::{
    Json, Router,
    body::to_bytes,
    extract::Request,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use system_tests::{Deployment, audit_log, expect_eq, sale::node_with_sales};
use tokio::net::TcpListener;

/// Longest time for a node to shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The first id of the registry before it loses its data. Afterwards its ids begin at 1.
const FIRST_ID: u32 = 1_000;
const IMPORT: &str = "IMPORT";
const READWRITE: &str = "READWRITE";
/// Confluent's code for an operation that is not permitted.
const NOT_PERMITTED: u32 = 42_205;

pub async fn schemas_restore_keeps_the_ids_at_a_registry_with_modes(
    deployment: &Deployment,
) -> Result<()> {
    let registry = Registry::start().await?;
    let deployment = deployment.clone().with_registry(&registry.url);
    let mut node = node_with_sales(&deployment, "before").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    let before = registry.state().held();
    ensure!(!before.is_empty(), "the node registered no schema");

    *registry.state() = State::beginning_at(1);
    deployment.run_successfully(&["schemas", "restore"]).await?;
    expect_eq("schemas by subject", &registry.state().held(), &before)?;
    let modes = registry.state().modes.clone();
    let expected = before
        .keys()
        .map(|subject| (subject.clone(), READWRITE.to_owned()));
    expect_eq("modes", &modes, &expected.collect())?;

    let mut node = node_with_sales(&deployment, "after").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    expect_eq("schemas by subject", &registry.state().held(), &before)?;
    audit_log::verify(&deployment).await.map(drop)
}

/// The model of a registry, behind HTTP.
struct Registry {
    url: String,
    state: Arc<Mutex<State>>,
}

/// The data of the registry.
struct State {
    next_id: u32,
    /// The schema of each id.
    schemas: BTreeMap<u32, Value>,
    /// The ids of each subject, by version.
    subjects: BTreeMap<String, Vec<u32>>,
    /// The modes and compatibility levels that were set for single subjects.
    modes: BTreeMap<String, String>,
    levels: BTreeMap<String, String>,
}

/// Status and body of an answer.
type Answer = (StatusCode, Value);

impl Registry {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State::beginning_at(FIRST_ID)));
        let shared = state.clone();
        let router = Router::new().fallback(move |request: Request| {
            let state = shared.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let is_forced = parts.uri.query() == Some("force=true");
                let mut data = state.lock().expect("no holder of this lock panics");
                let (status, answer) =
                    data.answer(&parts.method, parts.uri.path(), is_forced, &body);
                (status, Json(answer))
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    fn beginning_at(next_id: u32) -> Self {
        Self {
            next_id,
            schemas: BTreeMap::new(),
            subjects: BTreeMap::new(),
            modes: BTreeMap::new(),
            levels: BTreeMap::new(),
        }
    }

    /// The ids and schemas of each subject.
    fn held(&self) -> BTreeMap<String, Vec<(u32, Value)>> {
        let of_ids = |ids: &Vec<u32>| {
            let schemas = ids.iter().map(|id| (*id, self.schemas[id].clone()));
            schemas.collect()
        };
        let subjects = self.subjects.iter();
        subjects
            .map(|(subject, ids)| (subject.clone(), of_ids(ids)))
            .collect()
    }

    fn answer(&mut self, method: &Method, path: &str, is_forced: bool, body: &Value) -> Answer {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), &parts[..]) {
            ("GET", ["mode"]) => ok(json!({"mode": READWRITE})),
            ("PUT", ["mode", subject]) => self.set_mode(subject, &body["mode"], is_forced),
            ("GET", ["config"]) => ok(json!({"compatibilityLevel": "BACKWARD"})),
            ("GET", ["config", subject]) => match self.levels.get(*subject) {
                Some(level) => ok(json!({"compatibilityLevel": level})),
                None => not_found(),
            },
            ("PUT", ["config", subject]) => {
                let level = body["compatibility"].as_str().unwrap_or_default();
                self.levels.insert((*subject).to_owned(), level.to_owned());
                ok(body.clone())
            }
            ("GET", ["schemas", "ids", id]) => match self.schema(id) {
                Some(schema) => ok(json!({"schema": schema.to_string()})),
                None => not_found(),
            },
            ("GET", ["schemas", "ids", id, "versions"]) => self.versions_of(id),
            ("POST", ["subjects", subject]) => self.find(subject, &parsed(&body["schema"])),
            ("POST", ["subjects", subject, "versions"]) => {
                let id = body["id"].as_u64().and_then(|id| u32::try_from(id).ok());
                self.register(subject, parsed(&body["schema"]), id)
            }
            _ => not_found(),
        }
    }

    fn schema(&self, id: &str) -> Option<&Value> {
        self.schemas.get(&id.parse().ok()?)
    }

    fn mode(&self, subject: &str) -> &str {
        self.modes.get(subject).map_or(READWRITE, String::as_str)
    }

    /// A subject with schemas gets the mode IMPORT only by force.
    fn set_mode(&mut self, subject: &str, mode: &Value, is_forced: bool) -> Answer {
        if mode == IMPORT && self.subjects.contains_key(subject) && !is_forced {
            return not_permitted("Cannot import since found existing subjects");
        }
        let text = mode.as_str().unwrap_or_default().to_owned();
        self.modes.insert(subject.to_owned(), text);
        ok(json!({"mode": mode}))
    }

    fn versions_of(&self, id: &str) -> Answer {
        let Ok(id) = id.parse::<u32>() else {
            return not_found();
        };
        let versions = self.subjects.iter().flat_map(|(subject, ids)| {
            let versions = ids.iter().zip(1..).filter(move |(found, _)| **found == id);
            versions.map(move |(_, version)| json!({"subject": subject, "version": version}))
        });
        let versions: Vec<Value> = versions.collect();
        match versions.is_empty() {
            true => not_found(),
            false => ok(versions.into()),
        }
    }

    fn find(&self, subject: &str, schema: &Value) -> Answer {
        let mut ids = self.subjects.get(subject).into_iter().flatten();
        match ids.find(|id| self.schemas.get(*id) == Some(schema)) {
            Some(id) => ok(json!({"subject": subject, "id": id, "schema": schema.to_string()})),
            None => not_found(),
        }
    }

    /// A registration names an id if and only if the subject has the mode IMPORT. No id gets another schema.
    fn register(&mut self, subject: &str, schema: Value, id: Option<u32>) -> Answer {
        let required = if id.is_some() { IMPORT } else { READWRITE };
        if self.mode(subject) != required {
            return not_permitted(&format!("Subject {subject} is not in the mode {required}"));
        }
        let same = self.schemas.iter().find(|(_, found)| **found == schema);
        let known = same.map(|(id, _)| *id);
        let id = id.or(known).unwrap_or(self.next_id);
        let found = self.schemas.entry(id).or_insert_with(|| schema.clone());
        if *found != schema {
            return not_permitted(&format!(
                "Overwrite new schema with id {id} is not permitted."
            ));
        }
        self.next_id = self.next_id.max(id + 1);
        let ids = self.subjects.entry(subject.to_owned()).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        ok(json!({"id": id}))
    }
}

/// The schema in a request, which is a text in JSON.
fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or_default()
}

fn ok(body: Value) -> Answer {
    (StatusCode::OK, body)
}

fn not_found() -> Answer {
    let body = json!({"error_code": 40_400, "message": "not found"});
    (StatusCode::NOT_FOUND, body)
}

fn not_permitted(message: &str) -> Answer {
    let body = json!({"error_code": NOT_PERMITTED, "message": message});
    (StatusCode::UNPROCESSABLE_ENTITY, body)
}
