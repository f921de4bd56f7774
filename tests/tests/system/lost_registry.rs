//! A registry that lost its data, or has other schemas under the ids of the log. A node registers no schema and decodes
//! no body until the registry has the old schemas under their old ids.

use anyhow::{Context, Result, ensure};
use schemas::topics::TOPICS;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::{collections::BTreeMap, time::Duration};
use system_tests::{
    Deployment, Node, Poll, audit_log,
    environment::spare_registry_url,
    expect_eq,
    free_address::free_address,
    sale::{node_with_sales, sell},
    servers, until,
};
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
};

/// Longest time until readiness reports the loss.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a node to shut down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// The readiness component of a process before its roles start.
const STARTING: &str = "topics and schemas";
const REGISTRY: &str = "registry";
/// More schemas than a deployment registers, so that they use all of its ids.
const FOREIGN_SCHEMAS: u32 = 20;
const STATE: &str = "daybook-state";

/// Only one test at a time uses the spare registry.
static SPARE: Mutex<()> = Mutex::const_new(());

pub async fn no_schema_is_registered_while_the_registry_lacks_ids_of_the_log(
    deployment: &Deployment,
) -> Result<()> {
    let (registry, deployment) = lost_registry(deployment).await?;
    let node = deployment.serve_unready().await?;
    waits(&node, STARTING, "is missing").await?;
    let registered = deployment.run(&["schemas", "register"]).await?;
    ensure!(
        registered.code != 0 && registered.stderr.contains("has lost data"),
        "no failure with \"has lost data\": {registered:?}"
    );
    registry.has_foreign_only().await
}

pub async fn a_node_without_its_state_directory_finds_lost_ids_in_the_log(
    deployment: &Deployment,
) -> Result<()> {
    let (registry, deployment) = lost_registry(deployment).await?;
    std::fs::remove_dir_all(deployment.folder.join(STATE))?;
    let node = deployment.serve_unready().await?;
    waits(&node, STARTING, "is missing").await?;
    // Other schemas have the ids now.
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    waits(&node, STARTING, "is not registered under subject").await?;
    registry.has_foreign_only().await
}

pub async fn the_audit_reports_ids_of_the_log_that_the_registry_lacks(
    deployment: &Deployment,
) -> Result<()> {
    let (registry, deployment) = lost_registry(deployment).await?;
    audit_names_the_loss(&deployment).await?;
    // Without the node's file, the audit finds the ids only in the log.
    std::fs::remove_dir_all(deployment.folder.join(STATE))?;
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    audit_names_the_loss(&deployment).await.map(drop)
}

pub async fn another_schema_under_a_known_id_is_reported_and_not_used(
    deployment: &Deployment,
) -> Result<()> {
    let registry = SpareRegistry::empty(deployment).await?;
    let deployment = registry.deployment(deployment);
    let mut node = node_with_sales(&deployment, "before").await?;
    registry.lose_data(&deployment).await?;
    // The running node continues, because it has its schemas in memory.
    waits(&node, REGISTRY, "is missing").await?;
    sell(&node, "without a registry").await?;
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    waits(&node, REGISTRY, "has another schema").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    let node = deployment.serve_unready().await?;
    waits(&node, STARTING, "has another schema").await
}

pub async fn a_projector_applies_nothing_while_other_schemas_have_ids_of_the_log(
    deployment: &Deployment,
) -> Result<()> {
    let registry = SpareRegistry::empty(deployment).await?;
    let deployment = registry.deployment(deployment);
    let mut node = deployment.commands().await?;
    sell(&node, "before").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    registry.lose_data(&deployment).await?;
    registry.register_foreign(FOREIGN_SCHEMAS).await?;

    let of_node = deployment.state_directory(deployment.listen());
    // Without the node's file, the projector finds the ids only in the log.
    for (directory, reason) in [
        (Some(of_node), "has another schema"),
        (None, "is not registered under subject"),
    ] {
        let set = |command: &mut Command| {
            match &directory {
                Some(directory) => command.env("DAYBOOK_COMMANDS_STATE_DIR", directory),
                None => command.env_remove("DAYBOOK_COMMANDS_HASH_KEY_FILE"),
            };
        };
        let projector = deployment.projector_with(free_address()?, set).await?;
        waits(&projector, STARTING, reason).await?;
        has_no_database(&deployment).await?;
    }
    Ok(())
}

pub async fn schemas_restore_registers_lost_schemas_under_their_old_ids(
    deployment: &Deployment,
) -> Result<()> {
    let registry = SpareRegistry::empty(deployment).await?;
    // These schemas take the first ids, so a new registration in an empty registry would get other ids.
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    let deployment = registry.deployment(deployment);
    let mut node = node_with_sales(&deployment, "before").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    let before = registry.schemas_of(&deployment).await?;

    for state_is_lost in [false, true] {
        registry.lose_data(&deployment).await?;
        if state_is_lost {
            std::fs::remove_dir_all(deployment.folder.join(STATE))?;
        }
        deployment.run_successfully(&["schemas", "restore"]).await?;
        let after = registry.schemas_of(&deployment).await?;
        ensure!(
            after == before,
            "{before:?} became {after:?}, state is lost: {state_is_lost}"
        );
        let mut node = node_with_sales(&deployment, &format!("after {state_is_lost}")).await?;
        node.terminate(SHUTDOWN_TIMEOUT).await?;
        audit_log::verify(&deployment).await?;
    }

    Ok(())
}

pub async fn schemas_restore_is_refused_while_other_schemas_have_ids_of_the_log(
    deployment: &Deployment,
) -> Result<()> {
    let (registry, deployment) = lost_registry(deployment).await?;
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    let refused = deployment.run(&["schemas", "restore"]).await?;
    let reason = "other schemas under ids of the log";
    ensure!(
        refused.code != 0 && refused.stderr.contains(reason),
        "no failure with {reason:?}: {refused:?}"
    );
    registry.has_foreign_only().await
}

/// The audit trusts the schemas in the node's file, because records were decoded with them. The test alters the file
/// instead of the registry.
pub async fn the_audit_compares_the_registry_with_the_known_schemas(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = node_with_sales(deployment, "before").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    audit_log::verify(deployment).await?;
    let file = deployment.folder.join(STATE).join("daybook-schemas.json");
    let mut known: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let schemas = known["schemas"].as_object_mut().context("no schemas")?;
    for schema in schemas.values_mut() {
        schema["schema"] = "\"long\"".into();
    }
    std::fs::write(&file, known.to_string())?;
    let report = audit_names_the_loss(deployment).await?;
    let detail = report["findings"][0]["detail"].as_str();
    ensure!(
        detail.is_some_and(|detail| detail.contains("has another schema")),
        "no \"has another schema\" in the detail: {report:#}"
    );
    let left = std::fs::read_to_string(&file)?;
    expect_eq("the file of known schemas", &left, &known.to_string())
}

/// A registry that has lost the schemas of a log, and the deployment of the log. Its node has ended.
async fn lost_registry(deployment: &Deployment) -> Result<(SpareRegistry, Deployment)> {
    let registry = SpareRegistry::empty(deployment).await?;
    let deployment = registry.deployment(deployment);
    let mut node = node_with_sales(&deployment, "before").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    registry.lose_data(&deployment).await?;
    Ok((registry, deployment))
}

/// Waits until the node is not ready and its component reports this reason.
async fn waits(node: &Node, component: &str, reason: &str) -> Result<()> {
    let what = format!("{component} to say that a schema {reason}");
    until(&what, NOTICE_TIMEOUT, async || {
        let answer = node.client().get("/health/ready").await?;
        let found = answer.json()?["components"][component].clone();
        let text = found.as_str().unwrap_or_default();
        let is_named = text.contains("has lost data") && text.contains(reason);
        Ok(Poll::of(answer.status == 503 && is_named, || answer.text))
    })
    .await
}

/// Checks that no projector has written to Postgres: a projector creates the database before its first row.
async fn has_no_database(deployment: &Deployment) -> Result<()> {
    let server = deployment.environment.postgres_database("postgres");
    let server = PgPool::connect(&server).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(deployment.postgres_name())
            .fetch_one(&server)
            .await?;
    server.close().await;
    expect_eq("the database exists", &exists, &false)
}

async fn audit_names_the_loss(deployment: &Deployment) -> Result<Value> {
    let arguments = ["audit", "verify", "--format", "json"];
    let output = deployment.run(&arguments).await?;
    let report: Value = serde_json::from_str(&output.stdout).context(output.stderr.clone())?;
    ensure!(
        output.code == 2
            && report["findings_total"] == 1
            && report["findings"][0]["problem"] == "registry_lost_data",
        "exit code {} instead of 2, or not one finding registry_lost_data: {report:#}",
        output.code
    );
    Ok(report)
}

/// The registry that tests may empty. One test at a time uses it.
struct SpareRegistry {
    url: String,
    http: reqwest::Client,
    _turn: MutexGuard<'static, ()>,
}

impl SpareRegistry {
    async fn empty(deployment: &Deployment) -> Result<Self> {
        let turn = SPARE.lock().await;
        servers::empty_spare_registry(&deployment.environment).await?;
        Ok(Self {
            url: spare_registry_url()?,
            http: reqwest::Client::builder().no_proxy().build()?,
            _turn: turn,
        })
    }

    fn deployment(&self, deployment: &Deployment) -> Deployment {
        deployment.clone().with_registry(&self.url)
    }

    async fn lose_data(&self, deployment: &Deployment) -> Result<()> {
        servers::empty_spare_registry(&deployment.environment).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// The schema id and schema text of each subject of a deployment.
    async fn schemas_of(&self, deployment: &Deployment) -> Result<BTreeMap<String, Value>> {
        let mut schemas = BTreeMap::new();
        for topic in TOPICS {
            if let Some(subject) = topic.subject() {
                let subject = deployment.topic(&subject);
                let found = self.get(&format!("/subjects/{subject}/versions/1")).await?;
                schemas.insert(subject, json!([found["id"], found["schema"]]));
            }
        }
        Ok(schemas)
    }

    /// Registers `count` schemas of another program, which take the next ids.
    async fn register_foreign(&self, count: u32) -> Result<()> {
        for number in 0..count {
            let path = format!("{}/subjects/strange-{number}/versions", self.url);
            let schema = json!({"type": "fixed", "name": format!("Strange{number}"), "size": 4});
            let body = json!({"schema": schema.to_string()});
            let answer = self.http.post(path).json(&body).send().await?;
            answer.error_for_status()?;
        }
        Ok(())
    }

    async fn has_foreign_only(&self) -> Result<()> {
        let subjects = self.get("/subjects").await?;
        let names = subjects.as_array().context("no list of subjects")?;
        let mut names = names.iter().filter_map(Value::as_str);
        ensure!(
            names.all(|name| name.starts_with("strange")),
            "not only strange subjects: {subjects}"
        );
        Ok(())
    }
}
