//! Reads a run's log once more, after somebody altered it: no reader may take it for whole.

use super::{
    broker::{Broker, Kept, Link},
    client::PATIENCE,
    log::SimLog,
    node::Parts,
    reading::{Reading, Seen, beginning},
    tally::Happening,
    truth::Truth,
};
use crate::protocol::Protocol;
use bytes::Bytes;
use schemas::Body;
use std::sync::Arc;

/// Alters what one decision says, and nothing of its frame.
pub(super) async fn read_with_altered_decision<P: Protocol>(
    parts: &Parts,
    truth: &Truth,
    mut records: Vec<Kept>,
) {
    // A later commit confirms it; without one nobody could tell.
    let is_commit = |offset: i64| {
        let body = truth.valid.get(&offset).map(|commit| &commit.body);
        matches!(body, Some(Body::Decision(_) | Body::NoOp(_)))
    };
    let last_commit = truth.valid.keys().rfind(|offset| is_commit(**offset));
    let candidates: Vec<i64> = truth
        .decisions
        .iter()
        .map(|one| one.offset)
        .filter(|offset| Some(offset) < last_commit)
        .collect();
    if candidates.is_empty() {
        return;
    }
    let chosen = candidates[parts.world.dice().index(candidates.len())];
    let Some(mut commit) = truth.valid.get(&chosen).cloned() else {
        return;
    };
    if let Body::Decision(decision) = &mut commit.body {
        decision.actor = "somebody else".into();
    }
    let value = parts
        .encoder
        .encode(&commit)
        .expect("it was encoded before");
    let index = usize::try_from(chosen).expect("offsets are not below 0");
    records[index].value = Bytes::from(value);
    parts.world.count(Happening::LogAltered);
    let seen = read::<P>(parts, records).await;
    if seen.halted.is_none() {
        parts
            .world
            .violate(format!("@{chosen} was altered, and a reader read on"));
    }
}

/// Takes one term out, from its announcement to the next.
pub(super) async fn read_without_a_term<P: Protocol>(
    parts: &Parts,
    truth: &Truth,
    mut records: Vec<Kept>,
) {
    let announced: Vec<(i64, i64)> = truth
        .announcements
        .iter()
        .map(|(epoch, (offset, _))| (*epoch, *offset))
        .collect();
    if announced.len() < 2 {
        return;
    }
    let index = parts.world.dice().index(announced.len() - 1);
    let (epoch, from) = announced[index];
    let (_, to) = announced[index + 1];
    let place = |offset: i64| usize::try_from(offset).expect("offsets are not below 0");
    records.drain(place(from)..place(to));
    parts.world.count(Happening::TermCutOut);
    let seen = read::<P>(parts, records).await;
    let later = seen.commits.iter().find(|valid| valid.commit.epoch > epoch);
    if let Some(later) = later {
        let found = later.commit.epoch;
        parts.world.violate(format!(
            "epoch {epoch} was taken out, and a reader took epoch {found} for valid"
        ));
    }
}

async fn read<P: Protocol>(parts: &Parts, records: Vec<Kept>) -> Seen {
    let end = i64::try_from(records.len()).expect("logs are short");
    let broker = Arc::new(Broker::new(parts.world.clone(), records));
    let log: SimLog<P> = SimLog::new(broker, Arc::new(Link::default()), parts.registry.clone());
    let reading = Reading::begin(log, beginning(), parts.world.clone());
    if tokio::time::timeout(PATIENCE, reading.reaches(end))
        .await
        .is_err()
    {
        parts
            .world
            .violate("a reader of an altered log never comes to an end".into());
    }
    reading.seen().clone()
}
