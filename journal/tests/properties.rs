//! Properties of the void rule for any log, honest or not.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "tests may panic, and their numbers are small"
)]

mod writer;

use journal::{
    checkpoint::Checkpoint,
    frame::{Frame, PREV_RANGE},
    rule::{Alarm, Rule, Verdict},
};
use proptest::{collection::vec, option, prelude::*, test_runner::FileFailurePersistence};
use writer::{A, B, KEY, Term, Written, announcement, decision, first_link, next_link, no_op};

const TOPIC: &str = "journal.probe";
const PARTITION: i32 = 1;

/// The terms that arbitrary logs choose from: few, so that they collide.
const TERMS: [Term; 3] = [A, B, [0; 16]];

/// The next record of an arbitrary log, usually nearly valid.
#[derive(Debug, Clone)]
enum Step {
    Announce {
        epoch_step: i64,
        term: usize,
    },
    Commit {
        epoch_step: i64,
        term: Option<usize>,
        seq_step: i64,
        prev: Option<[u8; 32]>,
        keyed: bool,
    },
    Bytes(Option<Vec<u8>>, Option<Vec<u8>>),
    Again(prop::sample::Index),
    /// Offsets without a record.
    Skip(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let near = prop_oneof![6 => Just(1_i64), 1 => -1_i64..=3, 1 => any::<i64>()];
    let same = prop_oneof![8 => Just(0_i64), 1 => -1_i64..=1];
    let commit = (
        same,
        option::weighted(0.1, 0..TERMS.len()),
        near.clone(),
        option::weighted(0.05, any::<[u8; 32]>()),
        any::<bool>(),
    );
    let bytes = || option::weighted(0.9, vec(any::<u8>(), 0..80));
    prop_oneof![
        3 => (near, 0..TERMS.len()).prop_map(|(epoch_step, term)| Step::Announce { epoch_step, term }),
        8 => commit.prop_map(|(epoch_step, term, seq_step, prev, keyed)| Step::Commit {
            epoch_step, term, seq_step, prev, keyed,
        }),
        1 => (bytes(), bytes()).prop_map(|(key, value)| Step::Bytes(key, value)),
        2 => any::<prop::sample::Index>().prop_map(Step::Again),
        1 => (0_i64..5).prop_map(Step::Skip),
    ]
}

type Log = Vec<(i64, Written)>;

fn judge(rule: &mut Rule, (offset, record): &(i64, Written)) -> Result<Verdict, Alarm> {
    rule.judge(*offset, record.key.as_deref(), record.value.as_deref())
}

fn judge_all(rule: &mut Rule, log: &[(i64, Written)]) -> Vec<Result<Verdict, Alarm>> {
    log.iter().map(|record| judge(rule, record)).collect()
}

/// Writes the steps. The rule only serves to keep the log nearly valid.
fn write(steps: &[Step]) -> Log {
    let mut rule = Rule::new(TOPIC, PARTITION);
    let mut log = Log::new();
    let mut offset = 0;
    for step in steps {
        let record = match step {
            Step::Skip(offsets) => {
                offset += offsets;
                continue;
            }
            Step::Announce { epoch_step, term } => {
                let epoch = rule.epoch().wrapping_add(*epoch_step);
                announcement(epoch, TERMS[*term]).write(offset, &rule.hash())
            }
            Step::Commit {
                epoch_step,
                term,
                seq_step,
                prev,
                keyed,
            } => {
                let epoch = rule.epoch() + epoch_step;
                let seq = rule.seq().wrapping_add(*seq_step);
                let term = term.map_or(rule.term(), |index| TERMS[index]);
                let commit = if *keyed { decision } else { no_op };
                let mut draft = commit(epoch, term, seq);
                draft.prev = *prev;
                draft.write(offset, &rule.hash())
            }
            Step::Bytes(key, value) => Written {
                key: key.clone(),
                value: value.clone(),
            },
            Step::Again(_) if log.is_empty() => continue,
            Step::Again(index) => index.get(&log).1.clone(),
        };
        log.push((offset, record));
        // An alarm leaves the rule unchanged, but the log continues.
        let _ = judge(&mut rule, &log[log.len() - 1]);
        offset += 1;
    }
    log
}

/// An honest log: terms of a few commits each, all valid. Written without the rule.
fn honest(commits_by_term: &[usize]) -> Log {
    let mut hash = first_link(TOPIC, PARTITION);
    let mut log = Log::new();
    for (epoch, commits) in (1..).zip(commits_by_term) {
        let term = [epoch as u8; 16];
        let drafts =
            std::iter::once(announcement(epoch, term)).chain((1..).take(*commits).map(|seq| {
                match seq % 3 {
                    0 => no_op(epoch, term, seq),
                    _ => decision(epoch, term, seq).key(Some(KEY)),
                }
            }));
        for draft in drafts {
            let offset = log.len() as i64;
            let record = draft.write(offset, &hash);
            hash = next_link(&hash, &record);
            log.push((offset, record));
        }
    }
    log
}

/// Whether a reader from offset 0 halts.
fn is_noticed(log: &[(i64, Written)]) -> bool {
    judge_all(&mut Rule::new(TOPIC, PARTITION), log)
        .iter()
        .any(Result::is_err)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(512)
    }
}

proptest! {
    #![proptest_config(config())]

    /// A reader that starts from any checkpoint gives the same verdicts as a reader from offset 0, and a
    /// verdict does not depend on later records.
    #[test]
    fn verdicts_depend_on_earlier_records_only(steps in vec(step(), 0..60), cut in any::<prop::sample::Index>()) {
        let log = write(&steps);
        let mut whole = Rule::new(TOPIC, PARTITION);
        let verdicts = judge_all(&mut whole, &log);
        let cut = cut.index(log.len() + 1);

        let mut begun = Rule::new(TOPIC, PARTITION);
        prop_assert_eq!(judge_all(&mut begun, &log[..cut]), &verdicts[..cut]);

        let stored = serde_json::to_string(&begun.checkpoint()).unwrap();
        let loaded: Checkpoint = serde_json::from_str(&stored).unwrap();
        let mut resumed = Rule::from_checkpoint(&loaded);
        let from = log.partition_point(|(offset, _)| *offset < resumed.next_offset());
        let unread = &verdicts[from.min(cut)..cut];
        let valid = unread.iter().find(|verdict| matches!(verdict, Ok(Verdict::Valid(_))));
        prop_assert_eq!(valid, None);
        prop_assert_eq!(judge_all(&mut resumed, &log[from..]), &verdicts[from..]);
        prop_assert_eq!(resumed.hash(), whole.hash());
    }

    #[test]
    fn the_last_valid_record_proves_a_checkpoint(steps in vec(step(), 0..60)) {
        let log = write(&steps);
        let mut rule = Rule::new(TOPIC, PARTITION);
        for record in &log {
            let before = rule.checkpoint();
            let verdict = judge(&mut rule, record);
            let after = rule.checkpoint();
            let (key, value) = (record.1.key.as_deref(), record.1.value.as_deref());
            match verdict {
                Ok(Verdict::Valid(_)) => prop_assert_eq!(after.probe(record.0, key, value), Ok(())),
                Ok(Verdict::Void(_)) => {
                    let next_offset = record.0 + 1;
                    prop_assert_eq!(after, Checkpoint { next_offset, ..before });
                }
                Err(_) => prop_assert_eq!(after, before),
            }
        }
    }

    /// Arbitrary records before, between and after the records of an honest log replace no commit.
    #[test]
    fn foreign_records_change_nothing(
        commits in vec(0_usize..4, 1..4),
        foreign in vec((any::<prop::sample::Index>(), vec(any::<u8>(), 0..80)), 0..8),
    ) {
        let log = honest(&commits);
        let mut crowded: Vec<Written> = log.iter().map(|(_, record)| record.clone()).collect();
        for (position, value) in foreign {
            let key = Some(KEY.to_vec());
            crowded.insert(position.index(crowded.len() + 1), Written { key, value: Some(value) });
        }
        let crowded: Log = (0..).zip(crowded).collect();
        let (mut alone, mut among) = (Rule::new(TOPIC, PARTITION), Rule::new(TOPIC, PARTITION));
        let verdicts = judge_all(&mut alone, &log);
        let other = verdicts.iter().find(|verdict| !matches!(verdict, Ok(Verdict::Valid(_))));
        prop_assert_eq!(other, None);
        let verdicts = judge_all(&mut among, &crowded);
        let alarm = verdicts.iter().find(|verdict| verdict.is_err());
        prop_assert_eq!(alarm, None);
        prop_assert_eq!(alone.hash(), among.hash());
        prop_assert_eq!(alone.seq(), among.seq());
    }

    /// A changed byte before the last term is noticed, if that term has a commit: the commit confirms all
    /// records before the term's announcement. A change within the last term may go unnoticed.
    #[test]
    fn an_altered_byte_before_the_last_term_is_noticed(
        commits in vec(0_usize..4, 1..4),
        position in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
    ) {
        let before = honest(&commits).len();
        let mut log = honest(&[&commits[..], &[1]].concat());
        prop_assert!(!is_noticed(&log));
        let record = &mut log[position.index(before)].1;
        let (key, value) = (record.key.as_mut().unwrap(), record.value.as_mut().unwrap());
        let at = at.index(key.len() + value.len());
        match key.len() {
            keys if at < keys => key[at] ^= change,
            keys => value[at - keys] ^= change,
        }
        prop_assert!(is_noticed(&log));
    }

    /// A changed byte of an announcement is noticed at the first record of its term or at the next
    /// announcement.
    #[test]
    fn an_altered_announcement_is_noticed_by_the_next_record(
        commits in vec(0_usize..4, 0..4),
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
        has_commit in any::<bool>(),
    ) {
        let next = if has_commit { vec![1] } else { vec![0, 1] };
        let mut log = honest(&[&commits[..], &next].concat());
        let position = honest(&commits).len();
        let value = log[position].1.value.as_mut().unwrap();
        let at = at.index(value.len());
        value[at] ^= change;
        prop_assert!(is_noticed(&log));
    }

    /// A commit that is altered anywhere except in its `prev` is not void.
    #[test]
    fn an_altered_commit_is_not_void(
        commits in vec(0_usize..4, 1..4),
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
    ) {
        let mut log = honest(&[&commits[..], &[1]].concat());
        let (offset, mut altered) = log.pop().unwrap();
        let (key, value) = (altered.key.as_mut().unwrap(), altered.value.as_mut().unwrap());
        let at = at.index(key.len() + value.len());
        match key.len() {
            keys if at < keys => key[at] ^= change,
            keys if PREV_RANGE.contains(&(at - keys)) => return Ok(()),
            keys => value[at - keys] ^= change,
        }
        let mut rule = Rule::new(TOPIC, PARTITION);
        judge_all(&mut rule, &log);
        let verdict = judge(&mut rule, &(offset, altered));
        prop_assert!(!matches!(verdict, Ok(Verdict::Void(_))), "{:?} must not be void", verdict);
    }

    /// A missing record before the last term is noticed.
    #[test]
    fn a_missing_record_before_the_last_term_is_noticed(
        commits in vec(0_usize..4, 1..4),
        position in any::<prop::sample::Index>(),
    ) {
        let before = honest(&commits).len();
        let mut log = honest(&[&commits[..], &[1]].concat());
        log.remove(position.index(before));
        prop_assert!(is_noticed(&log));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        offset in any::<i64>(),
        key in option::of(vec(any::<u8>(), 0..8)),
        value in option::of(vec(any::<u8>(), 0..300)),
    ) {
        if let Some(value) = &value {
            let _ = Frame::read(value);
        }
        let mut rule = Rule::new(TOPIC, PARTITION);
        let _ = judge(&mut rule, &(offset, Written { key, value }));
    }

    /// Bytes that start like a frame, so that the later fields are reached.
    #[test]
    fn arbitrary_frames_never_panic(rest in vec(any::<u8>(), 0..120)) {
        let value = [&[0; 53], &rest[..]].concat();
        let _ = Frame::read(&value);
    }
}

/// Each field of a checkpoint matters: without it, the next record gets another verdict.
#[test]
fn a_checkpoint_has_no_superfluous_field() {
    let mut log = honest(&[2, 2]);
    let next = log.pop().unwrap();
    let mut rule = Rule::new(TOPIC, PARTITION);
    judge_all(&mut rule, &log);
    let whole = rule.checkpoint();
    let start = Checkpoint::start(TOPIC, PARTITION);
    let judged = |checkpoint: &Checkpoint, record| {
        let mut rule = Rule::from_checkpoint(checkpoint);
        let verdict = judge(&mut rule, record);
        (verdict, rule.checkpoint().log_id)
    };
    let lacking = [
        (
            "log_id",
            Checkpoint {
                log_id: start.log_id,
                ..whole.clone()
            },
        ),
        (
            "epoch",
            Checkpoint {
                epoch: start.epoch,
                ..whole.clone()
            },
        ),
        (
            "term",
            Checkpoint {
                term: start.term,
                ..whole.clone()
            },
        ),
        (
            "seq",
            Checkpoint {
                seq: start.seq,
                ..whole.clone()
            },
        ),
        (
            "hash",
            Checkpoint {
                hash: start.hash,
                ..whole.clone()
            },
        ),
    ];
    for (field, checkpoint) in lacking {
        assert_ne!(judged(&checkpoint, &next), judged(&whole, &next), "{field}");
    }
    let again = &log[0];
    let forgetful = Checkpoint {
        probe_offset: start.probe_offset,
        ..whole.clone()
    };
    assert_ne!(
        judged(&forgetful, again),
        judged(&whole, again),
        "probe_offset"
    );
}

/// Void records after the last valid one may have been lost with the log's tail, and other records may
/// have replaced them.
#[test]
fn a_rewritten_tail_is_judged_again() {
    let mut log = honest(&[3]);
    let last = log.pop().unwrap();
    let mut rule = Rule::new(TOPIC, PARTITION);
    judge_all(&mut rule, &log);
    let foreign = Written {
        key: None,
        value: None,
    };
    judge(&mut rule, &(last.0, foreign)).unwrap();
    let checkpoint = rule.checkpoint();
    assert_eq!(checkpoint.next_offset, last.0 + 1);
    let mut resumed = Rule::from_checkpoint(&checkpoint);
    let verdict = judge(&mut resumed, &last);
    assert!(
        matches!(verdict, Ok(Verdict::Valid(_))),
        "{verdict:?} instead of Ok(Verdict::Valid)"
    );
}
