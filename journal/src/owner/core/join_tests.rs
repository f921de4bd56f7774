//! A command that is sent again while its first attempt is in flight.

use super::fixture::{Log, core, deliver, noted, request, submit, take_over};
use schemas::Origin;

#[test]
fn a_command_that_joins_itself_in_flight_gets_its_answer_as_a_replay() {
    let (mut log, mut core) = (Log::new(), core());
    take_over(&mut core, &mut log, 1);
    for reply in 1..=3 {
        submit(&mut core, reply, request(1, Origin::Keyed, "lamp"));
    }
    deliver(&mut core, &mut log);
    let mut replies = core.take_replies();
    replies.sort_by_key(|(reply, _)| *reply);
    let answers = replies.iter().map(|(_, answer)| answer.as_ref().unwrap());
    let answers: Vec<_> = answers
        .map(|answer| (answer.offset, answer.replayed))
        .collect();
    assert_eq!(answers, [(1, false), (1, true), (1, true)]);
    assert_eq!(noted(&log), 1);
}
