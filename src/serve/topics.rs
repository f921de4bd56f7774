//! Compares the topics with what they must be, again and again: one whose configuration was changed
//! under us endangers what stands in it. Of a journal, the log itself is compared as well.

use super::logs::Logs;
use commands::routing::assignment::Unsound;
use kafka::{Admin, admin::AdminError};
use schemas::{
    Context,
    topics::{TOPICS, TopicSpec},
};
use service::health::Component;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often topics are compared.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same, while they are not as they must be, or can't be compared.
const RECHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Compares until `stop`. Owners read in `unsound` which topics they must leave alone; what can't be
/// compared stays as it was found last.
pub async fn check(
    admin: Admin,
    mut logs: Logs,
    component: Component,
    unsound: watch::Sender<Unsound>,
    stop: CancellationToken,
) {
    loop {
        let mut trouble = None;
        for topic in &TOPICS {
            let checked = check_one(&admin, &mut logs, topic);
            match stop.run_until_cancelled(checked).await {
                None => return,
                Some(checked) => {
                    take(&unsound, topic, &checked);
                    trouble = trouble.or(checked.err());
                }
            }
        }
        let interval = match trouble {
            None => {
                component.ready();
                INTERVAL
            }
            Some(error) => {
                component.not_ready(error.to_string());
                RECHECK_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(interval) => {},
            () = stop.cancelled() => return,
        }
    }
}

/// Compares one topic's configuration; then, if it is a journal, its logs.
async fn check_one(admin: &Admin, logs: &mut Logs, topic: &TopicSpec) -> Result<(), AdminError> {
    admin.check(topic).await?;
    match Context::of_topic(topic.name) {
        Some(_) => logs.check(topic).await,
        None => Ok(()),
    }
}

fn take(unsound: &watch::Sender<Unsound>, topic: &TopicSpec, checked: &Result<(), AdminError>) {
    match checked {
        Ok(()) => {
            if unsound.send_if_modified(|unsound| unsound.remove(topic.name)) {
                tracing::info!(
                    topic = topic.name,
                    "is as it must be again: it may be written to"
                );
            }
        }
        Err(error @ AdminError::Mismatch { .. }) => {
            if unsound.send_if_modified(|unsound| unsound.insert(topic.name)) {
                tracing::error!(topic = topic.name, %error, "its owners stop until it is as it must be");
            }
        }
        Err(
            error @ (AdminError::Settings(_)
            | AdminError::Unreachable { .. }
            | AdminError::Refused { .. }),
        ) => tracing::warn!(topic = topic.name, %error, "can't be compared with what it must be"),
    }
}
