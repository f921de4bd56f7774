//! Proofs, answers, barriers and take-overs.

use super::fixture::*;
use crate::{
    checkpoint::Checkpoint,
    owner::request::{Refusal, Request},
};
use kafka::{
    BrokerRule, Report,
    appender::{AppendError, RECORD_BYTES_MAX},
};
use schemas::Origin;

#[test]
fn only_proved_commits_are_answered() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    assert_eq!(core.take_replies(), []);
    deliver(&mut core, &mut log);
    let replies = core.take_replies();
    let answer = replies[0].1.as_ref().unwrap();
    assert_eq!(
        (replies[0].0, answer.offset, answer.version, answer.events),
        (1, 1, 1, 1)
    );
    assert_eq!(
        core.checkpoint(),
        &log.batch(&Checkpoint::start(TOPIC, 0)).checkpoint
    );
}

#[test]
fn a_retry_gets_the_same_answer_and_another_command_with_its_id_is_refused() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    for reply in 1..=2 {
        submit(&mut core, reply, request(1, Origin::Keyed, "lamp"));
    }
    submit(&mut core, 3, request(1, Origin::Keyed, "chair"));
    deliver(&mut core, &mut log);
    submit(&mut core, 4, request(1, Origin::Keyed, "lamp"));
    let replies = core.take_replies();
    let early = replies.iter().find(|(reply, _)| *reply >= 4);
    assert_eq!(early, None, "not without a proof");
    deliver(&mut core, &mut log);
    submit(&mut core, 5, request(1, Origin::Keyed, "chair"));
    deliver(&mut core, &mut log);
    assert_eq!(noted(&log), 1);
    // After a restart the answer comes from the log.
    let mut next = self::core();
    take_over(&mut next, &mut log, 2);
    submit(&mut next, 6, request(1, Origin::Keyed, "lamp"));
    deliver(&mut next, &mut log);
    let answer = next.take_replies().remove(0).1.unwrap();
    assert_eq!((answer.offset, answer.replayed), (1, true));
}

#[test]
fn rejections_wait_for_one_shared_no_op() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    for reply in 1..=3 {
        core.submit(
            request(u8::try_from(reply).unwrap(), Origin::Server, "bad"),
            reply,
            NOW,
        );
    }
    decide_unread_and_prove(&mut core, NOW);
    assert_eq!(core.take_replies(), []);
    deliver(&mut core, &mut log);
    assert_eq!(core.take_replies().len(), 3);
    assert_eq!(log.records.len(), 2, "the announcement and one no-op");
}

#[test]
fn a_keyed_rejection_is_a_commit_without_events() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "bad"));
    deliver(&mut core, &mut log);
    let answer = core.take_replies().remove(0).1.unwrap();
    assert_eq!(
        (answer.version, answer.outcome.unwrap().code),
        (0, "NO".into())
    );
    submit(&mut core, 2, request(2, Origin::Keyed, "lamp"));
    deliver(&mut core, &mut log);
    assert_eq!(core.take_replies().remove(0).1.unwrap().version, 1);
}

#[test]
fn a_wrong_expected_version_is_refused_with_the_right_one() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(
        &mut core,
        1,
        Request {
            expected_version: Some(4),
            ..request(1, Origin::Keyed, "lamp")
        },
    );
    deliver(&mut core, &mut log);
    let refusal = core.take_replies().remove(0).1.unwrap_err();
    assert_eq!(
        refusal,
        Refusal::VersionMismatch {
            current: 0,
            expected: 4
        }
    );
}

#[test]
fn an_unknown_outcome_that_landed_is_answered_once() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Server, "lamp"));
    let outgoing = core.take_appends().remove(0);
    log.append(&outgoing);
    core.delivered(&unknown(outgoing.number)).unwrap_err();
    core.stop_serving();
    take_over(&mut core, &mut log, 2);
    deliver(&mut core, &mut log);
    let answer = core.take_replies().remove(0).1.unwrap();
    assert_eq!((answer.offset, answer.replayed, noted(&log)), (1, false, 1));
}

#[test]
fn an_unknown_outcome_that_was_lost_is_decided_again_and_its_late_copy_is_void() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    let lost = core.take_appends().remove(0);
    core.delivered(&unknown(lost.number)).unwrap_err();
    core.stop_serving();
    take_over(&mut core, &mut log, 2);
    log.append(&lost);
    // The late copy took the offset that would have proved the first commit of the new term.
    let again = core.take_appends().remove(0);
    let offset = log.append(&again);
    core.delivered(&Report {
        number: again.number,
        result: Ok(offset),
    })
    .unwrap_err();
    core.stop_serving();
    take_over(&mut core, &mut log, 3);
    deliver(&mut core, &mut log);
    let answer = core.take_replies().remove(0).1.unwrap();
    assert_eq!((answer.offset, noted(&log)), (3, 1));
}

#[test]
fn a_command_delayed_by_a_barrier_is_a_replay_only_if_it_was_one_before() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut core, &mut log);
    core.take_replies();
    submit(&mut core, 2, request(1, Origin::Keyed, "lamp"));
    submit(&mut core, 3, request(2, Origin::Keyed, "bad"));
    let appends = core.take_appends();
    appends.iter().for_each(|outgoing| {
        log.append(outgoing);
    });
    core.delivered(&unknown(appends[0].number)).unwrap_err();
    core.stop_serving();
    take_over(&mut core, &mut log, 2);
    deliver(&mut core, &mut log);
    let mut replies = core.take_replies();
    replies.sort_by_key(|(reply, _)| *reply);
    let replayed = replies.iter().map(|(_, answer)| answer.as_ref().unwrap());
    let replayed: Vec<bool> = replayed.map(|answer| answer.replayed).collect();
    assert_eq!(replayed, [true, false]);
}

#[test]
fn offsets_of_duplicates_prove_nothing() {
    for offset in [-1001, -1, 0, 3] {
        let (mut log, mut core) = (Log::new(), core());
        take_over(&mut core, &mut log, 1);
        submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
        let outgoing = core.take_appends().remove(0);
        let barrier = core.delivered(&Report {
            number: outgoing.number,
            result: Ok(offset),
        });
        assert!(
            barrier.is_err(),
            "{offset}: {barrier:?} instead of an error"
        );
        assert_eq!(core.take_replies(), [], "{offset}");
    }
}

#[test]
fn a_report_out_of_order_proves_nothing() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    for (reply, command) in [(1, "lamp"), (2, "bad")] {
        submit(
            &mut core,
            reply,
            request(u8::try_from(reply).unwrap(), Origin::Keyed, command),
        );
    }
    let appends = core.take_appends();
    log.append(&appends[0]);
    log.append(&appends[1]);
    core.delivered(&Report {
        number: appends[1].number,
        result: Ok(2),
    })
    .unwrap_err();
}

#[test]
fn a_fenced_owner_answers_nothing() {
    let (mut log, mut core, mut other) = (Log::new(), core(), self::core());
    take_over(&mut core, &mut log, 1);
    take_over(&mut other, &mut log, 2);
    submit(&mut core, 1, request(1, Origin::Server, "bad"));
    submit(&mut core, 2, request(2, Origin::Keyed, "lamp"));
    for outgoing in core.take_appends() {
        let offset = log.append(&outgoing);
        let report = Report {
            number: outgoing.number,
            result: Ok(offset),
        };
        if core.delivered(&report).is_err() {
            core.stop_serving();
        }
    }
    assert_eq!(core.take_replies(), []);
    assert_eq!(noted(&log), 0);
    read(&mut core, &log);
    assert_eq!(core.checkpoint().term, [2; 16]);
}

#[test]
fn the_first_of_two_announcements_is_valid_and_the_other_owner_gets_a_new_epoch() {
    let (mut log, mut core, mut other) = (Log::new(), core(), self::core());
    let (first, second) = (announce(&mut other, 2), announce(&mut core, 1));
    log.append(&first);
    log.append(&second);
    read(&mut core, &log);
    assert_eq!(
        (core.has_read_announcement(), core.drop_lost_announcement()),
        (false, true)
    );
    let third = announce(&mut core, 3);
    log.append(&third);
    // Sent again, the same announcement is void.
    assert_eq!(announce(&mut core, 4).term, third.term);
    log.append(&third);
    read(&mut core, &log);
    assert!(core.has_read_announcement());
    assert_eq!(
        (core.checkpoint().epoch, core.checkpoint().term),
        (2, [3; 16])
    );
}

#[test]
fn an_unread_announcement_in_the_log_is_used_by_the_next_attempt() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    core.stop_serving();
    // Reading up to it fails; the next attempt finds it while catching up.
    let announcement = announce(&mut core, 2);
    log.append(&announcement);
    read(&mut core, &log);
    assert_eq!(
        (core.has_read_announcement(), core.drop_lost_announcement()),
        (true, false)
    );
    core.start_serving(NOW);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut core, &mut log);
    assert_eq!(core.take_replies().remove(0).1.unwrap().offset, 2);
}

#[test]
fn a_command_is_refused_after_too_many_attempts() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    for term in 2.. {
        let Some(outgoing) = core.take_appends().pop() else {
            break;
        };
        core.delivered(&unknown(outgoing.number)).unwrap_err();
        core.stop_serving();
        take_over(&mut core, &mut log, term);
    }
    let replies = core.take_replies();
    assert!(
        matches!(replies[..], [(1, Err(Refusal::Unavailable(_)))]),
        "{replies:?} instead of Unavailable to reply 1"
    );
    assert_eq!((core.unanswered(), noted(&log)), (0, 0));
}

#[test]
fn only_a_commit_that_is_too_large_for_a_record_is_refused() {
    for bytes_max in [RECORD_BYTES_MAX, 3_000] {
        refuses_only_a_commit_larger_than(bytes_max);
    }
}

fn refuses_only_a_commit_larger_than(bytes_max: usize) {
    let (mut log, mut core) = (Log::new(), core());
    core.set_record_bytes_max(bytes_max);
    take_over(&mut core, &mut log, 1);
    let large: &'static str = "x".repeat(bytes_max).leak();
    core.submit(
        Request {
            hash: [0; 16],
            ..request(1, Origin::Keyed, "lamp")
        },
        1,
        NOW,
    );
    let mut too_large = request(2, Origin::Keyed, "bad");
    too_large.key = "note_B".into();
    too_large.command = large;
    core.submit(too_large, 2, NOW);
    decide_unread_and_prove(&mut core, NOW);
    assert_eq!(core.take_replies(), [], "nothing is proved yet");
    deliver(&mut core, &mut log);
    let replies = core.take_replies();
    assert!(
        matches!(
            replies[..],
            [(1, Ok(_)), (2, Err(Refusal::TooLarge { .. }))]
        ),
        "{replies:?} instead of an answer to 1 and TooLarge to 2"
    );
}

#[test]
fn if_the_brokers_take_no_record_only_commands_that_were_not_appended_are_forbidden() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    decide_unread_and_prove(&mut core, NOW);
    assert_eq!(core.take_appends().len(), 1);
    core.stop_serving();
    submit(&mut core, 2, request(2, Origin::Keyed, "sofa"));
    core.refuse_forbidden("no right");
    let reason = || "no right".to_owned();
    assert_eq!(
        core.take_replies(),
        [
            (1, Err(Refusal::Unavailable(reason()))),
            (2, Err(Refusal::Forbidden(reason()))),
        ]
    );
    assert_eq!(core.unanswered(), 0);
}

/// Submits a command whose record the brokers refuse twice, each time with `rule`. Returns the owner, which serves in
/// its third term, and the log.
fn refused_twice(rule: BrokerRule) -> (TestCore, Log) {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, Origin::Keyed, "lamp"));
    for term in 2..=3 {
        assert_eq!(core.take_replies(), [], "after {} refusals", term - 2);
        let outgoing = core.take_appends().remove(0);
        let refused = Report {
            number: outgoing.number,
            result: Err(AppendError::Refused {
                topic: TOPIC.to_owned(),
                partition: 0,
                rule,
                reason: "no such right".to_owned(),
            }),
        };
        core.delivered(&refused).unwrap_err();
        core.stop_serving();
        take_over(&mut core, &mut log, term);
    }
    (core, log)
}

#[test]
fn a_command_whose_record_the_brokers_refuse_twice_is_forbidden() {
    let (mut core, log) = refused_twice(BrokerRule::Access);
    let refusal = core.take_replies().remove(0).1.unwrap_err();
    let Refusal::Forbidden(reason) = refusal else {
        panic!("{refusal:?} instead of Forbidden");
    };
    assert!(
        reason.contains("no such right"),
        "no \"no such right\" in: {reason}"
    );
    let appends = core.take_appends();
    assert!(appends.is_empty(), "{appends:?} instead of no record");
    assert_eq!(noted(&log), 0);
}

/// The owner reads the limit again after the first refusal for size, so the next attempt can succeed.
#[test]
fn a_record_that_was_too_large_is_appended_again() {
    let (mut core, mut log) = refused_twice(BrokerRule::Size);
    deliver(&mut core, &mut log);
    core.take_replies().remove(0).1.unwrap();
    assert_eq!(noted(&log), 1);
}
