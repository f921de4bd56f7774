//! Clients that each change one product, one command after the other, at any node that answers.
//!
//! A command is sent again under its key until it is acknowledged, so each client knows the expected content of
//! the log. The versions in its answers must count up without a gap.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use system_tests::{Client, Poll, until};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Clients, each with a product; together their products are in every partition.
const CLIENTS: usize = 16;
/// Longest time until a command is done.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two attempts of a command.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two commands of a client.
const THINK_TIME: Duration = Duration::from_millis(2);

/// The reason why no lock is poisoned.
const UNPOISONED: &str = "no holder of this lock panics";

/// The clients' waiting time and errors during a change of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Pause {
    /// The longest time that a client waited for one command.
    pub longest: Duration,
    /// Commands done.
    pub commands: usize,
    /// Number of each error that clients got.
    pub errors: HashMap<String, usize>,
}

/// The running clients.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<(String, usize)>>>,
}

#[derive(Default)]
struct Shared {
    /// The nodes that clients send commands to.
    addresses: Mutex<Vec<SocketAddr>>,
    pause: Mutex<Pause>,
    /// By client, commands done since the last change.
    done: [AtomicUsize; CLIENTS],
    ending: AtomicBool,
}

impl Load {
    /// Starts the clients; returns once each has done a command.
    pub async fn begin(addresses: &[SocketAddr]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        *shared.addresses.lock().expect(UNPOISONED) = addresses.to_vec();
        let clients = (0..CLIENTS)
            .map(|number| tokio::spawn(work(shared.clone(), number)))
            .collect();
        let load = Self { shared, clients };
        load.pause_of_every_client().await?;
        Ok(load)
    }

    /// Sends commands to one more node.
    pub fn add(&self, address: SocketAddr) {
        self.shared
            .addresses
            .lock()
            .expect(UNPOISONED)
            .push(address);
    }

    /// Sends no more commands to a node.
    pub fn remove(&self, address: SocketAddr) {
        self.shared.forget(address);
    }

    /// The waiting time and errors since the last call.
    pub fn take_pause(&self) -> Pause {
        for done in &self.shared.done {
            done.store(0, Ordering::Relaxed);
        }
        std::mem::take(&mut *self.shared.pause.lock().expect(UNPOISONED))
    }

    /// The waiting time and errors since the last call. Returns once every client has begun and done a command
    /// after this call.
    pub async fn pause_of_every_client(&self) -> Result<Pause> {
        for done in &self.shared.done {
            done.store(0, Ordering::Relaxed);
        }
        let waited = until(
            "the next command of every client",
            COMMAND_TIMEOUT,
            async || {
                if let Some(ended) = self.clients.iter().position(JoinHandle::is_finished) {
                    bail!("client {ended} has ended with an error");
                }
                // The first command may have begun before this call, so the second one counts.
                let mut done = self
                    .shared
                    .done
                    .iter()
                    .map(|done| done.load(Ordering::Relaxed));
                Ok(Poll::of(done.all(|done| done >= 2), || {
                    format!("{:?}", self.shared.done)
                }))
            },
        );
        waited.await?;
        Ok(self.take_pause())
    }

    /// Stops the clients after their last commands; returns the number of commands by product.
    pub async fn end(self) -> Result<HashMap<String, usize>> {
        self.shared.ending.store(true, Ordering::Relaxed);
        let mut acknowledged = HashMap::new();
        for client in self.clients {
            let (sku, count) = client.await??;
            acknowledged.insert(sku, count);
        }
        Ok(acknowledged)
    }
}

impl Shared {
    fn forget(&self, address: SocketAddr) {
        let mut addresses = self.addresses.lock().expect(UNPOISONED);
        // The last node may start again.
        if addresses.len() > 1 {
            addresses.retain(|known| *known != address);
        }
    }

    fn completed(&self, number: usize, waited: Duration) {
        self.done[number].fetch_add(1, Ordering::Relaxed);
        let mut pause = self.pause.lock().expect(UNPOISONED);
        pause.commands += 1;
        pause.longest = pause.longest.max(waited);
    }

    fn failed(&self, error: &str) {
        let mut pause = self.pause.lock().expect(UNPOISONED);
        *pause.errors.entry(error.to_owned()).or_default() += 1;
    }
}

/// One client; returns its product and the number of its commands.
async fn work(shared: Arc<Shared>, number: usize) -> Result<(String, usize)> {
    let sku = format!("LOAD-{number}");
    let mut clients = HashMap::new();
    let mut count = 0;
    while !shared.ending.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let version = command(&shared, &mut clients, &sku, count).await?;
        shared.completed(number, begun.elapsed());
        count += 1;
        ensure!(
            version == count,
            "{sku}: version {version} after {count} commands"
        );
        sleep(THINK_TIME).await;
    }
    Ok((sku, count))
}

/// Sends one command until it is done; returns the product's version after it.
async fn command(
    shared: &Shared,
    clients: &mut HashMap<SocketAddr, Client>,
    sku: &str,
    count: usize,
) -> Result<usize> {
    let (path, body) = match count {
        0 => (
            "/api/v1/products".to_owned(),
            json!({"sku": sku, "description": "a product"}),
        ),
        // Each price is new, so that every command records an event.
        _ => (
            format!("/api/v1/products/{sku}/price"),
            json!({"price": {"amount": count, "currency": "GBP"}}),
        ),
    };
    let method = if count == 0 {
        reqwest::Method::POST
    } else {
        reqwest::Method::PUT
    };
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    for attempt in count.. {
        ensure!(
            Instant::now() < deadline,
            "{sku}: command {count} was not done in time"
        );
        let address = {
            let addresses = shared.addresses.lock().expect(UNPOISONED);
            addresses[attempt % addresses.len()]
        };
        if let std::collections::hash_map::Entry::Vacant(entry) = clients.entry(address) {
            entry.insert(Client::new(format!("http://{address}"))?);
        }
        let request = clients[&address]
            .request(method.clone(), &path)
            .header("idempotency-key", format!("{sku}/{count}"))
            .json(&body);
        match request.send().await {
            Ok(response) => {
                // Like a load balancer, the client leaves a node that closes its connections.
                let is_closing = response
                    .headers()
                    .get("connection")
                    .is_some_and(|value| value == "close");
                if is_closing {
                    shared.forget(address);
                }
                let status = response.status().as_u16();
                let text = response.text().await.unwrap_or_default();
                match status {
                    201 => {
                        let body: serde_json::Value = serde_json::from_str(&text)?;
                        let version = body["version"].as_u64().context("no version")?;
                        return Ok(usize::try_from(version)?);
                    }
                    500.. => shared.failed(&text),
                    _ => bail!("{sku}: {status} instead of 201: {text}"),
                }
            }
            // Nothing was sent, so the next attempt goes to another node.
            Err(error) if error.is_connect() => {}
            Err(error) => shared.failed(&format!("{:#}", anyhow::Error::from(error))),
        }
        sleep(RETRY_INTERVAL).await;
    }
    bail!("{sku}: command {count} has no attempts left")
}
