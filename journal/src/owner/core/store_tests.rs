//! Owners that resume from their stores.

use super::fixture::{
    Log, Notes, TestCore, deliver, finish, noted, request, submit, submit_at, take_over,
};
use super::state::*;
use crate::{
    checkpoint::Checkpoint,
    owner::request::{Request, already_so},
    probe::Event,
    store::{Disk, Entries, Memory, StateStore, StoreError},
};
use kafka::Encoder;
use schemas::{ContextEvent, Origin, Timestamp};
use std::sync::Arc;

const TOPIC: &str = Event::CONTEXT.topic;
const HOUR_US: i64 = 3_600_000_000;

fn core(store: Arc<dyn StateStore>) -> TestCore {
    let encoder = Encoder::new(7, &Event::CONTEXT.schema()).unwrap();
    let mut core = Core::new(Notes, TOPIC, 0, encoder, store);
    finish(core.restore()).unwrap();
    core
}

async fn save(core: &mut TestCore) {
    let changes = core.save().unwrap();
    core.store().write(changes).await.unwrap();
    core.finish_save(true);
}

/// The log of an owner that has noted something, and has saved that in `store`.
async fn log_of_saved_note(store: &Arc<Memory>, origin: Origin) -> Log {
    let (mut log, mut core) = (Log::new(), core(store.clone()));
    take_over(&mut core, &mut log, 1);
    submit(&mut core, 1, request(1, origin, "lamp"));
    deliver(&mut core, &mut log);
    save(&mut core).await;
    log
}

#[tokio::test]
async fn an_owner_resumes_from_its_store_with_states_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new();
    let disk = Disk::new(folder.path()).unwrap();
    let mut first = core(disk.partition(TOPIC, 0));
    take_over(&mut first, &mut log, 1);
    submit(&mut first, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut first, &mut log);
    save(&mut first).await;
    let checkpoint = first.checkpoint().clone();
    // This command is in the log only.
    submit(&mut first, 2, request(2, Origin::Keyed, "bad"));
    deliver(&mut first, &mut log);
    drop((first, disk));

    let disk = Disk::new(folder.path()).unwrap();
    let mut next = core(disk.partition(TOPIC, 0));
    assert_eq!(next.checkpoint(), &checkpoint);
    take_over(&mut next, &mut log, 2);
    for (reply, command) in [(3, "lamp"), (4, "bad")] {
        let id = u8::try_from(reply - 2).unwrap();
        submit(&mut next, reply, request(id, Origin::Keyed, command));
    }
    // The note is there: the same command under another id is already so.
    submit(&mut next, 5, request(9, Origin::Keyed, "lamp"));
    deliver(&mut next, &mut log);
    let mut replies = next.take_replies();
    replies.sort_by_key(|(reply, _)| *reply);
    let answers: Vec<_> = replies
        .into_iter()
        .map(|(_, answer)| answer.unwrap())
        .collect();
    assert_eq!((answers[0].offset, answers[0].replayed), (1, true));
    assert_eq!((answers[1].offset, answers[1].replayed), (2, true));
    assert_eq!(
        (answers[2].version, answers[2].outcome.clone()),
        (1, Some(already_so()))
    );
    assert_eq!(noted(&log), 1);
}

/// Their expiry entries have no time, but must still be read at the next start.
#[tokio::test]
async fn answers_that_never_expire_are_found_again() {
    for origin in [Origin::Policy, Origin::Timer] {
        let store = Arc::new(Memory::default());
        let mut log = log_of_saved_note(&store, origin).await;
        let mut next = core(store);
        take_over(&mut next, &mut log, 2);
        submit(&mut next, 2, request(1, origin, "lamp"));
        deliver(&mut next, &mut log);
        let answer = next.take_replies().remove(0).1.unwrap();
        assert!(answer.replayed, "{origin:?}: not replayed: {answer:?}");
    }
}

#[tokio::test]
async fn the_answers_of_many_writes_are_found_again() {
    const WRITES: u8 = 30;
    let store = Arc::new(Memory::default());
    let (mut log, mut first) = (Log::new(), core(store.clone()));
    take_over(&mut first, &mut log, 1);
    for id in 1..=WRITES {
        submit(&mut first, 1, request(id, Origin::Keyed, "lamp"));
        deliver(&mut first, &mut log);
        save(&mut first).await;
    }
    let mut next = core(store);
    take_over(&mut next, &mut log, 2);
    for id in 1..=WRITES {
        submit(&mut next, 1, request(id, Origin::Keyed, "lamp"));
        deliver(&mut next, &mut log);
        let answer = next.take_replies().remove(0).1.unwrap();
        assert!(answer.replayed, "{id}: not replayed: {answer:?}");
    }
}

#[tokio::test]
async fn commands_that_wait_for_the_store_are_decided_in_their_order() {
    let store = Arc::new(Memory::default());
    let mut log = log_of_saved_note(&store, Origin::Keyed).await;
    let mut next = core(store);
    take_over(&mut next, &mut log, 2);
    let about = |id: u8, key: &str| Request {
        key: key.into(),
        ..request(id, Origin::Keyed, "lamp")
    };
    next.submit(about(2, "note_A"), 2, Timestamp(1_000_000));
    let fetching = next.fetch_unread(Timestamp(1_000_000)).unwrap();
    // No command is decided while the store is being read, not even one that needs no entry.
    next.submit(about(3, "note_B"), 3, Timestamp(1_000_000));
    next.submit(about(4, "note_A"), 4, Timestamp(1_000_000));
    let appends = next.take_appends();
    assert!(appends.is_empty(), "{appends:?} instead of no record");
    next.decide_unread(fetching.await, Timestamp(1_000_000));
    while let Some(fetching) = next.fetch_unread(Timestamp(1_000_000)) {
        next.decide_unread(fetching.await, Timestamp(1_000_000));
    }
    deliver(&mut next, &mut log);
    let replies = next.take_replies();
    let order: Vec<_> = replies.iter().map(|(reply, _)| *reply).collect();
    assert_eq!(order, [2, 3, 4]);
    let versions: Vec<_> = replies
        .into_iter()
        .map(|(_, answer)| answer.unwrap().version)
        .collect();
    assert_eq!(versions, [1, 1, 1]);
}

#[tokio::test]
async fn a_command_waits_on_if_the_store_gives_no_answer() {
    let (mut log, mut core) = (Log::new(), core(Arc::new(Memory::default())));
    take_over(&mut core, &mut log, 1);
    let now = Timestamp(1_000_000);
    core.submit(request(1, Origin::Keyed, "lamp"), 1, now);
    drop(core.fetch_unread(now).unwrap());
    let error = StoreError::Unavailable {
        path: "here".into(),
        reason: "no answer from the disk".into(),
    };
    core.decide_unread(Err(error.clone()), now);
    assert_eq!(core.store_failure(), Some(&error));
    assert_eq!((core.unanswered(), core.take_replies().len()), (1, 0));
    core.stop_serving();
    finish(core.restore()).unwrap();
    take_over(&mut core, &mut log, 2);
    deliver(&mut core, &mut log);
    assert_eq!(core.take_replies().remove(0).1.unwrap().version, 1);
}

#[tokio::test]
async fn the_write_after_a_failed_one_includes_its_changes() {
    let store = Arc::new(Memory::default());
    let (mut log, mut first) = (Log::new(), core(store.clone()));
    take_over(&mut first, &mut log, 1);
    submit(&mut first, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut first, &mut log);
    drop(first.save().unwrap());
    assert!(
        first.save().is_none(),
        "a second write, but one at a time is allowed"
    );
    first.finish_save(false);
    assert_eq!(first.unsaved(), 1);
    submit(&mut first, 2, request(2, Origin::Keyed, "bad"));
    deliver(&mut first, &mut log);
    save(&mut first).await;
    assert_eq!(first.unsaved(), 0);
    let mut next = core(store);
    assert_eq!(next.checkpoint(), first.checkpoint());
    take_over(&mut next, &mut log, 2);
    submit(&mut next, 3, request(1, Origin::Keyed, "lamp"));
    deliver(&mut next, &mut log);
    let answer = next.take_replies().remove(0).1.unwrap();
    assert!(answer.replayed, "not replayed: {answer:?}");
}

#[tokio::test]
async fn answers_expire_by_log_time_and_leave_the_store() {
    let store = Arc::new(Memory::default());
    let (mut log, mut core) = (Log::new(), core(store.clone()));
    take_over(&mut core, &mut log, 1);
    let commands = [(1, Origin::Keyed), (2, Origin::Server), (3, Origin::Policy)];
    for (id, origin) in commands {
        let request = Request {
            key: format!("note_{id}"),
            ..request(id, origin, "lamp")
        };
        submit(&mut core, u32::from(id), request);
    }
    deliver(&mut core, &mut log);
    save(&mut core).await;
    let kept = |store: &Memory| -> Vec<bool> {
        let get = |(id, _): &(u8, Origin)| store.get(crate::store::Table::Answers, &[*id; 16]);
        commands
            .iter()
            .map(|command| get(command).unwrap().is_some())
            .collect()
    };
    for (hours, left) in [(1, [true, false, true]), (25, [false, false, true])] {
        let later = Timestamp(1_000_000 + hours * HOUR_US);
        let other = Request {
            key: format!("note_later_{hours}"),
            received_at: later,
            ..request(100 + u8::try_from(hours).unwrap(), Origin::Policy, "lamp")
        };
        submit_at(&mut core, 9, other, later);
        deliver(&mut core, &mut log);
        save(&mut core).await;
        assert_eq!(kept(&store), left, "after {hours} hours");
    }
    core.take_replies();
    // The id is free again, and its new answer is stored.
    let later = Timestamp(1_000_000 + 25 * HOUR_US);
    let again = Request {
        received_at: later,
        ..request(1, Origin::Keyed, "lamp")
    };
    submit_at(&mut core, 10, again, later);
    deliver(&mut core, &mut log);
    let answer = core.take_replies().remove(0).1.unwrap();
    assert!(!answer.replayed, "replayed: {answer:?}");
    save(&mut core).await;
    assert_eq!(kept(&store), [true, false, true]);
}

#[tokio::test]
async fn a_store_of_another_fold_or_layout_is_rebuilt() {
    let store = Arc::new(Memory::default());
    let mut log = log_of_saved_note(&store, Origin::Keyed).await;
    for (from, to) in [
        ("\"fold_version\":1", "\"fold_version\":2"),
        ("\"layout_version\":3", "\"layout_version\":9"),
        ("{", ""),
    ] {
        let stamp = String::from_utf8(finish(store.clone().stamp()).unwrap().unwrap()).unwrap();
        assert!(stamp.contains(from), "no {from:?} in: {stamp}");
        store.apply(vec![crate::store::Change {
            table: crate::store::Table::Meta,
            key: crate::store::STAMP_KEY.to_vec(),
            value: Some(stamp.replacen(from, to, 1).into_bytes()),
        }]);
        let mut next = core(store.clone());
        assert_eq!(next.checkpoint(), &Checkpoint::start(TOPIC, 0));
        assert_eq!(
            store.get(crate::store::Table::Answers, &[1; 16]).unwrap(),
            None
        );
        take_over(&mut next, &mut log, 2);
        save(&mut next).await;
        log.records.pop();
    }
}
