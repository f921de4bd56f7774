//! Reads a run's log once more after it was altered: a reader must notice.

use crate::{
    broker::{Broker, Link},
    client::ANSWER_TIMEOUT,
    coverage::CoveragePoint,
    environment::Environment,
    log::SimLog,
    reader_task::{Observed, ReaderTask, first_checkpoint},
    record::StoredRecord,
    reference_model::ReferenceModel,
};
use bytes::Bytes;
use journal::protocol::OwnerProtocol;
use schemas::Body;
use std::sync::Arc;

/// Alters a decision's content, but not its frame.
pub(super) async fn read_with_altered_decision<P: OwnerProtocol>(
    environment: &Environment,
    model: &ReferenceModel,
    mut records: Vec<StoredRecord>,
) {
    // A later commit confirms the decision; without one the alteration can't be noticed.
    let is_commit = |offset: i64| {
        let body = model.valid.get(&offset).map(|commit| &commit.body);
        matches!(body, Some(Body::Decision(_) | Body::NoOp(_)))
    };
    let last_commit = model.valid.keys().rfind(|offset| is_commit(**offset));
    let candidates: Vec<i64> = model
        .decisions
        .iter()
        .map(|one| one.offset)
        .filter(|offset| Some(offset) < last_commit)
        .collect();
    if candidates.is_empty() {
        return;
    }
    let chosen = candidates[environment.sim.rng().index(candidates.len())];
    let Some(mut commit) = model.valid.get(&chosen).cloned() else {
        return;
    };
    if let Body::Decision(decision) = &mut commit.body {
        decision.actor = "another actor".into();
    }
    let value = environment
        .encoder
        .encode(&commit)
        .expect("it was encoded before");
    let index = usize::try_from(chosen).expect("offsets are not below 0");
    records[index].value = Bytes::from(value);
    environment.sim.count(CoveragePoint::LogAltered);
    let observed = read::<P>(environment, records).await;
    if observed.halted.is_none() {
        environment
            .sim
            .violate(format!("@{chosen} was altered, and a reader did not halt"));
    }
}

/// Removes one term, from its announcement to the next.
pub(super) async fn read_without_a_term<P: OwnerProtocol>(
    environment: &Environment,
    model: &ReferenceModel,
    mut records: Vec<StoredRecord>,
) {
    let announced: Vec<(i64, i64)> = model
        .announcements
        .iter()
        .map(|(epoch, (offset, _))| (*epoch, *offset))
        .collect();
    if announced.len() < 2 {
        return;
    }
    let index = environment.sim.rng().index(announced.len() - 1);
    let (epoch, from) = announced[index];
    let (_, to) = announced[index + 1];
    let index = |offset: i64| usize::try_from(offset).expect("offsets are not below 0");
    records.drain(index(from)..index(to));
    environment.sim.count(CoveragePoint::TermRemoved);
    let observed = read::<P>(environment, records).await;
    let later = observed
        .commits
        .iter()
        .find(|valid| valid.commit.epoch > epoch);
    if let Some(later) = later {
        let found = later.commit.epoch;
        environment.sim.violate(format!(
            "epoch {epoch} was removed, and a reader accepted epoch {found} as valid"
        ));
    }
}

async fn read<P: OwnerProtocol>(environment: &Environment, records: Vec<StoredRecord>) -> Observed {
    let end = i64::try_from(records.len()).expect("logs are short");
    let broker = Arc::new(Broker::new(environment.sim.clone(), records));
    let log: SimLog = SimLog::new(
        broker,
        Arc::new(Link::default()),
        environment.registry.clone(),
    );
    let reader = ReaderTask::start::<P>(log, first_checkpoint(), environment.sim.clone());
    if tokio::time::timeout(ANSWER_TIMEOUT, reader.reaches(end))
        .await
        .is_err()
    {
        environment
            .sim
            .violate("a reader of an altered log neither halted nor reached the end".into());
    }
    reader.observed().clone()
}
