//! `daybook serve`: all roles in one process; `daybook commands`: the write side alone.
//!
//! HTTP answers at once; everything behind it comes up as the servers that it needs do, and says in
//! `/health/ready` what it waits for. Only what no waiting mends ends the process: a wrong setting,
//! a topic or a schema that is not as it must be.

mod api;
mod linger;
mod logs;
mod probes;
mod progress;
mod topics;

pub use progress::ProgressAnswer;

use crate::{config::Config, setup};
use anyhow::{Context, bail};
use axum::serve::ListenerExt;
use commands::{
    Process, Slot, WriteSide, identity::Hasher, routing::fitness::Unfit, settings::read_hash_key,
};
use journal::{Kafka, Source, store::Disk};
use kafka::{Admin, Appender, Registry};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::Databases;
use service::{
    health::{Component, Health},
    progress::Progress,
    shutdown::{self, supervise},
    telemetry::{init_metrics, keep_metrics},
};
use std::process::ExitCode;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Everything.
    All,
    /// Takes commands.
    Commands,
}

/// Everything that runs.
struct Service {
    config: Config,
    source: Source,
    hasher: Hasher,
    state: Disk,
    health: Health,
    slot: Slot,
    /// Only with all roles.
    reading: Option<Reading>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled once other processes own what this one owned: then HTTP ends.
    closing: CancellationToken,
    /// Why the process stops to make room for others, if it does.
    unfit: Unfit,
}

/// The read side and the job.
struct Reading {
    databases: Databases,
    progress: Progress,
    job: streams::Job,
}

/// Runs until a signal, or until something is wrong that no waiting mends.
pub async fn run(config: Config, roles: Roles) -> anyhow::Result<ExitCode> {
    let listener = listen(&config).await?;
    let commands = config
        .commands
        .as_ref()
        .context("setting commands.hash_key_file is missing")?;
    let hasher = Hasher::new(read_hash_key(&commands.hash_key_file)?);
    let state = Disk::open(&commands.state_dir)?;
    let metrics = init_metrics()?;
    let stop = shutdown::on_signal()?;
    let source = Source {
        kafka: config.kafka.clone(),
        admin: Admin::new(&config.kafka)?,
        registry: Registry::new(&config.registry)?,
    };
    let health = Health::default();
    let reading = match roles {
        Roles::All => Some(Reading::new(&config, &source, &health)?),
        Roles::Commands => None,
    };
    let service = Service {
        config,
        source,
        hasher,
        state,
        health,
        slot: Slot::default(),
        reading,
        tasks: TaskTracker::new(),
        stop,
        closing: CancellationToken::new(),
        unfit: Unfit::default(),
    };
    service.serve_http(listener, metrics);
    service.run().await
}

impl Reading {
    fn new(config: &Config, source: &Source, health: &Health) -> anyhow::Result<Self> {
        let progress = Progress::default();
        let component = health.component("job.revenue_by_country");
        Ok(Self {
            databases: Databases::connect_lazily(&config.postgres, &config.cql)?,
            job: streams::Job::new(source.clone(), component, progress.clone()),
            progress,
        })
    }
}

impl Service {
    /// Answers HTTP from now on, until the offices are handed over.
    fn serve_http(
        &self,
        listener: impl axum::serve::Listener<Addr = std::net::SocketAddr>,
        metrics: PrometheusHandle,
    ) {
        let reading = self.reading.as_ref().map(|reading| api::Reading {
            databases: reading.databases.clone(),
            series: reading.job.series(),
            progress: reading.progress.clone(),
            admin: self.source.admin.clone(),
        });
        let router = api::router(api::Parts {
            slot: self.slot.clone(),
            reading,
            health: self.health.clone(),
            metrics: metrics.clone(),
            stop: self.stop.clone(),
        });
        let http = axum::serve(listener, router)
            .with_graceful_shutdown(self.closing.clone().cancelled_owned());
        let http = async move {
            if let Err(error) = http.await {
                tracing::error!(%error, "http ended");
            }
        };
        let (tasks, stop) = (&self.tasks, self.stop.clone());
        tasks.spawn(supervise("http", stop.clone(), http));
        tasks.spawn(supervise(
            "metrics",
            stop.clone(),
            keep_metrics(metrics, stop),
        ));
        tracing::info!(address = %self.config.http.listen, "listening");
    }

    async fn run(self) -> anyhow::Result<ExitCode> {
        let (tasks, stop, closing) = (self.tasks.clone(), self.stop.clone(), self.closing.clone());
        let (slot, unfit) = (self.slot.clone(), self.unfit.clone());
        let started = self.start().await;
        if started.is_ok() {
            stop.cancelled().await;
        }
        stop.cancel();
        // Else the write side does it, once it has handed over.
        if !slot.is_filled() {
            closing.cancel();
        }
        let ended = shutdown::wait_for(&tasks).await;
        tracing::info!(ended, "stopped");
        if let Some(reason) = unfit.reason() {
            bail!("this process can't own what others could, and made room for them: {reason}");
        }
        started.map(|()| {
            if ended {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        })
    }

    /// Starts every role once topics and schemas are there.
    async fn start(self) -> anyhow::Result<()> {
        let databases = self.reading.as_ref().map(|reading| &reading.databases);
        let probes = probes::run(
            self.source.clone(),
            databases.cloned(),
            self.health.clone(),
            self.stop.clone(),
        );
        let stop = self.stop.clone();
        self.tasks.spawn(supervise("probes", stop.clone(), probes));
        let Some((encoders, component)) = self.prepare().await? else {
            return Ok(());
        };
        let (unsound, is_unsound) = watch::channel(Default::default());
        let listen = self.config.http.listen;
        let commands = self.config.commands.as_ref();
        let process = Process {
            log: Kafka {
                source: self.source.clone(),
                appender: Appender::new(&self.config.kafka)?,
            },
            state: self.state,
            health: &self.health,
            owner_url: format!("http://{listen}"),
            member: commands
                .and_then(|commands| commands.member.clone())
                .unwrap_or_else(|| listen.to_string()),
            unsound: is_unsound,
            unfit: self.unfit.clone(),
            tasks: &self.tasks,
            stop: self.stop.clone(),
            closing: self.closing.clone(),
        };
        let encoder = |context: &schemas::Context| encoders[context.topic].clone();
        let write_side = WriteSide::start(&process, encoder, self.hasher)?;
        self.slot.fill(write_side.clone());
        if let Some(reading) = self.reading {
            let views = projections::Runtime {
                source: self.source.clone(),
                health: self.health.clone(),
                progress: reading.progress,
                shutdown: self.stop.clone(),
                tasks: self.tasks.clone(),
            };
            projections::run(&views, &reading.databases);
            let job = reading.job.run(stop.clone());
            self.tasks.spawn(supervise("job", stop.clone(), job));
        }
        let admin = self.source.admin.clone();
        let check = topics::check(
            admin,
            logs::Logs::new(self.source.clone(), write_side),
            self.health.component("topics"),
            unsound,
            stop.clone(),
        );
        self.tasks.spawn(supervise("topics", stop, check));
        // Only now, when every role has a component of its own: the process would seem ready between.
        component.ready();
        Ok(())
    }

    /// Topics and schemas, waited for, and the component that waits for them; `None` if the process is to
    /// stop before.
    async fn prepare(&self) -> anyhow::Result<Option<(setup::Encoders, Component)>> {
        let component = self.health.component("topics and schemas");
        for wait in service::backoff() {
            let prepared = setup::prepare(&self.source.admin, &self.source.registry);
            match self.stop.run_until_cancelled(prepared).await {
                Some(Ok(encoders)) => return Ok(Some((encoders, component))),
                Some(Err(error)) if error.is_transient() => component.not_ready(error.to_string()),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(None),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {},
                () = self.stop.cancelled() => return Ok(None),
            }
        }
        bail!("the waits between tries have no end, yet they ended")
    }
}

async fn listen(
    config: &Config,
) -> anyhow::Result<impl axum::serve::Listener<Addr = std::net::SocketAddr>> {
    let address = config.http.listen;
    if !address.ip().is_loopback() {
        bail!("http.listen is {address}: until sign-in exists it must be a loopback address");
    }
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("http.listen {address} can't be listened on"))?;
    // Small answers must not wait for the acknowledgements of earlier ones.
    Ok(listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    }))
}
