//! Divides a batch that takes too long to apply, with a checkpoint between its parts.

use journal::{Batch, Checkpoint, Valid, rule::RULE_VERSION_FIRST};
use schemas::Body;

/// Divides a batch into a first part of about `commits_max` commits and the rest. A batch that is short enough, or that
/// can't be divided, has no rest. `before` is the checkpoint at the beginning of the batch.
///
/// The checkpoint between the parts is the rule's state after the last record of the first part. Its `hash` is the
/// `prev` of the next record, and its `prev_hash` is the `prev` of the last record. An announcement has no `prev`,
/// so both records must be commits. After a restart, void records between them are judged again, as void records
/// after any checkpoint are.
pub(crate) fn split<E>(
    before: &Checkpoint,
    batch: Batch<E>,
    commits_max: usize,
) -> (Batch<E>, Option<Batch<E>>) {
    if batch.commits.len() <= commits_max {
        return (batch, None);
    }
    let Some(length) = length_of_first(&batch.commits, commits_max) else {
        return (batch, None);
    };
    let (commits, later) = batch.commits.split_at(length);
    let checkpoint = between(before, &commits, &later, &batch.checkpoint);
    let rest = Batch {
        partition: batch.partition,
        from: checkpoint.next_offset,
        commits: later,
        bytes: 0,
        void: batch.void,
        checkpoint: batch.checkpoint,
    };
    let first = Batch {
        partition: batch.partition,
        from: batch.from,
        commits,
        bytes: 0,
        void: 0,
        checkpoint,
    };
    (first, Some(rest))
}

/// The greatest possible length of the first part up to `commits_max`, else the smallest possible length above it;
/// `None` if the batch can't be divided.
fn length_of_first<E>(commits: &[Valid<E>], commits_max: usize) -> Option<usize> {
    let is_possible = |length: &usize| {
        !is_announcement(&commits[length - 1]) && !is_announcement(&commits[*length])
    };
    let mut shorter = (1..=commits_max).rev();
    let mut longer = commits_max + 1..commits.len();
    shorter
        .find(is_possible)
        .or_else(|| longer.find(is_possible))
}

fn is_announcement<E>(record: &Valid<E>) -> bool {
    match record.commit.body {
        Body::Announcement(_) => true,
        Body::NoOp(_) | Body::Decision(_) => false,
    }
}

/// The version of the rule that an announcement names.
fn rule_version<E>(record: &Valid<E>) -> Option<i32> {
    match &record.commit.body {
        Body::Announcement(announcement) => Some(announcement.rule_version.max(RULE_VERSION_FIRST)),
        Body::NoOp(_) | Body::Decision(_) => None,
    }
}

/// The checkpoint between two parts of a batch that leads from the checkpoint `before` to `end`.
fn between<E>(
    before: &Checkpoint,
    first: &[Valid<E>],
    later: &[Valid<E>],
    end: &Checkpoint,
) -> Checkpoint {
    let last = first.last().expect("a part has at least one commit");
    let commits = first.iter().filter(|record| !is_announcement(record));
    let log_time = commits.map(|record| record.commit.recorded_at).max();
    let rule_version = first.iter().rev().find_map(rule_version);
    Checkpoint {
        topic: end.topic.clone(),
        partition: end.partition,
        log_id: end.log_id,
        next_offset: last.offset + 1,
        epoch: last.commit.epoch,
        term: last.commit.term,
        seq: last.commit.seq,
        prev_hash: last.commit.prev,
        hash: later[0].commit.prev,
        probe_offset: Some(last.offset),
        log_time: log_time.map_or(before.log_time, |time| time.max(before.log_time)),
        rule_version: rule_version.unwrap_or(before.rule_version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::rule::{Rule, Verdict};
    use schemas::{Announcement, Commit, NoOp, Timestamp};

    const TOPIC: &str = "journal.probe";

    /// A reader's valid records of four terms, the rule's state after each, and the number of void records.
    #[derive(Default)]
    struct Log {
        commits: Vec<Valid<()>>,
        states: Vec<Checkpoint>,
        void: u64,
    }

    fn long(number: i64) -> Vec<u8> {
        let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        bytes.push(rest.to_le_bytes()[0]);
        bytes
    }

    fn value(commit: &Commit<()>) -> Vec<u8> {
        let body = match commit.body {
            Body::Announcement(_) => [long(0), long(1), long(4), long(1), b"u".to_vec()].concat(),
            Body::NoOp(_) | Body::Decision(_) => long(1),
        };
        let numbers = [commit.epoch, commit.seq, commit.recorded_at.0].map(long);
        let frame = [&[0, 0, 0, 0, 7][..], &commit.prev, &commit.term];
        [frame.concat(), numbers.concat(), body].concat()
    }

    fn log() -> Log {
        let mut rule = Rule::new(TOPIC, 3);
        let mut log = Log::default();
        // Each record's epoch and seq; `None` is a void record.
        let records = [
            Some((1, 0)),
            Some((1, 1)),
            None,
            Some((1, 2)),
            Some((1, 3)),
            Some((2, 0)),
            Some((2, 1)),
            None,
            None,
            Some((2, 2)),
            Some((3, 0)),
            Some((4, 0)),
            Some((4, 1)),
            Some((4, 2)),
            None,
        ];
        for (offset, record) in (0..).zip(records) {
            let Some((epoch, seq)): Option<(i64, i64)> = record else {
                let verdict = rule.judge(offset, None, None);
                assert!(
                    matches!(verdict, Ok(Verdict::Void(_))),
                    "{offset}: {verdict:?} instead of Ok(Verdict::Void)"
                );
                log.void += 1;
                continue;
            };
            let body = match seq {
                0 => Body::Announcement(Announcement {
                    rule_version: 1,
                    partitions: 4,
                    owner_url: "u".into(),
                }),
                _ => Body::NoOp(NoOp {}),
            };
            let commit = Commit {
                prev: if seq == 0 {
                    [0; 32]
                } else {
                    rule.checkpoint().hash
                },
                term: [epoch.to_le_bytes()[0]; 16],
                epoch,
                seq,
                // The clocks were wrong when the terms were announced.
                recorded_at: Timestamp(if seq == 0 { 1_000_000 } else { 1_000 + offset }),
                body,
            };
            let verdict = rule.judge(offset, Some(b""), Some(&value(&commit)));
            assert!(
                matches!(verdict, Ok(Verdict::Valid(_))),
                "{offset}: {verdict:?} instead of Ok(Verdict::Valid)"
            );
            log.states.push(rule.checkpoint());
            log.commits.push(Valid {
                offset,
                key: Vec::new().into(),
                commit,
            });
        }
        log
    }

    /// Divides the records after the first `applied` valid ones into parts of about `commits_max`.
    fn parts(log: &Log, applied: usize, commits_max: usize) -> Vec<Batch<()>> {
        let start = Checkpoint::start(TOPIC, 3);
        let before = applied
            .checked_sub(1)
            .map_or(&start, |last| &log.states[last]);
        let mut before = before.clone();
        let mut parts = Vec::new();
        let mut rest = Some(Batch {
            partition: 3,
            from: before.next_offset,
            commits: log.commits[applied..].to_vec().into(),
            bytes: 0,
            void: log.void,
            checkpoint: log.states.last().unwrap().clone(),
        });
        while let Some(batch) = rest {
            let (first, later) = split(&before, batch, commits_max);
            before.clone_from(&first.checkpoint);
            parts.push(first);
            rest = later;
        }
        parts
    }

    #[test]
    fn the_checkpoint_between_two_parts_is_the_state_of_the_rule() {
        let log = log();
        for applied in 0..log.commits.len() {
            for commits_max in 1..=log.commits.len() {
                let mut position = applied;
                let mut from = applied
                    .checked_sub(1)
                    .map_or(0, |last| log.states[last].next_offset);
                for part in parts(&log, applied, commits_max) {
                    position += part.commits.len();
                    assert_eq!(part.from, from);
                    assert_eq!(part.checkpoint, log.states[position - 1], "{commits_max}");
                    from = part.checkpoint.next_offset;
                }
                assert_eq!(position, log.commits.len());
            }
        }
    }

    #[test]
    fn a_part_without_an_announcement_is_within_the_term_before() {
        let log = log();
        let batch = |from: usize| Batch {
            partition: 3,
            from: log.states[from - 1].next_offset,
            commits: log.commits[from..].to_vec().into(),
            bytes: 0,
            void: 0,
            checkpoint: log.states.last().unwrap().clone(),
        };
        let before = |applied: usize| Checkpoint {
            rule_version: 2,
            ..log.states[applied - 1].clone()
        };
        // Records 2 and 3 are of the first term; record 4 announces the second one.
        let (first, _) = split(&before(2), batch(2), 1);
        assert_eq!(first.checkpoint.rule_version, 2);
        let (first, _) = split(&before(4), batch(4), 2);
        assert_eq!(first.checkpoint.rule_version, 1);
    }

    #[test]
    fn parts_are_as_long_as_announcements_allow() {
        let log = log();
        let lengths = |commits_max| {
            let parts = parts(&log, 0, commits_max);
            parts
                .iter()
                .map(|part| part.commits.len())
                .collect::<Vec<_>>()
        };
        // Records 0, 4, 7 and 8 are announcements.
        assert_eq!(lengths(1), [2, 1, 3, 4, 1]);
        assert_eq!(lengths(3), [3, 3, 4, 1]);
        assert_eq!(lengths(11), [11]);
    }

    #[test]
    fn the_void_records_are_counted_once() {
        let log = log();
        let counted: u64 = parts(&log, 0, 1).iter().map(|part| part.void).sum();
        assert_eq!(counted, log.void);
    }
}
