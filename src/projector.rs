//! `daybook projector`: projects a share of the views' partitions, in parallel with other processes.
//!
//! The process answers no queries: its HTTP server has health, metrics and progress. It creates no topics and no
//! schemas.

use crate::{
    config::Config,
    serve::{self, operations},
    setup,
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
    if let Some(partitions) = counts(&source.admin, &starting, &stop).await {
        let runtime = Runtime {
            readers: Readers::new(source.clone()),
            source,
            partitions,
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
    Ok(match ended {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Waits until all topics exist; `None` if the process must stop first.
async fn counts(
    admin: &Admin,
    component: &Component,
    stop: &CancellationToken,
) -> Option<PartitionCounts> {
    for wait in service::Backoff::for_server() {
        match stop
            .run_until_cancelled(admin.partition_counts(&TOPICS))
            .await?
        {
            Ok(counts) => return Some(counts),
            Err(error) => component.not_ready(format!("{error}; `daybook serve` creates topics")),
        }
        stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
    }
    None
}
