//! `daybook projector`: projects a share of the views' partitions, in parallel with other processes.
//!
//! The process answers no queries: its HTTP server has health, metrics and progress. It creates no topics and no
//! schemas. Like `daybook serve`, it ends if a journal has another number of partitions than it was created with, and
//! waits while the registry lacks schemas of the log's records.

use crate::{
    config::Config,
    serve::{self, CountError, check_partition_counts, connections, operations},
    setup::{self, SetupError},
};
use journal::{Readers, Source};
use kafka::Admin;
use projections::{Databases, Runtime};
use schemas::topics::{PartitionCounts, TOPICS};
use service::{
    health::{Component, Health},
    progress::Progress,
    shutdown::{self, supervise},
    telemetry::{init_metrics, keep_metrics},
};
use std::process::ExitCode;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Runs until a signal, or until an error that no retry can fix.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    let listener = serve::listen(&config).await?;
    let metrics = init_metrics()?;
    let stop = shutdown::on_signal()?;
    let databases = Databases::connect_lazily(&config.postgres, &config.cql)?;
    let (health, progress, tasks) = (Health::default(), Progress::default(), TaskTracker::new());
    let starting = health.component("topics and schemas");
    let source = Source {
        kafka: config.kafka.clone(),
        admin: Admin::new(&config.kafka)?,
        registry: setup::projector_registry(&config)?,
    };
    let router = operations::router(
        health.clone(),
        metrics.clone(),
        config.http.hosts()?,
        serve::progress::Sources {
            progress: progress.clone(),
            admin: source.admin.clone(),
            databases: databases.clone(),
        },
    );
    let http = connections::serve_until(stop.clone(), listener, router);
    tasks.spawn(supervise("http", stop.clone(), http));
    let keeping = keep_metrics(metrics, stop.clone());
    tasks.spawn(supervise("metrics", stop.clone(), keeping));
    let probes = serve::probes::run(
        source.clone(),
        Some(databases.clone()),
        health.clone(),
        stop.clone(),
    );
    tasks.spawn(supervise("probes", stop.clone(), probes));
    let prepared = prepare(&source, &starting, &stop).await;
    if let Ok(Some(partitions)) = &prepared {
        let runtime = Runtime {
            readers: Readers::new(source.clone()),
            source,
            partitions: partitions.clone(),
            health: health.clone(),
            progress,
            shutdown: stop.clone(),
            tasks: tasks.clone(),
        };
        let assignment = projections::group::join(&runtime, &config.views_member())?;
        projections::run(&runtime, &databases, assignment);
        starting.ready();
        stop.cancelled().await;
    }
    stop.cancel();
    let ended = shutdown::wait_for(&tasks).await;
    tracing::info!(ended, "the process ends");
    prepared.map(|_| match ended {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Waits until all topics exist, the beginnings of the journals confirm their numbers of partitions, and the registry
/// has the schemas of the log's records. Returns the numbers of partitions; `None` if the process must stop first.
///
/// # Errors
/// A journal has another number of partitions than it was created with, or the registry refuses the requests.
async fn prepare(
    source: &Source,
    component: &Component,
    stop: &CancellationToken,
) -> anyhow::Result<Option<PartitionCounts>> {
    for wait in service::Backoff::for_server() {
        let reason = match stop.run_until_cancelled(try_prepare(source)).await {
            Some(Ok(counts)) => return Ok(Some(counts)),
            Some(Err(PrepareError::Final(error))) => return Err(error),
            Some(Err(PrepareError::Transient(reason))) => reason,
            None => break,
        };
        component.not_ready(reason);
        if stop
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_none()
        {
            break;
        }
    }
    Ok(None)
}

/// Reasons why topics and schemas are not ready for use.
#[derive(Debug)]
enum PrepareError {
    /// Another attempt may help.
    Transient(String),
    /// An operator must act.
    Final(anyhow::Error),
}

async fn try_prepare(source: &Source) -> Result<PartitionCounts, PrepareError> {
    let counts = source.admin.partition_counts(&TOPICS).await;
    let counts = counts.map_err(|error| {
        PrepareError::Transient(format!("{error}; `daybook serve` creates topics"))
    })?;
    check_partition_counts(source, &counts).await?;
    setup::check_schemas(source).await?;
    Ok(counts)
}

impl From<CountError> for PrepareError {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Mismatch(error) => Self::Final(error.into()),
            CountError::Unread(error) => Self::Transient(error.to_string()),
        }
    }
}

impl From<SetupError> for PrepareError {
    fn from(error: SetupError) -> Self {
        match error.is_transient() {
            true => Self::Transient(error.to_string()),
            false => Self::Final(error.into()),
        }
    }
}
