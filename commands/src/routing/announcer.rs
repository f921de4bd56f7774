//! Tells in `journal.owners` which partitions this process owns.

use super::{Directory, router::Offices};
use journal::owner::Status;
use kafka::Publisher;
use schemas::{
    owners::{Entry, Place, key},
    topics::OWNERS,
};
use std::{collections::HashMap, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long a published entry may take to be read back before it is published again.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// Publishes an entry for every office that this process holds, and again wherever the last entry of
/// the topic is older; until `stop`.
pub async fn run(
    publisher: Publisher,
    url: String,
    mut offices: Offices,
    mut directory: Directory,
    stop: CancellationToken,
) {
    let mut published: HashMap<Place, (i64, Instant)> = HashMap::new();
    loop {
        let due = due(&offices, &directory, &published);
        if !due.is_empty() {
            let records: Vec<(String, Vec<u8>)> = due
                .iter()
                .map(|(place, epoch, term)| {
                    let entry = Entry {
                        epoch: *epoch,
                        term: hex::encode(term),
                        url: url.clone(),
                    };
                    (key(*place), entry.to_json().into_bytes())
                })
                .collect();
            let sent = publisher.publish(OWNERS.name, &records);
            match stop.run_until_cancelled(sent).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::warn!(%error, "an owner's entry is not published yet"),
                None => return,
            }
            let now = Instant::now();
            let sent = due.into_iter();
            published.extend(sent.map(|(place, epoch, _)| (place, (epoch, now))));
        }
        tokio::select! {
            () = offices.changed() => {}
            () = directory.changed() => {}
            () = sleep(PUBLISH_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The offices that the topic's last entry does not tell of yet.
fn due(
    offices: &Offices,
    directory: &Directory,
    published: &HashMap<Place, (i64, Instant)>,
) -> Vec<(Place, i64, [u8; 16])> {
    let known = directory.known();
    let is_under_way = |place: Place, epoch: i64| {
        published
            .get(&place)
            .is_some_and(|(sent, at)| *sent == epoch && at.elapsed() < PUBLISH_INTERVAL)
    };
    offices
        .all()
        .filter_map(|(place, status)| match status {
            Status::InOffice { epoch, term } => Some((place, epoch, term)),
            Status::Standby | Status::TakingOver(_) | Status::Ended(_) => None,
        })
        .filter(|(place, epoch, _)| known.last_epoch(*place) < *epoch)
        .filter(|(place, epoch, _)| !is_under_way(*place, *epoch))
        .collect()
}
