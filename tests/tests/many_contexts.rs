//! A process with 14 contexts: `daybook new` adds contexts to the registry of a copy of the source tree, and the test
//! runs the copy's binary. The build of the copy takes minutes, so only `./dev test --full` runs this.

use anyhow::{Context, Result, ensure};
use schemas::CONTEXTS;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use system_tests::{
    Deployment, Node, expect_eq,
    generated_tree::{Build, Copy},
    sale::{import_sale, sale},
};
use tokio::{
    sync::OnceCell,
    time::{Instant, interval},
};

/// Number of contexts, including those of this tree.
const COUNT: usize = 14;
/// Maximum number of threads that the additional contexts may cost: less than one for every two contexts.
const THREADS_ADDED_MAX: usize = 5;
/// Maximum number of consumers that they may cost. Only a journal that views or jobs read has a consumer.
const CONSUMERS_ADDED_MAX: usize = 0;
/// Maximum number of connections to the broker that they may cost. A client opens one when it needs it, so two
/// processes may differ by a few.
const CONNECTIONS_ADDED_MAX: usize = 3;
/// Time over which the minimum use of a process is measured. It is longer than the time after which the runtime ends a
/// thread that has no work.
const OBSERVED: Duration = Duration::from_secs(20);
const OBSERVATION_INTERVAL: Duration = Duration::from_millis(200);
/// Longest time from SIGTERM to the end of a node.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The binary of the copy. The tests share one build.
static BINARY: OnceCell<PathBuf> = OnceCell::const_new();

/// The use of a process at rest.
#[derive(Debug)]
struct Used {
    threads: usize,
    consumers: usize,
    connections: usize,
}

impl Used {
    /// Each number with its name.
    fn counts(&self) -> [(&'static str, usize); 3] {
        [
            ("threads", self.threads),
            ("consumers", self.consumers),
            ("connections", self.connections),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_contexts_answers_before_and_after_a_restart() -> Result<()> {
    let deployment = deployment_of_many("many_contexts_answer").await?;
    let node = deployment.serve().await?;
    let first = write(&node, &generated(), "first", false).await?;
    let node = restart(&deployment, node).await?;
    // Each owner has kept its state, so it repeats the answer.
    let again = write(&node, &generated(), "first", true).await?;
    expect_eq("positions", &again, &first)?;
    write(&node, &generated(), "second", false).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn further_contexts_cost_no_threads_consumers_or_connections() -> Result<()> {
    let deployment = Deployment::new("few_contexts_use")?;
    let few = used_after_a_restart(&deployment, &[]).await?;
    let deployment = deployment_of_many("many_contexts_use").await?;
    let many = used_after_a_restart(&deployment, &generated()).await?;
    let ours = CONTEXTS.len();
    println!("{ours} contexts: {few:?}; {COUNT} contexts: {many:?}");
    let (before, after) = (few.counts(), many.counts());
    let added_max = [
        THREADS_ADDED_MAX,
        CONSUMERS_ADDED_MAX,
        CONNECTIONS_ADDED_MAX,
    ];
    for (((what, before), (_, after)), added_max) in before.into_iter().zip(after).zip(added_max) {
        ensure!(before > 0, "no {what} in the process with {ours} contexts");
        ensure!(
            after <= before + added_max,
            "{after} {what} instead of at most {before} + {added_max}"
        );
    }
    Ok(())
}

/// The names of the generated contexts: letters only, as the generator requires.
fn generated() -> Vec<String> {
    let letters = ('a'..='z').take(COUNT.saturating_sub(CONTEXTS.len()));
    letters.map(|letter| format!("extra{letter}")).collect()
}

/// The name of the aggregate of a generated context.
fn aggregate(context: &str) -> String {
    format!("Item{}", context.trim_start_matches("extra"))
}

/// A deployment whose nodes have the generated contexts.
async fn deployment_of_many(test: &str) -> Result<Deployment> {
    let binary = BINARY.get_or_try_init(build).await?;
    let mut deployment = Deployment::new(test)?;
    deployment.environment.daybook.clone_from(binary);
    Ok(deployment)
}

async fn build() -> Result<PathBuf> {
    let copy = Copy::new()?;
    for context in generated() {
        let arguments = format!("context {context} --aggregate {}", aggregate(&context));
        let output = copy.daybook_new(&arguments).await?;
        ensure!(output.code == 0, "{arguments}: {}", output.stderr);
    }
    Build::of(&copy, "many_contexts")?.daybook().await
}

/// Lines of a batch, each with the topic of its context: a product, a sale, and a command for each generated context.
fn lines(generated: &[String], id: &str) -> Vec<(String, Value)> {
    let product = json!({"key": format!("product/{id}"), "command": "CreateProduct",
        "body": {"sku": id, "description": "a product"}});
    let order = import_sale(&format!("sale/{id}"), &sale(id));
    let ours = [("catalog", product), ("orders", order)];
    let ours = ours.map(|(context, line)| (context.to_owned(), line));
    let generated = generated.iter().map(|context| {
        let line = json!({"key": format!("{context}/{id}"), "command": format!("Create{}", aggregate(context)),
            "body": {"id": id, "name": "an item"}});
        (context.clone(), line)
    });
    ours.into_iter()
        .chain(generated)
        .map(|(context, line)| (format!("journal.{context}"), line))
        .collect()
}

/// Writes a command to each context; returns the positions of the commits.
async fn write(
    node: &Node,
    generated: &[String],
    id: &str,
    are_replayed: bool,
) -> Result<Vec<Value>> {
    let lines = lines(generated, id);
    let body: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let answers = node.client().post_lines(body).await?;
    expect_eq("answers", &answers.len(), &lines.len())?;
    let mut positions = Vec::new();
    for ((topic, line), answer) in lines.iter().zip(answers) {
        ensure!(
            answer["status"] == 201 && answer["replayed"] == are_replayed,
            "{line}: {answer} instead of status 201, replayed: {are_replayed}"
        );
        let position = answer["position"].as_str().context("no position")?;
        ensure!(
            position.starts_with(&format!("{topic}/")),
            "{line}: position {position} instead of one in {topic}"
        );
        positions.push(answer["position"].clone());
    }
    Ok(positions)
}

/// Stops a node and starts it again.
async fn restart(deployment: &Deployment, mut node: Node) -> Result<Node> {
    let (status, _) = node.terminate(STOP_TIMEOUT).await?;
    ensure!(status.success(), "{status}\n{}", node.log_tail());
    deployment.serve().await
}

/// The use of a node at rest, after commands in each context and a restart.
async fn used_after_a_restart(deployment: &Deployment, generated: &[String]) -> Result<Used> {
    let mut node = deployment.serve().await?;
    write(&node, generated, "first", false).await?;
    node.caught_up().await?;
    let mut node = restart(deployment, node).await?;
    node.caught_up().await?;
    let brokers = &deployment.environment.kafka_brokers;
    let (_, port) = brokers.rsplit_once(':').context("a broker has a port")?;
    let port = port.parse()?;
    // Work that ends, such as a take-over, uses threads and consumers only for a while.
    let mut least = used(&node, port)?;
    let (end, mut polls) = (Instant::now() + OBSERVED, interval(OBSERVATION_INTERVAL));
    while polls.tick().await < end {
        let now = used(&node, port)?;
        least = Used {
            threads: least.threads.min(now.threads),
            consumers: least.consumers.min(now.consumers),
            connections: least.connections.min(now.connections),
        };
    }
    Ok(least)
}

/// The present use of a node.
fn used(node: &Node, broker_port: u16) -> Result<Used> {
    let threads = node.threads()?;
    let consumers = threads.iter().filter(|name| name.starts_with("consume-"));
    Ok(Used {
        consumers: consumers.count(),
        threads: threads.len(),
        connections: node.connections_to(broker_port)?,
    })
}
