//! Owners that resume from their stores.

use super::state::*;
use super::tests::{Log, Notes, TestCore, deliver, noted, request, submit, take_over};
use crate::{
    checkpoint::Checkpoint,
    owner::request::{Request, already_so},
    probe::Event,
    store::{Disk, Memory, StateStore},
};
use kafka::Encoder;
use schemas::{ContextEvent, Origin, Timestamp};
use std::sync::Arc;

const TOPIC: &str = Event::CONTEXT.topic;
const HOUR_US: i64 = 3_600_000_000;

fn core(store: Arc<dyn StateStore>) -> TestCore {
    let encoder = Encoder::new(7, &Event::CONTEXT.schema()).unwrap();
    let mut core = Core::new(Notes, TOPIC, 0, encoder, store);
    core.restore().unwrap();
    core
}

async fn save(core: &mut TestCore) {
    let changes = core.save().unwrap();
    core.store().write(changes).await.unwrap();
    core.finish_save(true);
}

#[tokio::test]
async fn an_owner_resumes_from_its_store_with_states_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new();
    let disk = Disk::open(folder.path()).unwrap();
    let mut first = core(disk.partition(TOPIC, 0));
    take_over(&mut first, &mut log, 1);
    submit(&mut first, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut first, &mut log);
    save(&mut first).await;
    let saved = first.checkpoint().clone();
    // This command is in the log only.
    submit(&mut first, 2, request(2, Origin::Keyed, "bad"));
    deliver(&mut first, &mut log);
    drop((first, disk));

    let disk = Disk::open(folder.path()).unwrap();
    let mut next = core(disk.partition(TOPIC, 0));
    assert_eq!(next.checkpoint(), &saved);
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

/// Their expiry entries have no time, and must be read at the next start nevertheless.
#[tokio::test]
async fn answers_that_never_expire_are_found_again() {
    for origin in [Origin::Policy, Origin::Timer] {
        let store = Arc::new(Memory::default());
        let (mut log, mut first) = (Log::new(), core(store.clone()));
        take_over(&mut first, &mut log, 1);
        submit(&mut first, 1, request(1, origin, "lamp"));
        deliver(&mut first, &mut log);
        save(&mut first).await;
        let mut next = core(store);
        take_over(&mut next, &mut log, 2);
        submit(&mut next, 2, request(1, origin, "lamp"));
        deliver(&mut next, &mut log);
        assert!(
            next.take_replies().remove(0).1.unwrap().replayed,
            "{origin:?}"
        );
    }
}

#[tokio::test]
async fn the_write_after_a_failed_one_includes_its_changes() {
    let store = Arc::new(Memory::default());
    let (mut log, mut first) = (Log::new(), core(store.clone()));
    take_over(&mut first, &mut log, 1);
    submit(&mut first, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut first, &mut log);
    drop(first.save().unwrap());
    assert!(first.save().is_none(), "one write at a time");
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
    assert!(next.take_replies().remove(0).1.unwrap().replayed);
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
        core.submit(other, 9, later);
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
    core.submit(again, 10, later);
    deliver(&mut core, &mut log);
    assert!(!core.take_replies().remove(0).1.unwrap().replayed);
    save(&mut core).await;
    assert_eq!(kept(&store), [true, false, true]);
}

#[tokio::test]
async fn a_store_of_another_fold_or_layout_is_rebuilt() {
    let store = Arc::new(Memory::default());
    let (mut log, mut first) = (Log::new(), core(store.clone()));
    take_over(&mut first, &mut log, 1);
    submit(&mut first, 1, request(1, Origin::Keyed, "lamp"));
    deliver(&mut first, &mut log);
    save(&mut first).await;
    for (from, to) in [
        ("\"fold_version\":1", "\"fold_version\":2"),
        ("\"layout_version\":3", "\"layout_version\":9"),
        ("{", ""),
    ] {
        let stamp = String::from_utf8(store.stamp().unwrap().unwrap()).unwrap();
        assert!(stamp.contains(from), "{stamp}");
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
