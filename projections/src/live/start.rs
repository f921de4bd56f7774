//! The live updates of a node: created with its routes, and started once the journal can be read.

use super::{
    client::{Client, Sources},
    cursor::Cursor,
    following::follow,
    hub::Hub,
    known, missed,
    resume::Passes,
    target::{JOURNAL, Target},
};
use crate::databases::Databases;
use axum::http::StatusCode;
use journal::{Checkpoint, Readers, Source};
use schemas::{orders::Event, topics::PartitionCounts};
use service::{budget::Budget, problem::Problem};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Time between two heartbeats. All clients share one timer.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Default of the maximum number of live clients per process.
pub const CLIENTS_MAX_DEFAULT: usize = 10_000;

/// The live updates of a node. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    shared: Arc<Shared>,
}

struct Shared {
    databases: Databases,
    /// One permit per client.
    permits: Arc<Semaphore>,
    clients_max: usize,
    /// The budget of the events that clients have missed.
    missed: Budget,
    journal: OnceLock<Journal>,
    /// Initialised by the first client.
    sources: OnceCell<Arc<Sources<Event>>>,
}

/// The parts that the hub needs to start.
struct Journal {
    readers: Readers,
    source: Source,
    partitions: i32,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A client and its permit.
pub(super) struct Subscriber {
    pub client: Client<Event>,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    /// Live updates for at most `clients_max` clients. The events that clients have missed are a part of `budget`.
    pub fn new(databases: Databases, clients_max: usize, budget: &Budget) -> Self {
        Self {
            shared: Arc::new(Shared {
                databases,
                permits: Arc::new(Semaphore::new(clients_max.min(Semaphore::MAX_PERMITS))),
                clients_max,
                missed: missed::budget_of(budget),
                journal: OnceLock::new(),
                sources: OnceCell::new(),
            }),
        }
    }

    /// Accepts clients from now on. The hub reads nothing before the first client connects.
    pub fn start(
        &self,
        readers: Readers,
        source: Source,
        partitions: &PartitionCounts,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) {
        let journal = Journal {
            readers,
            source,
            partitions: partitions.of(JOURNAL),
            stop,
            tasks,
        };
        // A second call changes nothing.
        let _ = self.shared.journal.set(journal);
    }

    /// The databases, which have the orders and the customers.
    pub(super) fn databases(&self) -> &Databases {
        &self.shared.databases
    }

    /// The number of partitions of the journal.
    ///
    /// # Errors
    /// 503: the node is starting.
    pub(super) fn partitions(&self) -> Result<i32, Problem> {
        Ok(self.journal()?.partitions)
    }

    /// A client's stream.
    ///
    /// # Errors
    /// 503: the node is starting, or has its maximum number of clients.
    pub(super) async fn subscribe(
        &self,
        target: Target,
        cursor: Option<Cursor>,
    ) -> Result<Subscriber, Problem> {
        let permit = self.shared.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| {
            let detail = format!(
                "this node has its maximum of {} live clients: connect to another node, or try again later",
                self.shared.clients_max
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_LIVE_CLIENTS", detail)
        })?;
        let journal = self.journal()?;
        let sources = self
            .shared
            .sources
            .get_or_init(|| self.begin(journal))
            .await;
        Ok(Subscriber {
            client: Client::new(sources.clone(), target, cursor),
            _permit: permit,
        })
    }

    fn journal(&self) -> Result<&Journal, Problem> {
        self.shared.journal.get().ok_or_else(|| {
            let detail = "this node is still starting: connect again later";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "LIVE_NOT_READY", detail)
        })
    }

    /// Starts the hub, the passes over the log, and the heartbeats.
    async fn begin(&self, journal: &Journal) -> Arc<Sources<Event>> {
        let hub = Arc::new(Hub::new(self.shared.missed.clone()));
        let (resumes, passes) = Passes::new(hub.clone(), journal.source.clone());
        let (beat, heartbeats) = watch::channel(0);
        let (databases, partitions) = (self.shared.databases.clone(), journal.partitions);
        let (shared, log) = (journal.readers.of::<Event>(), journal.source.clone());
        let followed = hub.clone();
        let following = async move {
            let starts = starts(&databases, partitions).await;
            follow(followed, shared, log, starts).await;
        };
        let beating = async move {
            let first = Instant::now() + HEARTBEAT_INTERVAL;
            let mut ticks = tokio::time::interval_at(first, HEARTBEAT_INTERVAL);
            loop {
                ticks.tick().await;
                beat.send_modify(|count| *count += 1);
            }
        };
        journal.spawn("live hub", following);
        journal.spawn("live resumes", passes.run());
        journal.spawn("live heartbeats", beating);
        Arc::new(Sources {
            hub,
            resumes,
            heartbeats,
            stop: journal.stop.clone(),
        })
    }
}

impl Journal {
    /// Runs a task until the node stops.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = async move {
            stop.run_until_cancelled_owned(task).await;
        };
        let supervised = service::shutdown::supervise(name, self.stop.clone(), task);
        self.tasks.spawn(supervised);
    }
}

/// The checkpoints at which the hub starts: those of the view of orders, which are near the log's end. A partition
/// without a stored checkpoint is read from the log's start.
async fn starts(databases: &Databases, partitions: i32) -> Vec<Checkpoint> {
    let stored = known::checkpoints(databases).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to read checkpoints for live clients, reading the journal from its start");
        Vec::new()
    });
    let of_partition = |partition| {
        let stored = stored.iter().find(|stored| stored.partition == partition);
        stored
            .cloned()
            .unwrap_or_else(|| Checkpoint::start(JOURNAL, partition))
    };
    (0..partitions).map(of_partition).collect()
}
