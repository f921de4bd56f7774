//! `daybook serve`: all roles in one process; `daybook commands`: the write side alone.
//!
//! HTTP answers at once. Each component starts when the servers that it needs answer; until then,
//! `/health/ready` has the reason. The process ends only for an error that no retry can fix: a wrong setting,
//! or a topic or a schema that does not match its specification.

mod api;
pub mod connections;
mod linger;
mod logs;
pub mod operations;
pub mod probes;
pub mod progress;
mod topics;
#[cfg(test)]
mod unreachable;

pub use logs::{CountError, check_partition_counts};
pub use progress::ProgressAnswer;
#[cfg(test)]
pub use progress::ReaderProgress;

use crate::{config::Config, setup};
use anyhow::{Context, bail};
use axum::serve::ListenerExt;
use commands::{Node, WriteSideHandle, identity::Hasher, settings::read_hash_key};
use journal::{
    Kafka, Readers, Source,
    store::{Disk, StoreError},
};
use kafka::{Admin, Appender, Registry};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::{Databases, Live, SharedPartitions, supervisor::Assignment};
use schemas::topics::PartitionCounts;
use service::{
    budget::Budget,
    connection::WriteTimeoutListener,
    health::{Component, Health},
    hosts::Hosts,
    progress::Progress,
    shutdown::{self, supervise},
    telemetry::{init_metrics, keep_metrics},
};
use std::{collections::BTreeSet, net::SocketAddr, process::ExitCode, time::Duration};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The roles of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// All roles.
    All,
    /// The write side.
    Commands,
}

/// The parts of a process, before they start.
struct Service {
    config: Config,
    source: Source,
    hasher: Hasher,
    state: Disk,
    /// The readiness of the state store.
    state_health: Component,
    health: Health,
    write_side: WriteSideHandle,
    /// `None` unless the process has all roles.
    read_side: Option<ReadSide>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled once other nodes own this node's partitions, so that HTTP ends.
    closing: CancellationToken,
    /// Not ready until every role has started. It exists before HTTP answers, so that the process is never
    /// ready without a component.
    starting: Component,
}

/// Reasons why topics and schemas are not ready.
enum PrepareError {
    /// Another attempt may help.
    Transient(String),
    /// An operator must act.
    Final(anyhow::Error),
}

/// The read side and the job.
struct ReadSide {
    databases: Databases,
    progress: Progress,
    /// The job's windows, for queries.
    series: streams::Series,
    live: Live,
    /// The job's readiness.
    job: Component,
}

/// Runs until a signal, or until an error that no retry can fix.
pub async fn run(config: Config, roles: Roles) -> anyhow::Result<ExitCode> {
    let listener = listen(&config).await?;
    let commands = config
        .commands
        .as_ref()
        .context("setting commands.hash_key_file is missing")?;
    let hasher = Hasher::new(read_hash_key(&commands.hash_key_file)?);
    let state = Disk::new(&commands.state_dir)?;
    let metrics = init_metrics()?;
    let stop = shutdown::on_signal()?;
    let source = Source {
        kafka: config.kafka.clone(),
        admin: Admin::new(&config.kafka)?,
        registry: Registry::new(&config.registry)?.keeping(&commands.state_dir, &config.kafka),
    };
    let health = Health::default();
    let starting = health.component("topics and schemas");
    let state_health = health.component("state store");
    let budget = Budget::new(config.http.waiting_bytes_max);
    let read_side = match roles {
        Roles::All => Some(ReadSide::new(&config, &health, &budget)?),
        Roles::Commands => None,
    };
    let write_side = WriteSideHandle::new(budget);
    let hosts = config.http.hosts()?;
    let service = Service {
        config,
        source,
        hasher,
        state,
        state_health,
        health,
        write_side,
        read_side,
        tasks: TaskTracker::new(),
        stop,
        closing: CancellationToken::new(),
        starting,
    };
    service.serve_http(listener, hosts, metrics);
    service.run().await
}

impl ReadSide {
    fn new(config: &Config, health: &Health, budget: &Budget) -> anyhow::Result<Self> {
        let databases = Databases::connect_lazily(&config.postgres, &config.cql)?;
        Ok(Self {
            live: Live::new(databases.clone(), config.http.live_clients_max, budget),
            databases,
            progress: Progress::default(),
            series: streams::Series::default(),
            job: health.component(format!("job.{}", streams::JOB)),
        })
    }

    /// Starts the views' projectors and the job.
    fn start(
        self,
        views: projections::Runtime,
        source: Source,
        partitions: &PartitionCounts,
        config: &Config,
    ) -> Result<(), kafka::GroupError> {
        let assignment = assignment(&views, config)?;
        projections::run(&views, &self.databases, assignment);
        self.live.start(
            views.readers.clone(),
            source.clone(),
            partitions,
            views.shutdown.clone(),
            views.tasks.clone(),
        );
        let job = streams::Job::new(
            source,
            views.readers.clone(),
            self.job,
            self.progress,
            self.series,
            partitions,
        );
        let stop = views.shutdown.clone();
        let job = job.run(stop.clone());
        views.tasks.spawn(supervise("job", stop, job));
        Ok(())
    }
}

/// The partitions of the views that the settings give this process.
fn assignment(
    views: &projections::Runtime,
    config: &Config,
) -> Result<watch::Receiver<Assignment>, kafka::GroupError> {
    let fixed = match config.views.partitions {
        SharedPartitions::All => Assignment::All,
        SharedPartitions::None => Assignment::Only(BTreeSet::new()),
        SharedPartitions::Group => return projections::group::join(views, &config.views_member()),
    };
    Ok(watch::channel(fixed).1)
}

impl Service {
    /// Serves HTTP until the partitions are handed over.
    fn serve_http(
        &self,
        listener: WriteTimeoutListener<impl axum::serve::Listener<Addr = SocketAddr>>,
        hosts: Hosts,
        metrics: PrometheusHandle,
    ) {
        let read_side = self.read_side.as_ref().map(|read_side| api::ReadSide {
            databases: read_side.databases.clone(),
            series: read_side.series.clone(),
            progress: read_side.progress.clone(),
            live: read_side.live.clone(),
            admin: self.source.admin.clone(),
            position_wait_max: Duration::from_millis(self.config.http.position_wait_ms),
        });
        let router = api::router(api::ApiState {
            write_side: self.write_side.clone(),
            read_side,
            health: self.health.clone(),
            metrics: metrics.clone(),
            hosts,
            stop: self.stop.clone(),
        });
        let http = connections::serve_until(self.closing.clone(), listener, router);
        let (tasks, stop) = (&self.tasks, self.stop.clone());
        tasks.spawn(supervise("http", stop.clone(), http));
        tasks.spawn(supervise(
            "metrics",
            stop.clone(),
            keep_metrics(metrics, stop),
        ));
        tracing::info!(address = %self.config.http.listen, "http is listening");
    }

    async fn run(self) -> anyhow::Result<ExitCode> {
        let (tasks, stop, closing) = (self.tasks.clone(), self.stop.clone(), self.closing.clone());
        let write_side = self.write_side.clone();
        let started = self.start().await;
        if started.is_ok() {
            stop.cancelled().await;
        }
        stop.cancel();
        // A started write side cancels it once it has handed over.
        if !write_side.is_set() {
            closing.cancel();
        }
        let ended = shutdown::wait_for(&tasks).await;
        tracing::info!(ended, "the process ends");
        started.map(|()| {
            if ended {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        })
    }

    /// Starts every role once topics and schemas are ready.
    async fn start(self) -> anyhow::Result<()> {
        let databases = self
            .read_side
            .as_ref()
            .map(|read_side| &read_side.databases);
        let probes = probes::run(
            self.source.clone(),
            databases.cloned(),
            self.health.clone(),
            self.stop.clone(),
        );
        let stop = self.stop.clone();
        self.tasks.spawn(supervise("probes", stop.clone(), probes));
        let Some(prepared) = self.prepare().await? else {
            return Ok(());
        };
        let setup::ReadyTopics {
            encoders,
            partitions,
            message_bytes_max,
        } = prepared;
        let log = self.log(&message_bytes_max)?;
        let (misconfigured, misconfigured_topics) = watch::channel(Default::default());
        let listen = self.config.http.listen;
        let commands = self.config.commands.as_ref();
        let node = Node {
            log: log.clone(),
            partitions: partitions.clone(),
            state: self.state,
            health: &self.health,
            owner_url: format!("http://{listen}"),
            member: commands
                .and_then(|commands| commands.member.clone())
                .unwrap_or_else(|| listen.to_string()),
            misconfigured: misconfigured_topics,
            tasks: &self.tasks,
            stop: self.stop.clone(),
            closing: self.closing.clone(),
        };
        let encoder = |context: &schemas::Context| encoders[context.topic].clone();
        let contexts = commands::contexts::CONTEXTS;
        let write_side = commands::start(&node, contexts, &encoder, self.hasher)?;
        self.write_side.set(write_side.clone());
        if let Some(read_side) = self.read_side {
            let views = projections::Runtime {
                readers: Readers::new(self.source.clone()),
                source: self.source.clone(),
                partitions: partitions.clone(),
                health: self.health.clone(),
                progress: read_side.progress.clone(),
                shutdown: stop.clone(),
                tasks: self.tasks.clone(),
            };
            read_side.start(views, self.source.clone(), &partitions, &self.config)?;
        }
        let admin = self.source.admin.clone();
        let check = topics::check(
            Duration::from_millis(self.config.kafka.topic_check_interval_ms),
            admin,
            partitions.clone(),
            logs::Logs::new(log, write_side, partitions),
            self.health.component("topics"),
            misconfigured,
            stop.clone(),
        );
        self.tasks.spawn(supervise("topics", stop, check));
        // This comes last: the process must not seem ready before every role has a component of its own.
        self.starting.ready();
        Ok(())
    }

    /// The journals' log. Its appender sends no record that exceeds the topic's maximum size.
    fn log(&self, message_bytes_max: &[(&str, usize)]) -> anyhow::Result<Kafka> {
        let appender = Appender::new(&self.config.kafka)?;
        for (topic, bytes_max) in message_bytes_max {
            appender.set_message_bytes_max(topic, *bytes_max)?;
        }
        let source = self.source.clone();
        Ok(Kafka { source, appender })
    }

    /// Opens the state store, waits for the disk if necessary, and then watches it. Returns `false` if the
    /// process must stop first.
    async fn open_state(&self) -> Result<bool, StoreError> {
        let mut waits = service::Backoff::for_server();
        let pulse = self.state.pulse();
        loop {
            let opened = probes::opened(self.state.open(), &pulse, &self.state_health);
            match self.stop.run_until_cancelled(opened).await {
                Some(Ok(())) => break,
                Some(Err(error @ StoreError::Unavailable { .. })) => {
                    self.state_health.not_ready(error.to_string());
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(false),
            }
            tokio::select! {
                () = tokio::time::sleep(waits.wait()) => {},
                () = self.stop.cancelled() => return Ok(false),
            }
        }
        let stop = self.stop.clone();
        let watch = probes::watch_state(pulse, self.state_health.clone(), stop.clone());
        self.tasks.spawn(supervise("state store", stop, watch));
        Ok(true)
    }

    /// Waits for the state store, then for topics and schemas. Returns `None` if the process must stop first.
    async fn prepare(&self) -> anyhow::Result<Option<setup::ReadyTopics>> {
        if !self.open_state().await? {
            return Ok(None);
        }
        for wait in service::Backoff::for_server() {
            match self.stop.run_until_cancelled(self.try_prepare()).await {
                Some(Ok(prepared)) => return Ok(Some(prepared)),
                Some(Err(PrepareError::Transient(reason))) => self.starting.not_ready(reason),
                Some(Err(PrepareError::Final(error))) => return Err(error),
                None => return Ok(None),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {},
                () = self.stop.cancelled() => return Ok(None),
            }
        }
        bail!("the back-off between attempts has ended, although it is unlimited")
    }

    async fn try_prepare(&self) -> Result<setup::ReadyTopics, PrepareError> {
        let source = &self.source;
        let prepared = match setup::prepare(source).await {
            Ok(prepared) => prepared,
            Err(error) if error.is_transient() => {
                return Err(PrepareError::Transient(error.to_string()));
            }
            Err(error) => return Err(PrepareError::Final(error.into())),
        };
        match check_partition_counts(source, &prepared.partitions).await {
            Ok(()) => Ok(prepared),
            Err(CountError::Mismatch(error)) => Err(PrepareError::Final(error.into())),
            Err(CountError::Unread(error)) => Err(PrepareError::Transient(error.to_string())),
        }
    }
}

pub(crate) async fn listen(
    config: &Config,
) -> anyhow::Result<WriteTimeoutListener<impl axum::serve::Listener<Addr = SocketAddr>>> {
    let address = config.http.listen;
    if !address.ip().is_loopback() {
        bail!(
            "http.listen is {address}; name a loopback address, because the service has no sign-in yet"
        );
    }
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on http.listen = {address}"))?;
    // Small answers must not wait for the acknowledgement of earlier answers.
    Ok(WriteTimeoutListener(listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set on a connection");
        }
    })))
}
