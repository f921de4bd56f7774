//! Latency at a fixed offered load. The load is open: each command is sent at its scheduled time, however
//! slow the answers are, and its latency counts from the scheduled time.

use crate::{fresh_log, owners::Owners, requests::Client, servers::Servers, usage};
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::TaskTracker;

/// Maximum number of commands in flight. If there are more, the owners can't keep up and the benchmark fails.
const IN_FLIGHT_MAX: usize = 100_000;
/// The highest latency of the histogram, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Number of clients. They send in turn.
const CLIENTS: u64 = 1_000;

/// The offered load.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the owners' state stores. It is emptied.
    #[arg(long)]
    store: PathBuf,
    /// Commands per second.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Duration of the warm-up, in seconds.
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Duration of the measurement, in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

/// The results of the commands sent so far.
struct Results {
    latency_us: Histogram<u64>,
    /// The first error.
    failure: Option<anyhow::Error>,
}

/// Runs the benchmark; returns its figures.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<Value> {
    let encoder = fresh_log::create(servers, &arguments.store).await?;
    let owners = Arc::new(Owners::start(servers, &encoder, &arguments.store).await?);
    let results = Arc::new(Mutex::new(Results {
        latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3)?,
        failure: None,
    }));
    let pacer = Pacer {
        runtime: Handle::current(),
        owners,
        results: results.clone(),
        tasks: TaskTracker::new(),
        permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
    };
    let tasks = pacer.tasks.clone();
    let (rate, warm_up, seconds) = (arguments.rate, arguments.warm_up, arguments.seconds);
    // The pacer has its own thread, because the runtime's timers have a resolution of a millisecond.
    let sent = tokio::task::spawn_blocking(move || pacer.send(rate, warm_up, seconds));
    sent.await??;
    tasks.close();
    tasks.wait().await;
    let mut results = results.lock().map_err(|_| poisoned())?;
    if let Some(failure) = results.failure.take() {
        return Err(failure.context("a command failed"));
    }
    let latency_us = &results.latency_us;
    ensure!(
        latency_us.len() == rate * seconds,
        "{} latencies of {} commands",
        latency_us.len(),
        rate * seconds
    );
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let quantile_ms = |quantile: f64| latency_us.value_at_quantile(quantile) as f64 / 1e3;
    let thousands = rate / 1_000;
    Ok(json!({
        (format!("journal.p50_ms_at_{thousands}k")): quantile_ms(0.5),
        (format!("journal.p99_ms_at_{thousands}k")): quantile_ms(0.99),
        (format!("journal.p999_ms_at_{thousands}k")): quantile_ms(0.999),
        (format!("journal.max_ms_at_{thousands}k")): quantile_ms(1.0),
        "journal.rss_mb": usage::peak_mb("self")?,
    }))
}

/// Sends commands at their scheduled times.
struct Pacer {
    runtime: Handle,
    owners: Arc<Owners>,
    results: Arc<Mutex<Results>>,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl Pacer {
    fn send(&self, rate: u64, warm_up: u64, seconds: u64) -> Result<()> {
        let mut clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
        let interval = Duration::from_secs(1) / u32::try_from(rate).context("the rate")?;
        let start = Instant::now();
        for number in 0..rate * (warm_up + seconds) {
            let due = start + interval * u32::try_from(number).context("the command's number")?;
            wait_until(due);
            let index = usize::try_from(number % CLIENTS)?;
            self.send_one(&mut clients[index], due, number >= rate * warm_up)?;
        }
        Ok(())
    }

    fn send_one(&self, client: &mut Client, due: Instant, is_counted: bool) -> Result<()> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            bail!("{IN_FLIGHT_MAX} commands are in flight: the owners can't keep up");
        };
        let request = client.next_request();
        let (owners, results) = (self.owners.clone(), self.results.clone());
        let task = async move {
            let answer = owners.execute(request).await;
            let latency_us = u64::try_from(due.elapsed().as_micros()).unwrap_or(LATENCY_US_MAX);
            let mut results = results.lock().expect("no holder of this lock panics");
            match answer {
                Ok(_) if is_counted => results.latency_us.saturating_record(latency_us),
                Ok(_) => {}
                Err(error) => {
                    results.failure.get_or_insert(error);
                }
            }
            drop(permit);
        };
        self.tasks.spawn_on(task, &self.runtime);
        Ok(())
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // No other thread unparks this one; a spurious wake-up is harmless.
        std::thread::park_timeout(left);
    }
}

fn poisoned() -> anyhow::Error {
    anyhow::anyhow!("a task panicked while it held the results")
}
