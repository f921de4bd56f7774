//! The peer: the same commands under the same rules through the crate `cqrs-es` with its Postgres store.
//! For each command it loads the aggregate's events, decides, and inserts the new event in a transaction;
//! it has no idempotency keys.

use crate::{
    requests::Client,
    servers::Servers,
    shelf::{Command, Fact, SoldOut, State},
};
use anyhow::{Context, Result};
use cqrs_es::{Aggregate, AggregateError, DomainEvent, event_sink::EventSink};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde_json::{Map, Value};
use sqlx_of_peer::{PgPool, postgres::PgPoolOptions};
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

/// The table as the peer's own `db/init.sql` has it.
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
    /// What the figures' ids end with, such as `_fsync_off`.
    #[arg(long, default_value = "")]
    suffix: String,
    /// Connections to Postgres.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Numbers of clients to try, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "4,16,64,256")]
    depths: Vec<u64>,
    /// Seconds before counting begins, at each depth.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Seconds that are counted, at each depth.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Aggregate for State {
    const TYPE: &'static str = "product";
    type Command = Command;
    type Event = Fact;
    type Error = SoldOut;
    type Services = ();

    async fn handle(
        &mut self,
        command: Command,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SoldOut> {
        if let Some(fact) = self.decide(&command)? {
            sink.write(fact, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Described { description, .. } => self.describe(&description),
            Fact::Counted { new, .. } => self.count(new),
        }
    }
}

impl DomainEvent for Fact {
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

/// Clients at work.
struct Load {
    framework: PostgresCqrs<State>,
    answered: AtomicU64,
    stopped: AtomicBool,
}

/// Measures.
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

/// Commands per second with so many clients, from an empty table.
async fn rate(pool: &PgPool, depth: u64, arguments: &Arguments) -> Result<f64> {
    sqlx_of_peer::raw_sql(EVENTS_TABLE).execute(pool).await?;
    let load = Arc::new(Load {
        framework: postgres_cqrs(pool.clone(), vec![], ()),
        answered: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    for number in 0..depth {
        clients.spawn(ask_on(load.clone(), Client::new(number)));
    }
    sleep(Duration::from_secs(arguments.warm_up)).await;
    let (started, before) = (Instant::now(), load.answered.load(Ordering::Relaxed));
    sleep(Duration::from_secs(arguments.seconds)).await;
    let answered = load.answered.load(Ordering::Relaxed) - before;
    let time = started.elapsed();
    load.stopped.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let answered = answered as f64;
    Ok(answered / time.as_secs_f64())
}

async fn ask_on(load: Arc<Load>, mut client: Client) -> Result<()> {
    while !load.stopped.load(Ordering::Relaxed) {
        let (id, command) = client.describing();
        let metadata = client.metadata();
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
        let metadata = metadata.collect();
        let framework = &load.framework;
        match framework
            .execute_with_metadata(&id, command, metadata)
            .await
        {
            Ok(()) => {
                load.answered.fetch_add(1, Ordering::Relaxed);
            }
            // Another client was quicker with the same shelf; this one goes on with the next.
            Err(AggregateError::AggregateConflict) => {}
            Err(error) => return Err(error).context("the peer"),
        }
    }
    Ok(())
}
