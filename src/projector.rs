//! `daybook projector`: projects a share of the views' partitions, in parallel with other processes.
//!
//! The process answers no queries: its HTTP server has health, metrics and progress. It creates no topics and no
//! schemas. Like `daybook serve`, it ends if a journal has another number of partitions than it was created with.

use crate::{
    config::Config,
    serve::{self, CountError, check_partition_counts, operations},
    setup,
};
use journal::{Readers, Source};
use kafka::{Admin, admin::AdminError};
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
    let starting = health.component("topics");
    let source = Source {
        kafka: config.kafka.clone(),
        admin: Admin::new(&config.kafka)?,
        registry: setup::tool_registry(&config)?,
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
    let http = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let http = async move {
        if let Err(error) = http.await {
            tracing::error!(%error, "the http server failed");
        }
    };
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
    let counted = counts(&source, &starting, &stop).await;
    if let Ok(Some(partitions)) = &counted {
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
    counted.map(|_| match ended {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Waits until all topics exist and the beginnings of the journals confirm their numbers of partitions; `None` if the
/// process must stop first.
///
/// # Errors
/// A journal has another number of partitions than it was created with.
async fn counts(
    source: &Source,
    component: &Component,
    stop: &CancellationToken,
) -> anyhow::Result<Option<PartitionCounts>> {
    for wait in service::Backoff::for_server() {
        let reason = match stop.run_until_cancelled(read_counts(source)).await {
            Some(Ok(counts)) => return Ok(Some(counts)),
            Some(Err(CountsError::Final(error))) => return Err(error.into()),
            Some(Err(CountsError::Transient(reason))) => reason,
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

/// The reason why the numbers of partitions are unknown.
#[derive(Debug)]
enum CountsError {
    /// Another attempt may help.
    Transient(String),
    /// An operator must act.
    Final(AdminError),
}

async fn read_counts(source: &Source) -> Result<PartitionCounts, CountsError> {
    let counts = source.admin.partition_counts(&TOPICS).await;
    let counts = counts.map_err(|error| {
        CountsError::Transient(format!("{error}; `daybook serve` creates topics"))
    })?;
    check_partition_counts(source, &counts).await?;
    Ok(counts)
}

impl From<CountError> for CountsError {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Mismatch(error) => Self::Final(error),
            CountError::Unread(error) => Self::Transient(error.to_string()),
        }
    }
}
