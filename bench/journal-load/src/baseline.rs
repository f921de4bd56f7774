//! The baseline: the same workload through the crate `cqrs-es` with its Postgres store. For each command it
//! loads the aggregate's events, decides, and inserts the new event in a transaction. It has no idempotency
//! keys.

use crate::{
    requests::Client,
    servers::Servers,
    workload::{Command, SoldOut, State, WorkloadEvent},
};
use anyhow::{Context, Result};
use cqrs_es::{Aggregate, AggregateError, DomainEvent, event_sink::EventSink};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde_json::{Map, Value};
use sqlx_of_baseline::{PgPool, postgres::PgPoolOptions};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// The table, as in `db/init.sql` of `postgres-es`.
const EVENTS_TABLE: &str = "
    DROP TABLE IF EXISTS events;
    CREATE TABLE events (
        aggregate_type text                         NOT NULL,
        aggregate_id   text                         NOT NULL,
        sequence       bigint CHECK (sequence >= 0) NOT NULL,
        event_type     text                         NOT NULL,
        event_version  text                         NOT NULL,
        payload        json                         NOT NULL,
        metadata       json                         NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence)
    )";

/// The load.
#[derive(clap::Args)]
pub struct Arguments {
    /// Suffix of the figures' ids, such as `_fsync_off`.
    #[arg(long, default_value = "")]
    suffix: String,
    /// Number of connections to Postgres.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Numbers of clients; each is measured in turn.
    #[arg(long, value_delimiter = ',', default_value = "4,16,64,256")]
    depths: Vec<u64>,
    /// Duration of the warm-up at each number of clients, in seconds.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Duration of the measurement at each number of clients, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Aggregate for State {
    const TYPE: &'static str = "product";
    type Command = Command;
    type Event = WorkloadEvent;
    type Error = SoldOut;
    type Services = ();

    async fn handle(
        &mut self,
        command: Command,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SoldOut> {
        if let Some(event) = self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: WorkloadEvent) {
        match event {
            WorkloadEvent::Described { description, .. } => self.describe(&description),
            WorkloadEvent::Counted { new, .. } => self.set_pieces(new),
        }
    }
}

impl DomainEvent for WorkloadEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Described { .. } => "Described".into(),
            Self::Counted { .. } => "Counted".into(),
        }
    }

    fn event_version(&self) -> String {
        "1.0".into()
    }
}

/// The running clients.
struct Load {
    framework: PostgresCqrs<State>,
    answered_count: AtomicU64,
    is_stopped: AtomicBool,
}

/// Runs the benchmark; returns its figures.
pub async fn run(servers: &Servers, arguments: &Arguments) -> Result<Value> {
    let postgres = servers.postgres.as_ref();
    let url = &postgres.context("DAYBOOK_POSTGRES_URL is not set")?.url;
    let options = PgPoolOptions::new()
        .max_connections(arguments.connections)
        .min_connections(arguments.connections);
    let pool = options.connect(url).await.context("postgres")?;
    let mut figures = Map::new();
    for depth in &arguments.depths {
        let rate = rate(&pool, *depth, arguments).await?;
        let id = format!("journal.cqrs_es_rate{}_depth_{depth}", arguments.suffix);
        figures.insert(id, rate.into());
    }
    Ok(figures.into())
}

/// Commands per second with a number of clients, from an empty table.
async fn rate(pool: &PgPool, depth: u64, arguments: &Arguments) -> Result<f64> {
    sqlx_of_baseline::raw_sql(EVENTS_TABLE)
        .execute(pool)
        .await?;
    let load = Arc::new(Load {
        framework: postgres_cqrs(pool.clone(), vec![], ()),
        answered_count: AtomicU64::new(0),
        is_stopped: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    for number in 0..depth {
        clients.spawn(run_client(load.clone(), Client::new(number)));
    }
    sleep(Duration::from_secs(arguments.warm_up)).await;
    let (started, before) = (Instant::now(), load.answered_count.load(Ordering::Relaxed));
    sleep(Duration::from_secs(arguments.seconds)).await;
    let answered = load.answered_count.load(Ordering::Relaxed) - before;
    let time = started.elapsed();
    load.is_stopped.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let answered = answered as f64;
    Ok(answered / time.as_secs_f64())
}

async fn run_client(load: Arc<Load>, mut client: Client) -> Result<()> {
    while !load.is_stopped.load(Ordering::Relaxed) {
        let (id, command) = client.next_description();
        let metadata = client.metadata();
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
        let metadata = metadata.collect();
        let framework = &load.framework;
        match framework
            .execute_with_metadata(&id, command, metadata)
            .await
        {
            Ok(()) => {
                load.answered_count.fetch_add(1, Ordering::Relaxed);
            }
            // Another client changed this product at the same time; this client continues with the next product.
            Err(AggregateError::AggregateConflict) => {}
            Err(error) => return Err(error).context("baseline command failed"),
        }
    }
    Ok(())
}
