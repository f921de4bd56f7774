//! What an owner takes before it turns commands away, and that one aggregate does not take it all.

use super::tests::{Log, TestCore, ask, core, deliver, request, take_over};
use super::*;
use crate::owner::driver::UNANSWERED_MAX;
use schemas::Origin;

/// More than one aggregate may have waiting, and fewer than all may.
const HOT: u32 = 2_048 + 1;

/// A command of its own about a product.
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
fn a_hot_aggregate_is_turned_away_and_the_others_are_not() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    for number in 1..=HOT {
        ask(&mut core, number, about("product_A", number));
    }
    let turned_away = replies(&mut core);
    assert!(
        matches!(&turned_away[..], [(HOT, Err(Refusal::Busy(_)))]),
        "{turned_away:?}"
    );
    assert!(core.has_room(UNANSWERED_MAX), "for others");
    ask(&mut core, HOT + 1, about("product_B", HOT + 1));
    deliver(&mut core, &mut log);
    let answered = replies(&mut core);
    assert_eq!(answered.len(), usize::try_from(HOT).unwrap());
    assert!(answered.iter().all(|(_, answer)| answer.is_ok()));
    // Now there is room for it again.
    ask(&mut core, HOT, about("product_A", HOT));
    deliver(&mut core, &mut log);
    let later = replies(&mut core);
    assert!(matches!(&later[..], [(HOT, Ok(_))]), "{later:?}");
}

#[test]
fn there_is_no_room_behind_too_many_commands_or_bytes() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    let most = u32::try_from(UNANSWERED_MAX).unwrap();
    for number in 1..=most {
        assert!(core.has_room(UNANSWERED_MAX), "{number}");
        ask(
            &mut core,
            number,
            about(&format!("product_{number}"), number),
        );
    }
    assert!(!core.has_room(UNANSWERED_MAX));
    deliver(&mut core, &mut log);
    assert!(core.has_room(UNANSWERED_MAX));
    // A few that are large weigh as much as many.
    let large: &str = Box::leak("x".repeat(900_000).into_boxed_str());
    let (mut number, fits) = (most, UNPROVED_BYTES_MAX / large.len());
    while core.has_room(UNANSWERED_MAX) {
        number += 1;
        let request = Request {
            command: large,
            ..about(&format!("product_{number}"), number)
        };
        ask(&mut core, number, request);
    }
    assert_eq!(usize::try_from(number - most).unwrap(), fits + 1);
    deliver(&mut core, &mut log);
    assert!(core.has_room(UNANSWERED_MAX));
}
