//! Compares the topics with their specifications at intervals, because a topic whose configuration was
//! changed may lose records. The logs of the journals are compared as well.

use super::logs::Logs;
use commands::routing::assignment::MisconfiguredTopics;
use kafka::{Admin, admin::AdminError};
use schemas::{
    Context,
    topics::{PartitionCounts, TOPICS, TopicSpec},
};
use service::health::Component;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Maximum time between two comparisons while a topic does not match its specification, or can't be compared.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Compares until `stop`, at this interval. `misconfigured` tells owners the topics to which they must not
/// write; a topic that can't be compared keeps its last state. `partitions` are the numbers read at start.
pub async fn check(
    interval: Duration,
    admin: Admin,
    partitions: PartitionCounts,
    mut logs: Logs,
    component: Component,
    misconfigured: watch::Sender<MisconfiguredTopics>,
    stop: CancellationToken,
) {
    loop {
        let mut errors = Vec::new();
        for topic in &TOPICS {
            let checked = check_one(&admin, &partitions, &mut logs, topic);
            match stop.run_until_cancelled(checked).await {
                None => return,
                Some(checked) => {
                    report(&misconfigured, topic, &checked);
                    errors.extend(checked.err().map(|error| error.to_string()));
                }
            }
        }
        let wait = match errors.is_empty() {
            true => {
                component.ready();
                interval
            }
            false => {
                component.not_ready(errors.join("; "));
                RECHECK_INTERVAL.min(interval)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {},
            () = stop.cancelled() => return,
        }
    }
}

/// Compares one topic's configuration, and the logs of a journal.
async fn check_one(
    admin: &Admin,
    partitions: &PartitionCounts,
    logs: &mut Logs,
    topic: &TopicSpec,
) -> Result<(), AdminError> {
    admin.check(topic, partitions.of(topic.name)).await?;
    match Context::of_topic(topic.name) {
        Some(_) => logs.check(topic).await,
        None => Ok(()),
    }
}

/// Logs a topic's state if it changed, and passes it to the owners.
fn report(
    misconfigured: &watch::Sender<MisconfiguredTopics>,
    topic: &TopicSpec,
    checked: &Result<(), AdminError>,
) {
    match checked {
        Ok(()) => {
            if misconfigured.send_if_modified(|misconfigured| misconfigured.remove(topic.name)) {
                tracing::info!(
                    topic = topic.name,
                    "topic matches its specification again; its owners may write to it"
                );
            }
        }
        Err(error @ AdminError::Mismatch { .. }) => {
            if misconfigured.send_if_modified(|misconfigured| misconfigured.insert(topic.name)) {
                tracing::error!(topic = topic.name, %error, "topic does not match its specification; its owners are stopped until it does");
            }
        }
        Err(
            error @ (AdminError::Settings(_)
            | AdminError::Unreachable { .. }
            | AdminError::NotSettled { .. }
            | AdminError::Refused { .. }),
        ) => {
            tracing::warn!(topic = topic.name, %error, "topic can't be compared with its specification")
        }
    }
}
