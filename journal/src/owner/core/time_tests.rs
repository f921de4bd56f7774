//! Log time, and commands that are too old or too new to be decided.

use super::fixture::{Log, NOW, TestCore, core, deliver, request, submit_at, take_over};
use crate::{
    checkpoint::Checkpoint,
    owner::request::{DECIDED_WITHIN_US, RECEIVED_AHEAD_US_MAX, Refusal, Request},
    probe::Event,
};
use schemas::{ContextEvent, Origin, Timestamp};

const TOPIC: &str = Event::CONTEXT.topic;

#[test]
fn log_time_never_falls() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit_at(
        &mut core,
        1,
        request(1, Origin::Keyed, "lamp"),
        Timestamp(7_000_000),
    );
    submit_at(&mut core, 2, request(2, Origin::Keyed, "bad"), Timestamp(3));
    deliver(&mut core, &mut log);
    let batch = log.batch(&Checkpoint::start(TOPIC, 0));
    let times: Vec<i64> = batch
        .commits
        .iter()
        .map(|valid| valid.commit.recorded_at.0)
        .collect();
    assert_eq!(times, [1_000_000, 7_000_000, 7_000_000]);
}

/// A broker's clock was a day ahead once. Log time does not advance until the clock has caught up; a command that was
/// received in this term can't have been decided before it.
#[test]
fn new_commands_are_decided_while_log_time_is_ahead() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    let day_us = 24 * 60 * 60 * 1_000_000;
    let tomorrow = Timestamp(NOW.0 + day_us);
    let of_tomorrow = Request {
        received_at: tomorrow,
        ..request(1, Origin::Server, "lamp")
    };
    submit_at(&mut core, 1, of_tomorrow, tomorrow);
    deliver(&mut core, &mut log);
    core.stop_serving();
    take_over(&mut core, &mut log, 2);
    core.take_replies();
    let answer = |core: &mut TestCore, log: &mut Log, id, after_us| {
        let now = Timestamp(NOW.0 + after_us);
        let received = Request {
            received_at: now,
            key: format!("note_{id}"),
            ..request(id, Origin::Server, "lamp")
        };
        submit_at(core, 2, received, now);
        deliver(core, log);
        core.take_replies().remove(0).1
    };
    let early = answer(&mut core, &mut log, 2, RECEIVED_AHEAD_US_MAX - 1);
    assert!(
        matches!(early, Err(Refusal::Unavailable(_))),
        "{early:?} instead of Err(Refusal::Unavailable)"
    );
    let late = answer(&mut core, &mut log, 3, RECEIVED_AHEAD_US_MAX);
    assert_eq!(late.unwrap().version, 1);
}

/// An owner may find a command in its queue after a long suspension: other owners may have decided it
/// and forgotten the answer.
#[test]
fn a_command_that_was_received_long_ago_is_not_decided() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    let received_at = |at_us| Request {
        received_at: Timestamp(at_us),
        ..request(1, Origin::Server, "lamp")
    };
    let late = NOW.0 + DECIDED_WITHIN_US + 1;
    submit_at(&mut core, 1, received_at(NOW.0), Timestamp(late));
    submit_at(
        &mut core,
        2,
        received_at(NOW.0 + RECEIVED_AHEAD_US_MAX + 1),
        NOW,
    );
    let replies = core.take_replies();
    assert_eq!(replies.len(), 2);
    for (_, reply) in replies {
        assert!(
            matches!(reply, Err(Refusal::Unavailable(_))),
            "{reply:?} instead of Err(Refusal::Unavailable)"
        );
    }
    // A command that comes in time is decided, and its answer is available while it is kept.
    submit_at(&mut core, 3, received_at(NOW.0), Timestamp(late - 1));
    deliver(&mut core, &mut log);
    submit_at(&mut core, 4, received_at(NOW.0), Timestamp(late + 1));
    core.prove_held_answers(Timestamp(late + 1));
    deliver(&mut core, &mut log);
    let versions: Vec<_> = core
        .take_replies()
        .into_iter()
        .map(|(to, answer)| (to, answer.unwrap().version))
        .collect();
    assert_eq!(versions, [(3, 1), (4, 1)]);
}
