//! Runs the hub: subscribes to the journal, and subscribes again if the subscription ends.

use super::{hub::Hub, target::LiveEvent};
use journal::{Checkpoint, SharedReader, Update, log::ReadLog};
use service::Backoff;
use std::{collections::BTreeMap, sync::Arc};

/// The name of the subscription.
const ROLE: &str = "live";

/// Feeds the hub with all records from `starts` on, which has one checkpoint per partition. Runs without end.
pub async fn follow<E: LiveEvent, L: ReadLog>(
    hub: Arc<Hub<E>>,
    journal: SharedReader<E, L>,
    log: L,
    starts: Vec<Checkpoint>,
) {
    hub.start(&starts);
    let ends = ends::<E, L>(&log, &starts).await;
    let mut waits = Backoff::for_server();
    let (mut is_following, mut is_failing) = (false, false);
    loop {
        let mut subscription = journal.subscribe(ROLE, hub.heads());
        loop {
            if !is_following && hub.has_read(&ends) {
                is_following = true;
                hub.follow();
            }
            match subscription.next().await {
                Ok(Update::Batch(batch)) => {
                    is_failing = false;
                    waits.reset();
                    hub.take(batch);
                }
                Ok(Update::Halted {
                    topic,
                    partition,
                    error,
                }) => {
                    tracing::error!(topic, partition, %error, "stopped reading a partition for live clients");
                    hub.halt(partition, error.to_string());
                }
                Ok(Update::Failing(error)) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "failed to read the journal for live clients, retrying");
                    }
                }
                Ok(Update::Recovered) => is_failing = false,
                Err(error) => {
                    tracing::error!(%error, "failed to read the journal for live clients, subscribing again");
                    break;
                }
            }
        }
        tokio::time::sleep(waits.wait()).await;
    }
}

/// The current ends of the log. Retries without a limit.
async fn ends<E: LiveEvent, L: ReadLog>(log: &L, starts: &[Checkpoint]) -> BTreeMap<i32, i64> {
    let mut ends = BTreeMap::new();
    for start in starts {
        for wait in Backoff::for_server() {
            match log.end(E::CONTEXT.topic, start.partition).await {
                Ok(end) => {
                    ends.insert(start.partition, end);
                    break;
                }
                Err(_) => tokio::time::sleep(wait).await,
            }
        }
    }
    ends
}
