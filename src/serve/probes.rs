//! Asks every server that we depend on for a sign of life, so that readiness tells of an outage
//! before a command or a query meets it.

use journal::Source;
use projections::Databases;
use schemas::topics::TOPICS;
use service::health::{Component, Health};
use std::{future::Future, time::Duration};
use tokio_util::sync::CancellationToken;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for one sign of life.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks until `stop`; the databases too, where this process has a use for them.
pub async fn run(
    source: Source,
    databases: Option<Databases>,
    health: Health,
    stop: CancellationToken,
) {
    let [kafka, registry] = ["kafka", "registry"].map(|name| health.component(name));
    let databases = databases.map(|databases| {
        let [postgres, cql] = ["postgres", "cql"].map(|name| health.component(name));
        (databases, postgres, cql)
    });
    loop {
        let kafka_answers = async { source.admin.partitions(TOPICS[0].name).await.map(drop) };
        tokio::join!(
            // A topic that is missing is a sign of life; making topics is another component's.
            probe(&kafka, async {
                match kafka_answers.await {
                    Err(error) if error.is_transient() => Err(error),
                    _ => Ok(()),
                }
            }),
            probe(&registry, source.registry.ping()),
            async {
                if let Some((databases, postgres, cql)) = &databases {
                    tokio::join!(
                        probe(postgres, databases.ping_postgres()),
                        probe(cql, databases.ping_cql()),
                    );
                }
            },
        );
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {},
            () = stop.cancelled() => return,
        }
    }
}

async fn probe<E: std::fmt::Display>(
    component: &Component,
    sign: impl Future<Output = Result<(), E>>,
) {
    match tokio::time::timeout(TIMEOUT, sign).await {
        Ok(Ok(())) => component.ready(),
        Ok(Err(error)) => component.not_ready(error.to_string()),
        Err(_) => component.not_ready(format!("no sign of life within {TIMEOUT:?}")),
    }
}
