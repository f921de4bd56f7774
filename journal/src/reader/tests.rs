//! A reader whose checkpoints newer software has stored.

use super::*;
use crate::{
    memory_log::MemoryLog,
    probe::Event,
    rule::{Alarm, Breach, RULE_VERSION_KNOWN},
};

/// Knows the version after the latest one.
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

/// A log of two partitions with three records each, and the checkpoints behind the second one: that of partition
/// 0 is within a term of a later version of the rule.
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
        log.note(partition, "behind");
    }
    (log, checkpoints)
}

#[tokio::test]
async fn a_checkpoint_within_a_term_of_a_later_rule_halts_its_partition_alone() {
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
    assert!(is_newer, "{error}");
    let batch = reader.next().await.unwrap();
    assert_eq!((batch.partition, batch.commits.len()), (1, 1));

    let mut reader = open::<CorrectProtocol>(&log, checkpoints).await;
    // An owner must know before it announces itself.
    let confirmed = reader.confirm().await;
    assert!(
        matches!(confirmed, Err(ReadError::Alarm(_))),
        "{confirmed:?}"
    );
}

#[tokio::test]
async fn a_node_that_knows_the_rule_of_a_checkpoint_reads_on() {
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
