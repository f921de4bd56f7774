//! Tells in `journal.owners` which partitions this process owns.
//!
//! Readers believe the entry of the greatest epoch. One that is greater than that of the owner in office
//! is mostly its successor's; but it may be a stray, or of a journal that was since made anew, and would
//! then count for ever. So an owner that is still in office some time after it saw such an entry writes
//! a tombstone, by which readers forget it, and its own entry behind that. Whoever does stand behind the
//! entry writes it again, as any owner does that finds no entry of its own; so each entry is contested
//! once.

use super::{Directory, router::Offices};
use crate::metrics as names;
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

/// How long a greater entry may stand beside an owner in office before it is contested. A successor's
/// ends the office within that, if any command comes.
const CONTEST_AFTER: Duration = Duration::from_secs(5);

/// Greater entries beside offices of ours, by place.
type Contests = HashMap<Place, Contest>;

/// An entry that is, or was, contested.
struct Contest {
    entry: Entry,
    since: Instant,
    is_over: bool,
}

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
    let mut contests = Contests::new();
    loop {
        let contested = contested(&offices, &directory, &mut contests);
        if !contested.is_empty() {
            let keys: Vec<String> = contested.iter().copied().map(key).collect();
            let sent = publisher.publish_tombstones(OWNERS.name, &keys);
            match stop.run_until_cancelled(sent).await {
                Some(Ok(())) => close(&contested, &mut contests),
                Some(Err(error)) => tracing::warn!(%error, "a stray entry is not contested yet"),
                None => return,
            }
        }
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

/// The places whose entry is to be contested now.
fn contested(offices: &Offices, directory: &Directory, contests: &mut Contests) -> Vec<Place> {
    let known = directory.known();
    let mut due = Vec::new();
    for (place, status) in offices.all() {
        let greater = match status {
            Status::InOffice { epoch, .. } => {
                known.owner(place).filter(|entry| entry.epoch > epoch)
            }
            Status::Standby | Status::TakingOver(_) | Status::Leaving | Status::Ended(_) => None,
        };
        let contest = contests.get(&place);
        match (greater, contest) {
            (Some(entry), Some(contest)) if contest.entry == *entry => {
                if !contest.is_over && contest.since.elapsed() >= CONTEST_AFTER {
                    due.push(place);
                }
            }
            (Some(entry), Some(_) | None) => {
                let contest = Contest {
                    entry: entry.clone(),
                    since: Instant::now(),
                    is_over: false,
                };
                contests.insert(place, contest);
            }
            // What was contested once is remembered, should it come again.
            (None, Some(contest)) if contest.is_over => {}
            (None, Some(_) | None) => drop(contests.remove(&place)),
        }
    }
    due
}

/// Takes note that readers were told to forget entries.
fn close(contested: &[Place], contests: &mut Contests) {
    for (topic, partition) in contested {
        let Some(contest) = contests.get_mut(&(*topic, *partition)) else {
            continue;
        };
        contest.is_over = true;
        let (epoch, url) = (contest.entry.epoch, &contest.entry.url);
        metrics::counter!(names::ENTRIES_CONTESTED, "topic" => *topic).increment(1);
        tracing::warn!(
            topic,
            partition,
            epoch,
            url,
            "an entry of a greater epoch stood beside the owner in office; readers were told to forget it"
        );
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
            Status::Standby | Status::TakingOver(_) | Status::Leaving | Status::Ended(_) => None,
        })
        .filter(|(place, epoch, _)| known.last_epoch(*place) < *epoch)
        .filter(|(place, epoch, _)| !is_under_way(*place, *epoch))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::owners::places;
    use tokio::{sync::watch, time::advance};

    fn offices(epoch: i64) -> (Vec<watch::Sender<Status>>, Offices) {
        let in_office = Status::InOffice {
            epoch,
            term: [3; 16],
        };
        let channels = places().map(|_| watch::channel(in_office.clone()));
        let (statuses, offices): (Vec<_>, Vec<_>) = channels.unzip();
        (statuses, Offices::new(offices))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stray_entry_is_contested_once_and_readers_recover() {
        let (_statuses, offices) = offices(3);
        let (entries, directory) = Directory::of_entries();
        let (mut contests, published) = (Contests::new(), HashMap::new());
        let count = places().count();
        entries.put_all(9, "http://stray:1");
        assert!(due(&offices, &directory, &published).is_empty());
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        advance(CONTEST_AFTER).await;
        let places = contested(&offices, &directory, &mut contests);
        assert_eq!(places.len(), count);
        close(&places, &mut contests);
        // Its own tombstone read back, it says who owns them.
        entries.forget_all();
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        assert_eq!(due(&offices, &directory, &published).len(), count);
        // Somebody stands behind the entry: that is believed.
        entries.put_all(9, "http://stray:1");
        advance(CONTEST_AFTER * 3).await;
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        advance(CONTEST_AFTER).await;
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        // Another entry is another matter.
        entries.put_all(10, "http://other:1");
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        advance(CONTEST_AFTER).await;
        let places = contested(&offices, &directory, &mut contests);
        assert_eq!(places.len(), count);
    }

    #[tokio::test(start_paused = true)]
    async fn a_successors_entry_is_left_alone() {
        let (statuses, offices) = offices(3);
        let (entries, directory) = Directory::of_entries();
        let mut contests = Contests::new();
        entries.put_all(4, "http://b:1");
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        for status in &statuses {
            status.send_replace(Status::Standby);
        }
        advance(CONTEST_AFTER).await;
        assert!(contested(&offices, &directory, &mut contests).is_empty());
        assert!(contests.is_empty());
    }
}
