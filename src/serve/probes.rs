//! Probes every server that the process depends on, and the disk, so that readiness shows an outage before a
//! command or a query does.

use journal::{Source, store::Pulse};
use projections::Databases;
use schemas::topics::TOPICS;
use service::health::{Component, Health};
use std::{future::Future, time::Duration};
use tokio_util::sync::CancellationToken;

/// Time between two rounds of probes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Probes until `stop`, including the databases if this process uses them.
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
    for round in 0.. {
        let kafka_answers = async { source.admin.partitions(TOPICS[0].name).await.map(drop) };
        tokio::join!(
            // An error about the topic also proves that the broker answers. Another component creates topics.
            probe(&kafka, async {
                match kafka_answers.await {
                    Err(error) if error.is_transient() => Err(error),
                    _ => Ok(()),
                }
            }),
            probe(&registry, source.registry.probe(round)),
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

/// Reports whether the disk of the state store answers, until `stop`. It sends no requests of its own, but
/// watches those of the store.
pub async fn watch_state(pulse: Pulse, component: Component, stop: CancellationToken) {
    loop {
        match silence(&pulse) {
            Some(reason) => component.not_ready(reason),
            None => component.ready(),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {},
            () = stop.cancelled() => return,
        }
    }
}

/// Waits until the state store is open. Until then, the component reports a disk that does not answer.
pub async fn opened<T>(open: impl Future<Output = T>, pulse: &Pulse, component: &Component) -> T {
    let mut open = std::pin::pin!(open);
    loop {
        tokio::select! {
            opened = &mut open => return opened,
            () = tokio::time::sleep(INTERVAL) => if let Some(reason) = silence(pulse) {
                component.not_ready(reason);
            },
        }
    }
}

/// The reason why the node is not ready, if the disk does not answer.
fn silence(pulse: &Pulse) -> Option<String> {
    let time = pulse.unanswered_for().filter(|time| *time > TIMEOUT)?;
    Some(format!("the disk has not answered for {time:.0?}"))
}

async fn probe<E: std::fmt::Display>(
    component: &Component,
    answer: impl Future<Output = Result<(), E>>,
) {
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(Ok(())) => component.ready(),
        Ok(Err(error)) => component.not_ready(error.to_string()),
        Err(_) => component.not_ready(format!("no answer within {TIMEOUT:?}")),
    }
}
