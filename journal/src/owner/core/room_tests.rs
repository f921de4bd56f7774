//! Limits at which an owner refuses commands. One hot aggregate must not use up the room of all others.

use super::fixture::{Log, TestCore, core, deliver, request, submit, take_over};
use crate::owner::{
    partition_owner::UNANSWERED_MAX,
    process_limits::OWNER_BYTES_MAX,
    request::{Answer, Refusal, Request},
};
use schemas::{Origin, ids::CommandId};

/// One more command than one aggregate may have waiting, and fewer than a partition may.
const HOT: u32 = 2_048 + 1;

/// A command with its own id about a note.
fn about(key: &str, number: u32) -> Request<&'static str> {
    Request {
        key: key.into(),
        id: CommandId(u128::from(number).to_be_bytes()),
        ..request(1, Origin::Keyed, "lamp")
    }
}

fn replies(core: &mut TestCore) -> Vec<(u32, Result<Answer, Refusal>)> {
    core.take_replies().into_iter().collect()
}

#[test]
fn commands_of_a_hot_aggregate_are_refused_and_the_others_are_not() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    for number in 1..=HOT {
        submit(&mut core, number, about("note_A", number));
    }
    let refused = replies(&mut core);
    assert!(
        matches!(&refused[..], [(HOT, Err(Refusal::Busy(_)))]),
        "{refused:?} instead of [(HOT, Err(Refusal::Busy))]"
    );
    assert!(core.has_room(UNANSWERED_MAX), "for others");
    submit(&mut core, HOT + 1, about("note_B", HOT + 1));
    deliver(&mut core, &mut log);
    let answered = replies(&mut core);
    assert_eq!(answered.len(), usize::try_from(HOT).unwrap());
    let refused = answered.iter().find(|(_, answer)| answer.is_err());
    assert_eq!(refused, None);
    // The hot aggregate has room again.
    submit(&mut core, HOT, about("note_A", HOT));
    deliver(&mut core, &mut log);
    let later = replies(&mut core);
    assert!(
        matches!(&later[..], [(HOT, Ok(_))]),
        "{later:?} instead of [(HOT, Ok)]"
    );
}

#[test]
fn there_is_no_room_after_too_many_commands_or_bytes() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    let most = u32::try_from(UNANSWERED_MAX).unwrap();
    for number in 1..=most {
        assert!(core.has_room(UNANSWERED_MAX), "no room for {number}");
        submit(&mut core, number, about(&format!("note_{number}"), number));
    }
    assert!(!core.has_room(UNANSWERED_MAX));
    deliver(&mut core, &mut log);
    assert!(core.has_room(UNANSWERED_MAX));
    // A few large commands count as much as many small ones.
    let large: &str = Box::leak("x".repeat(900_000).into_boxed_str());
    let (mut number, fits) = (most, OWNER_BYTES_MAX / large.len());
    while core.has_room(UNANSWERED_MAX) {
        number += 1;
        let request = Request {
            command: large,
            ..about(&format!("note_{number}"), number)
        };
        submit(&mut core, number, request);
    }
    assert_eq!(usize::try_from(number - most).unwrap(), fits + 1);
    deliver(&mut core, &mut log);
    assert!(core.has_room(UNANSWERED_MAX));
}
