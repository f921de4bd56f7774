//! The same command twice: the same answer, and nothing is decided again.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, Client, Deployment, audit_log, expect_eq, http::send};

const PRODUCTS: &str = "/api/v1/products";

pub async fn a_repeated_command_gets_the_same_answer(deployment: &Deployment) -> Result<()> {
    let node = deployment.commands().await?;
    let first = First::of(node.client()).await?;
    first.check_repetition(node.client()).await?;
    check_decided_once(deployment).await
}

pub async fn a_command_repeated_after_a_restart_gets_the_same_answer(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.commands().await?;
    let first = First::of(node.client()).await?;
    node.kill().await?;
    let node = deployment.commands().await?;
    first.check_repetition(node.client()).await?;
    check_decided_once(deployment).await
}

pub async fn a_key_stands_for_one_command_also_after_a_restart(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.commands().await?;
    First::of(node.client()).await?;
    for restarts in [false, true] {
        if restarts {
            node.kill().await?;
            node = deployment.commands().await?;
        }
        let client = node.client();
        let reused = client.post(PRODUCTS, &other_product(), Some("k")).await?;
        reused.problem(422, "IDEMPOTENCY_KEY_REUSED")?;
        // With another key it is a new command, whose effect already exists.
        let key = format!("another/{restarts}");
        let again = client.post(PRODUCTS, &product(), Some(&key)).await?;
        again.expect(200)?;
    }
    check_decided_once(deployment).await
}

fn product() -> Value {
    json!({"sku": "A", "description": "a product"})
}

/// Conflicts with [`product`].
fn other_product() -> Value {
    json!({"sku": "A", "description": "another"})
}

/// The first answers to a command that is accepted and to one that is refused.
struct First {
    accepted: Answer,
    refused: Answer,
}

impl First {
    async fn of(client: &Client) -> Result<Self> {
        let accepted = client.post(PRODUCTS, &product(), Some("k")).await?;
        let replayed = accepted.expect(201)?.header("idempotent-replayed");
        expect_eq("Idempotent-Replayed", &replayed, &"")?;
        let refused = client
            .post(PRODUCTS, &other_product(), Some("refused"))
            .await?;
        refused.problem(409, "PRODUCT_EXISTS")?;
        Ok(Self { accepted, refused })
    }

    async fn check_repetition(&self, client: &Client) -> Result<()> {
        let again = client.post(PRODUCTS, &product(), Some("k")).await?;
        let replayed = again.expect(201)?.header("idempotent-replayed");
        expect_eq("Idempotent-Replayed", &replayed, &"true")?;
        expect_eq("the body", &again.text, &self.accepted.text)?;
        for name in ["etag", "daybook-position"] {
            let (now, before) = (again.header(name), self.accepted.header(name));
            ensure!(
                !now.is_empty() && now == before,
                "{name}: {now:?} instead of {before:?}"
            );
        }
        // The condition is not part of the command.
        let request = client.request(Method::POST, PRODUCTS).json(&product());
        let request = request.header("idempotency-key", "k");
        let newer = send(request.header("if-match", "\"1\"")).await?;
        let replayed = newer.expect(201)?.header("idempotent-replayed");
        expect_eq("Idempotent-Replayed", &replayed, &"true")?;
        let again = client
            .post(PRODUCTS, &other_product(), Some("refused"))
            .await?;
        let problem = again.problem(409, "PRODUCT_EXISTS")?;
        ensure!(
            problem["replayed"] == true,
            "replayed is not true: {problem}"
        );
        let first = self.refused.json()?;
        expect_eq("the detail", &problem["detail"], &first["detail"])
    }
}

async fn check_decided_once(deployment: &Deployment) -> Result<()> {
    let decisions = audit_log::decisions(deployment, &["--event", "ProductCreated"]).await?;
    ensure!(
        decisions.len() == 1,
        "{} decisions instead of 1: {decisions:?}",
        decisions.len()
    );
    audit_log::verify(deployment).await.map(drop)
}
