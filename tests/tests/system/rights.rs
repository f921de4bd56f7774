//! A broker that checks rights: a node with the rights in `deploy/RIGHTS.md` serves, and a node that may not write
//! to a journal reports this at once.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use system_tests::{
    Deployment, Node, Poll,
    environment::{kafka_sasl_brokers, source_file},
    expect_eq,
    product::create_product,
    sale::sell,
    until,
};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    time::{Instant, timeout},
};

/// The principal that `deploy/local/kafka/access.properties.template` names.
const PRINCIPAL: &str = "daybook";
const PASSWORD: &str = "daybook-secret";
/// Longest time until a change of rights has taken effect.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for a change of rights.
const GRANT_TIMEOUT: Duration = Duration::from_secs(30);

/// Commands that are sent after the first one was refused.
const COMMANDS_WITHOUT_RIGHT: usize = 5;

/// A right: resource, name, pattern, operation.
type Right = [String; 4];

pub async fn a_node_with_the_documented_rights_serves_and_changes_nothing(
    deployment: &Deployment,
) -> Result<()> {
    deployment.run_successfully(&["topics", "create"]).await?;
    deployment
        .run_successfully(&["schemas", "register"])
        .await?;
    let mut node = start(deployment, as_principal(deployment)?).await?;
    // Without rights the node can't even see the topics.
    refuses_to_start(&mut node).await?;
    change(deployment, "allow", &documented_rights(deployment)?).await?;
    let mut node = start(deployment, as_principal(deployment)?).await?;
    node.ready().await?;
    sell(&node, "with rights").await?;
    create_product(node.client(), "P-1").await?;
    node.caught_up().await
}

pub async fn a_node_that_may_not_write_to_a_journal_refuses_its_commands_with_403(
    deployment: &Deployment,
) -> Result<()> {
    deployment.run_successfully(&["topics", "create"]).await?;
    deployment
        .run_successfully(&["schemas", "register"])
        .await?;
    change(deployment, "allow", &documented_rights(deployment)?).await?;
    let mut node = start(deployment, as_principal(deployment)?).await?;
    node.ready().await?;
    create_product(node.client(), "P-1").await?;

    let before = barriers(&node).await?;
    let write = [
        "topic".to_owned(),
        deployment.topic("journal.catalog"),
        "literal".to_owned(),
        "Write".to_owned(),
    ];
    let write = [write];
    change(deployment, "deny", &write).await?;
    let body = json!({"sku": "P-2", "description": "a product"});
    until("403", CHANGE_TIMEOUT, async || {
        let started = Instant::now();
        let answer = node.client().post("/api/v1/products", &body, None).await?;
        let is_refused = answer.status == 403 && answer.text.contains("JOURNAL_FORBIDDEN");
        Ok(Poll::of(is_refused, || {
            format!(
                "{} after {:?}: {}",
                answer.status,
                started.elapsed(),
                answer.text
            )
        }))
    })
    .await?;
    // The first refused record raises the only barrier: the owner then appends no record but its announcement.
    for _ in 0..COMMANDS_WITHOUT_RIGHT {
        let answer = node.client().post("/api/v1/products", &body, None).await?;
        answer.problem(403, "JOURNAL_FORBIDDEN")?;
    }
    let raised = barriers(&node).await? - before;
    expect_eq("barriers", &raised, &1.0)?;
    // The other journal is written to.
    sell(&node, "while products are forbidden").await?;
    change(deployment, "undeny", &write).await?;
    until(
        "products to be accepted again",
        CHANGE_TIMEOUT,
        async || {
            let answer = node.client().post("/api/v1/products", &body, None).await?;
            Ok(Poll::of([200, 201].contains(&answer.status), || {
                format!("{}: {}", answer.status, answer.text)
            }))
        },
    )
    .await?;
    node.ready().await
}

pub async fn a_node_without_one_of_the_documented_rights_is_not_ready(
    deployment: &Deployment,
) -> Result<()> {
    deployment.run_successfully(&["topics", "create"]).await?;
    deployment
        .run_successfully(&["schemas", "register"])
        .await?;
    let rights = documented_rights(deployment)?;
    change(deployment, "allow", &rights).await?;
    for (number, right) in rights.iter().enumerate() {
        let right = std::slice::from_ref(right);
        change(deployment, "deny", right).await?;
        let log = deployment.log(&format!("serve-{number}"));
        let mut node = Node::start(
            as_principal(deployment)?,
            "serve",
            deployment.listen(),
            &log,
        )
        .await?;
        let names_the_reason = names_a_missing_right(&node, number).await;
        names_the_reason.with_context(|| format!("without {right:?}"))?;
        node.kill().await?;
        change(deployment, "undeny", right).await?;
    }
    let mut node = start(deployment, as_principal(deployment)?).await?;
    node.ready().await
}

/// Waits until a node that lacks a right reports it: in its readiness, or in its log if it has ended. While the node is
/// ready, imports a sale, because the node notices some missing rights only when it writes.
async fn names_a_missing_right(node: &Node, number: usize) -> Result<()> {
    let mentions_authorization = |text: &str| text.to_lowercase().contains("authoriz");
    let mut sales = 0;
    until("a reason that names a right", CHANGE_TIMEOUT, async || {
        let Ok(ready) = node.client().get("/health/ready").await else {
            let log = node.log_tail();
            return Ok(Poll::of(mentions_authorization(&log), || log));
        };
        if ready.status == 200 {
            sales += 1;
            // If the node refuses the sale, its readiness has the reason.
            let _ = sell(node, &format!("{number} {sales}")).await;
        }
        let reports_missing_right = ready.status == 503 && mentions_authorization(&ready.text);
        Ok(Poll::of(reports_missing_right, || ready.text))
    })
    .await
}

/// The binary as the principal whose rights are checked, without arguments.
pub fn as_principal(deployment: &Deployment) -> Result<Command> {
    let mut command = deployment.command();
    let properties = format!(
        r#"{{"security.protocol"="sasl_plaintext","sasl.mechanism"="PLAIN","sasl.username"="{PRINCIPAL}","sasl.password"="{PASSWORD}"}}"#
    );
    command
        .env("DAYBOOK_KAFKA_BROKERS", kafka_sasl_brokers()?)
        .env("DAYBOOK_KAFKA_PROPERTIES", properties);
    Ok(command)
}

async fn start(deployment: &Deployment, command: Command) -> Result<Node> {
    let log = deployment.log("serve");
    Node::start(command, "serve", deployment.listen(), &log).await
}

/// Waits for the end of a node without rights, whose error must name the failed authorization.
async fn refuses_to_start(node: &mut Node) -> Result<()> {
    let error = node.ready().await.err();
    let error = error.context("a node without any right is ready")?;
    let text = format!("{error:#}").to_lowercase();
    ensure!(
        text.contains("authorization failed"),
        "no \"authorization failed\" in: {text}"
    );
    Ok(())
}

/// The number of barriers of the catalog's owners.
async fn barriers(node: &Node) -> Result<f64> {
    let metric = "daybook_journal_barriers_total";
    let label = "topic=\"journal.catalog\"";
    node.client().metric_with(metric, label).await
}

/// The rights of `daybook serve`.
fn documented_rights(deployment: &Deployment) -> Result<Vec<Right>> {
    rights_under(deployment, "A node, in daily use")
}

/// The rows of the table under a heading of `deploy/RIGHTS.md`, with the deployment's prefix.
pub fn rights_under(deployment: &Deployment, heading: &str) -> Result<Vec<Right>> {
    let text = std::fs::read_to_string(source_file("deploy/RIGHTS.md"))?;
    let mut sections = text.split("\n## ");
    let section = sections.find_map(|section| section.strip_prefix(heading)?.strip_prefix('\n'));
    let section =
        section.with_context(|| format!("deploy/RIGHTS.md has no section {heading:?}"))?;
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| resource "));
    let mut rights = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [resource, name, pattern, operations] = cells[..] else {
            anyhow::bail!("a row of the table of rights: {row}");
        };
        for operation in operations.split(", ") {
            let name = deployment.topic(name);
            rights.push([resource.into(), name, pattern.into(), operation.into()]);
        }
    }
    ensure!(
        !rights.is_empty(),
        "section {heading:?} of deploy/RIGHTS.md has no table of rights"
    );
    Ok(rights)
}

/// Changes the principal's rights, as an operator does.
pub async fn change(deployment: &Deployment, change: &str, rights: &[Right]) -> Result<()> {
    let environment = &deployment.environment;
    let mut program = Command::new(&environment.python)
        .arg(source_file("tests/python/rights.py"))
        .args([environment.kafka_brokers.as_str(), PRINCIPAL, change])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = program.stdin.take().context("no standard input")?;
    let rights: Value = json!(rights);
    input.write_all(rights.to_string().as_bytes()).await?;
    drop(input);
    let ended = timeout(GRANT_TIMEOUT, program.wait()).await??;
    ensure!(
        ended.success(),
        "rights.py {change} ended with {ended} instead of 0"
    );
    Ok(())
}
