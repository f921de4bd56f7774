//! A registry that lost its data, or has other schemas under the ids of the log: nothing is registered and nothing
//! is misread until the schemas are back under their ids.

use crate::void_records::sell;
use anyhow::{Context, Result, ensure};
use schemas::topics::TOPICS;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use system_tests::{
    Deployment, Node, Poll, audit_log, environment::spare_registry_url, servers, until,
};
use tokio::sync::{Mutex, MutexGuard};

/// Longest time from a loss to a readiness with its reason.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a node to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// The component of a process that has not started its roles yet.
const STARTING: &str = "topics and schemas";
const REGISTRY: &str = "registry";
/// More schemas than a deployment has.
const FOREIGN_SCHEMAS: u32 = 20;
const STATE: &str = "daybook-state";

/// The tests of this file take turns.
static SPARE: Mutex<()> = Mutex::const_new(());

pub async fn a_registry_that_lost_its_data_gets_no_schemas_while_the_log_holds_their_ids(
    deployment: &Deployment,
) -> Result<()> {
    let registry = SpareRegistry::empty(deployment).await?;
    let deployment = registry.deployment(deployment);
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    node.caught_up().await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    registry.lose_data(&deployment).await?;

    let mut node = deployment.serve_unready().await?;
    waits(&node, STARTING, "is missing").await?;
    node.kill().await?;
    audit_names_the_loss(&deployment).await?;
    let registered = deployment.run(&["schemas", "register"]).await?;
    ensure!(
        registered.code != 0 && registered.stderr.contains("has lost data"),
        "{registered:?}"
    );
    // Without its directory a node knows the ids from the log only.
    std::fs::remove_dir_all(deployment.folder.join(STATE))?;
    let mut node = deployment.serve_unready().await?;
    waits(&node, STARTING, "is missing").await?;
    // Other schemas have the ids now.
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    waits(&node, STARTING, "is not registered under subject").await?;
    node.kill().await?;
    audit_names_the_loss(&deployment).await?;
    registry.has_foreign_only().await
}

pub async fn a_registry_with_another_schema_under_a_known_id_is_named_and_not_used(
    deployment: &Deployment,
) -> Result<()> {
    let registry = SpareRegistry::empty(deployment).await?;
    let deployment = registry.deployment(deployment);
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    node.caught_up().await?;
    registry.lose_data(&deployment).await?;
    // The node has its schemas in memory, and continues with the ids of the log.
    waits(&node, REGISTRY, "is missing").await?;
    sell(&node, "without a registry").await?;
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    waits(&node, REGISTRY, "is another schema").await?;
    node.terminate(SHUTDOWN_TIMEOUT).await?;
    let node = deployment.serve_unready().await?;
    waits(&node, STARTING, "is another schema").await
}

pub async fn a_registry_that_lost_its_data_gets_its_schemas_back_under_their_ids(
    deployment: &Deployment,
) -> Result<()> {
    let registry = SpareRegistry::empty(deployment).await?;
    // Otherwise the ids would be the same in an empty registry.
    registry.register_foreign(FOREIGN_SCHEMAS).await?;
    let deployment = registry.deployment(deployment);
    let mut node = deployment.serve().await?;
    sell(&node, "before").await?;
    node.caught_up().await?;
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
        let mut node = deployment.serve().await?;
        sell(&node, &format!("after {state_is_lost}")).await?;
        node.caught_up().await?;
        node.terminate(SHUTDOWN_TIMEOUT).await?;
        audit_log::verify(&deployment).await?;
    }

    registry.lose_data(&deployment).await?;
    registry.register_foreign(2 * FOREIGN_SCHEMAS).await?;
    let refused = deployment.run(&["schemas", "restore"]).await?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("have other schemas by now"),
        "{refused:?}"
    );
    registry.has_foreign_only().await
}

/// Returns once the node is not ready and its component has this reason.
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

async fn audit_names_the_loss(deployment: &Deployment) -> Result<()> {
    let arguments = ["audit", "verify", "--format", "json"];
    let output = deployment.run(&arguments).await?;
    let report: Value = serde_json::from_str(&output.stdout).context(output.stderr.clone())?;
    ensure!(
        output.code == 2
            && report["findings_total"] == 1
            && report["findings"][0]["problem"] == "registry_lost_data",
        "exit code {}: {report:#}",
        output.code
    );
    Ok(())
}

/// The registry that is there to be emptied, for one test at a time.
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

    /// The id and the text of the schema of each subject of a deployment.
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

    /// Registers schemas that are not ours under as many ids.
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
        ensure!(names.all(|name| name.starts_with("strange")), "{subjects}");
        Ok(())
    }
}
