//! A process with 14 contexts: `daybook new` adds contexts to the registry of a copy of the source tree, and the test
//! runs the copy's binary. Its threads and memory must not grow with the contexts or their partitions. The build of the
//! copy takes minutes, so only `./dev test --full` runs this.

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
    sync::{Mutex, OnceCell},
    time::{Instant, interval},
};

/// Number of contexts, including those of this tree.
const COUNT: usize = 14;
/// Partitions of each journal, and the greater number to which they are compared.
const FEW_PARTITIONS: usize = 4;
const MANY_PARTITIONS: usize = 16;
/// Maximum number of threads that further contexts or partitions may cost: less than one for every two contexts.
const THREADS_ADDED_MAX: usize = 5;
/// Maximum number of consumers that they may cost. Only a journal that views or jobs read has a consumer.
const CONSUMERS_ADDED_MAX: usize = 0;
/// Maximum number of connections to the broker that they may cost. A client opens one when it needs it, so two
/// processes may differ by a few.
const CONNECTIONS_ADDED_MAX: usize = 3;
/// Maximum memory that they may cost, in bytes: less than half a MiB for each of the added partitions, of which there
/// are 168 in the larger comparison. An owner needs some of it for its queue, its filter and its state. A store, a
/// client or a thread of its own for each partition would need more. The memory of two runs differs by some MiB.
const MEMORY_ADDED_BYTES_MAX: usize = 80 << 20;
/// Commands that each context gets. Their aggregates are in nearly all partitions.
const COMMANDS: usize = 64;
/// Time over which the minimum use of a process is measured. It is longer than the time after which the runtime ends a
/// thread that has no work.
const OBSERVED: Duration = Duration::from_secs(20);
const OBSERVATION_INTERVAL: Duration = Duration::from_millis(200);
/// Longest time from SIGTERM to the end of a node.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The binary of the copy. The tests share one build.
static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
/// The use with few partitions, which two tests compare with another one.
static FEW_PARTITIONS_USE: OnceCell<Used> = OnceCell::const_new();
/// Held by the test that runs. A node with hundreds of partitions needs all processors to be ready in time.
static TURN: Mutex<()> = Mutex::const_new(());

/// The use of a process at rest.
#[derive(Debug)]
struct Used {
    threads: usize,
    consumers: usize,
    connections: usize,
    memory_bytes: usize,
}

impl Used {
    /// Each number with its name, and the maximum by which it may exceed that of a process with less to do.
    fn numbers(&self) -> [(&'static str, usize, usize); 4] {
        [
            ("threads", self.threads, THREADS_ADDED_MAX),
            ("consumers", self.consumers, CONSUMERS_ADDED_MAX),
            ("connections", self.connections, CONNECTIONS_ADDED_MAX),
            ("bytes of memory", self.memory_bytes, MEMORY_ADDED_BYTES_MAX),
        ]
    }

    /// Fails unless this use is nearly as low as that of a process with less to do.
    fn check_added_to(&self, before: &Self) -> Result<()> {
        for ((what, after, added_max), (_, before, _)) in
            self.numbers().into_iter().zip(before.numbers())
        {
            ensure!(before > 0, "no {what} in the process with less to do");
            ensure!(
                after <= before + added_max,
                "{after} {what} instead of at most {before} + {added_max}"
            );
        }
        Ok(())
    }

    /// The lower one of each number.
    fn least(self, other: &Self) -> Self {
        Self {
            threads: self.threads.min(other.threads),
            consumers: self.consumers.min(other.consumers),
            connections: self.connections.min(other.connections),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_contexts_answers_before_and_after_a_restart() -> Result<()> {
    let _turn = TURN.lock().await;
    let deployment = deployment_of_many("many_contexts_answer").await?;
    let node = serve(&deployment, FEW_PARTITIONS).await?;
    let first = write(&node, &generated(), "first", false).await?;
    let node = restart(&deployment, node, FEW_PARTITIONS).await?;
    // Each owner has kept its state, so it repeats the answer.
    let again = write(&node, &generated(), "first", true).await?;
    expect_eq("positions", &again, &first)?;
    write(&node, &generated(), "second", false).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn further_contexts_cost_no_threads_consumers_or_connections_and_little_memory() -> Result<()>
{
    let _turn = TURN.lock().await;
    let deployment = Deployment::new("few_contexts_use")?;
    let few = used_after_a_restart(&deployment, &[], FEW_PARTITIONS).await?;
    let many = FEW_PARTITIONS_USE.get_or_try_init(with_few_partitions);
    let many = many.await?;
    let ours = CONTEXTS.len();
    println!("{ours} contexts: {few:?}; {COUNT} contexts: {many:?}");
    many.check_added_to(&few)
}

#[tokio::test(flavor = "multi_thread")]
async fn further_partitions_of_many_contexts_cost_no_threads_and_little_memory() -> Result<()> {
    let _turn = TURN.lock().await;
    let few = FEW_PARTITIONS_USE.get_or_try_init(with_few_partitions);
    let few = few.await?;
    let deployment = deployment_of_many("many_partitions_use").await?;
    let many = used_after_a_restart(&deployment, &generated(), MANY_PARTITIONS).await?;
    println!("{FEW_PARTITIONS} partitions: {few:?}; {MANY_PARTITIONS} partitions: {many:?}");
    many.check_added_to(few)
}

async fn with_few_partitions() -> Result<Used> {
    let deployment = deployment_of_many("many_contexts_use").await?;
    used_after_a_restart(&deployment, &generated(), FEW_PARTITIONS).await
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

/// Starts a node with every role, whose journals have this many partitions each; returns once it is ready.
async fn serve(deployment: &Deployment, partitions: usize) -> Result<Node> {
    let mut command = deployment.command();
    command.env("DAYBOOK_KAFKA_PARTITIONS", partitions.to_string());
    let (listen, log) = (deployment.listen(), deployment.log("serve"));
    let mut node = Node::start(command, "serve", listen, &log).await?;
    node.ready().await?;
    Ok(node)
}

/// Stops a node and starts it again.
async fn restart(deployment: &Deployment, mut node: Node, partitions: usize) -> Result<Node> {
    let (status, _) = node.terminate(STOP_TIMEOUT).await?;
    ensure!(status.success(), "{status}\n{}", node.log_tail());
    serve(deployment, partitions).await
}

/// The use of a node at rest, after commands in each context and a restart.
async fn used_after_a_restart(
    deployment: &Deployment,
    generated: &[String],
    partitions: usize,
) -> Result<Used> {
    let mut node = serve(deployment, partitions).await?;
    for number in 0..COMMANDS {
        write(&node, generated, &number.to_string(), false).await?;
    }
    node.caught_up().await?;
    let mut node = restart(deployment, node, partitions).await?;
    node.caught_up().await?;
    let brokers = &deployment.environment.kafka_brokers;
    let (_, port) = brokers.rsplit_once(':').context("a broker has a port")?;
    let port = port.parse()?;
    // Work that ends, such as a take-over, uses threads and consumers only for a while.
    let mut least = used(&node, port)?;
    let (end, mut polls) = (Instant::now() + OBSERVED, interval(OBSERVATION_INTERVAL));
    while polls.tick().await < end {
        least = least.least(&used(&node, port)?);
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
        memory_bytes: node.memory_bytes()?,
    })
}
