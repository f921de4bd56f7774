//! Clients that each change one product, one command after the other, at whichever process answers.
//!
//! A command is sent again under its key until it is done, so each client knows what must stand in
//! the log; its answers' versions must count up without a gap.

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
use system_tests::{Client, Look, until};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Clients, each with a product; together they meet every partition.
const CLIENTS: usize = 16;
/// Longest time for a command to be done, whatever happens.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two tries of a command.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two commands of a client.
const THINK_TIME: Duration = Duration::from_millis(2);

/// Why locks are had.
const UNPOISONED: &str = "no holder of this lock panics";

/// What was seen since the last look.
#[derive(Debug, Clone, Default)]
pub struct Pause {
    /// The longest time that a client waited for one command.
    pub longest: Duration,
    /// Commands done.
    pub commands: usize,
    /// What clients were told instead of an answer, and how often.
    pub errors: HashMap<String, usize>,
}

/// The clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<(String, usize)>>>,
}

#[derive(Default)]
struct Shared {
    /// Where clients send their commands.
    addresses: Mutex<Vec<SocketAddr>>,
    seen: Mutex<Pause>,
    /// By client, commands done since the last look.
    done: [AtomicUsize; CLIENTS],
    ending: AtomicBool,
}

impl Load {
    /// Sets the clients to work, and returns once each has done something.
    pub async fn begin(addresses: &[SocketAddr]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        *shared.addresses.lock().expect(UNPOISONED) = addresses.to_vec();
        let clients = (0..CLIENTS)
            .map(|number| tokio::spawn(work(shared.clone(), number)))
            .collect();
        let load = Self { shared, clients };
        load.pause_of_everyone().await?;
        Ok(load)
    }

    /// Sends commands to one more process.
    pub fn add(&self, address: SocketAddr) {
        self.shared
            .addresses
            .lock()
            .expect(UNPOISONED)
            .push(address);
    }

    /// Sends nothing more to a process.
    pub fn remove(&self, address: SocketAddr) {
        self.shared.forget(address);
    }

    /// What was seen since the last look.
    pub fn pause(&self) -> Pause {
        for done in &self.shared.done {
            done.store(0, Ordering::Relaxed);
        }
        std::mem::take(&mut *self.shared.seen.lock().expect(UNPOISONED))
    }

    /// What was seen since the last look, once every client has begun and done a command from now on.
    pub async fn pause_of_everyone(&self) -> Result<Pause> {
        for done in &self.shared.done {
            done.store(0, Ordering::Relaxed);
        }
        let waited = until("every client's next command", COMMAND_TIMEOUT, async || {
            if let Some(ended) = self.clients.iter().position(JoinHandle::is_finished) {
                bail!("client {ended} has ended");
            }
            // The first one may have begun before.
            let mut done = self
                .shared
                .done
                .iter()
                .map(|done| done.load(Ordering::Relaxed));
            Ok(Look::at(done.all(|done| done >= 2), || {
                format!("{:?}", self.shared.done)
            }))
        });
        waited.await?;
        Ok(self.pause())
    }

    /// Ends the clients after their last commands; gives how many each product has had.
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
        // The last one may come back.
        if addresses.len() > 1 {
            addresses.retain(|known| *known != address);
        }
    }

    fn is_done(&self, number: usize, waited: Duration) {
        self.done[number].fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().expect(UNPOISONED);
        seen.commands += 1;
        seen.longest = seen.longest.max(waited);
    }

    fn is_told(&self, error: &str) {
        let mut seen = self.seen.lock().expect(UNPOISONED);
        *seen.errors.entry(error.to_owned()).or_default() += 1;
    }
}

/// One client; gives its product and how many commands it has had.
async fn work(shared: Arc<Shared>, number: usize) -> Result<(String, usize)> {
    let sku = format!("LOAD-{number}");
    let mut clients = HashMap::new();
    let mut count = 0;
    while !shared.ending.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let version = command(&shared, &mut clients, &sku, count).await?;
        shared.is_done(number, begun.elapsed());
        count += 1;
        ensure!(
            version == count,
            "{sku}: version {version} after {count} commands"
        );
        sleep(THINK_TIME).await;
    }
    Ok((sku, count))
}

/// One command, until it is done; gives the product's version after it.
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
        // Each price is another one, so that none is "already so".
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
    for turn in count.. {
        ensure!(
            Instant::now() < deadline,
            "{sku}: command {count} was not done in time"
        );
        let address = {
            let addresses = shared.addresses.lock().expect(UNPOISONED);
            addresses[turn % addresses.len()]
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
                // As a load balancer does with one that is not ready any more.
                let parts = response
                    .headers()
                    .get("connection")
                    .is_some_and(|value| value == "close");
                if parts {
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
                    500.. => shared.is_told(&text),
                    _ => bail!("{sku}: {status} {text}"),
                }
            }
            // Nothing was sent: another process is asked, as after any connection refused.
            Err(error) if error.is_connect() => {}
            Err(error) => shared.is_told(&format!("{:#}", anyhow::Error::from(error))),
        }
        sleep(RETRY_INTERVAL).await;
    }
    bail!("{sku}: there are no more turns")
}
