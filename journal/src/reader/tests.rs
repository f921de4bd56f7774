//! A reader that starts from checkpoints that newer software stored.

use super::*;
use crate::{
    memory_log::MemoryLog,
    probe::Event,
    rule::{Alarm, Breach, RULE_VERSION_KNOWN},
};

/// A rule that supports the version after the latest one.
#[derive(Debug, Clone, PartialEq)]
struct KnowsNext;

impl RuleProtocol for KnowsNext {
    fn known_rule_version() -> i32 {
        RULE_VERSION_KNOWN + 1
    }
}

async fn open<P: RuleProtocol>(
    log: &MemoryLog,
    starts: Vec<Checkpoint>,
) -> Reader<Event, MemoryLog, P> {
    Reader::open_with(log, "test", starts).await.unwrap()
}

/// Returns a log of two partitions with three records each, and a checkpoint after the second record of each partition.
/// The checkpoint of partition 0 names a later version of the rule.
async fn upgraded() -> (MemoryLog, Vec<Checkpoint>) {
    let log = MemoryLog::new(2);
    let start = |partition| Checkpoint::start(Event::CONTEXT.topic, partition);
    for partition in 0..2 {
        log.announce(partition);
        log.note(partition, "before");
    }
    let mut reader = open::<CorrectProtocol>(&log, vec![start(0), start(1)]).await;
    let mut checkpoints = Vec::new();
    for _ in 0..2 {
        checkpoints.push(reader.next().await.unwrap().checkpoint);
    }
    checkpoints.sort_by_key(|checkpoint| checkpoint.partition);
    checkpoints[0].rule_version = RULE_VERSION_KNOWN + 1;
    for partition in 0..2 {
        log.note(partition, "after");
    }
    (log, checkpoints)
}

#[tokio::test]
async fn a_checkpoint_with_a_later_rule_version_halts_only_its_own_partition() {
    let (log, checkpoints) = upgraded().await;
    let mut reader = open::<CorrectProtocol>(&log, checkpoints.clone()).await;
    let error = reader.next().await.unwrap_err();
    let is_newer = matches!(
        &error,
        ReadError::Alarm(Alarm::ChainBroken {
            partition: 0,
            breach: Breach::NewerRule { .. },
            ..
        })
    );
    assert!(is_newer, "{error:?} instead of NewerRule in partition 0");
    let batch = reader.next().await.unwrap();
    assert_eq!((batch.partition, batch.commits.len()), (1, 1));

    let mut reader = open::<CorrectProtocol>(&log, checkpoints).await;
    // An owner confirms its reader before it announces itself, so it must get the alarm here.
    let confirmed = reader.confirm().await;
    assert!(
        matches!(confirmed, Err(ReadError::Alarm(_))),
        "{confirmed:?} instead of Err(ReadError::Alarm)"
    );
}

#[tokio::test]
async fn a_reader_that_supports_the_rule_version_of_a_checkpoint_continues() {
    let (log, checkpoints) = upgraded().await;
    let mut reader = open::<KnowsNext>(&log, checkpoints).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let batch = reader.next().await.unwrap();
        seen.push((batch.partition, batch.checkpoint.rule_version));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(0, RULE_VERSION_KNOWN + 1), (1, RULE_VERSION_KNOWN)]);
}
