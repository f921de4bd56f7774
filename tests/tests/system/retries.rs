//! The same command twice: the same answer, and nothing done again.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use system_tests::{Answer, Client, World, audit_log};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_twice_gets_the_same_answer() -> Result<()> {
    let world = World::wiped("retries").await?;
    let daybook = world.serve().await?;
    let product = json!({"sku": "A", "description": "a product"});
    let first = daybook
        .client()
        .post("/api/v1/products", &product, Some("k"))
        .await?;
    first.expect(201)?;
    ensure!(
        first.header("idempotent-replayed").is_empty(),
        "{:?}",
        first.headers
    );
    let other = json!({"sku": "A", "description": "another"});
    let refused = daybook
        .client()
        .post("/api/v1/products", &other, Some("refused"))
        .await?;
    refused.problem(409, "PRODUCT_EXISTS")?;
    check_retries(daybook.client(), &first, &refused).await?;

    daybook.kill().await?;
    let daybook = world.serve().await?;
    check_retries(daybook.client(), &first, &refused)
        .await
        .context("after a restart")?;
    let client = daybook.client();
    client
        .post("/api/v1/products", &product, Some("another"))
        .await?
        .expect(200)?;
    let decisions = audit_log::decisions(&world, &["--event", "ProductCreated"]).await?;
    ensure!(decisions.len() == 1, "{decisions:?}");
    audit_log::verify(&world).await.map(drop)
}

async fn check_retries(client: &Client, first: &Answer, refused: &Answer) -> Result<()> {
    let product = json!({"sku": "A", "description": "a product"});
    let other = json!({"sku": "A", "description": "another"});
    let again = client.post("/api/v1/products", &product, Some("k")).await?;
    again.expect(201)?;
    ensure!(
        again.header("idempotent-replayed") == "true",
        "{:?}",
        again.headers
    );
    ensure!(
        again.text == first.text,
        "{} is not {}",
        again.text,
        first.text
    );
    for name in ["etag", "daybook-position"] {
        let (now, then) = (again.header(name), first.header(name));
        ensure!(
            !now.is_empty() && now == then,
            "{name}: {now:?}, before {then:?}"
        );
    }
    let stolen = client.post("/api/v1/products", &other, Some("k")).await?;
    stolen.problem(422, "IDEMPOTENCY_KEY_REUSED")?;
    let again = client
        .post("/api/v1/products", &other, Some("refused"))
        .await?;
    let problem = again.problem(409, "PRODUCT_EXISTS")?;
    ensure!(problem["replayed"] == true, "{problem}");
    ensure!(
        problem["detail"] == refused.json()?["detail"],
        "{problem} is not {}",
        refused.text
    );
    Ok(())
}
