//! Alarms: records that no honest run produces, as in an altered or truncated log.

use super::{Log, Vector, begin, scenario};
use crate::writer::{A, B, Draft, KEY, announcement, decision, long, no_op, text};

pub fn all() -> Vec<Vector> {
    [
        offsets(),
        chain(),
        missing_epochs(),
        altered_announcements(),
        altered_commits(),
        commits_that_carry_the_hash(),
        versions(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn offsets() -> Vec<Vector> {
    vec![
        scenario(
            "offset_went_back",
            "a record comes once; a log that became shorter is another log",
            |log| {
                begin(log);
                log.offset = 1;
                log.halt("offset_went_back", decision(1, A, 2));
            },
        ),
        scenario(
            "offset_went_back_to_a_void_record",
            "void records take offsets too, and the offset is checked first",
            |log| {
                begin(log);
                log.void("null_key", no_op(1, A, 2).key(None));
                log.offset = 2;
                log.halt("offset_went_back", no_op(1, A, 2).key(None).spoil(|_| None));
            },
        ),
        scenario("offset_below_zero", "the least first offset is 0", |log| {
            log.offset = -1;
            log.halt("offset_went_back", announcement(1, A));
        }),
    ]
}

fn chain() -> Vec<Vector> {
    vec![
        scenario(
            "wrong_prev",
            "right epoch, term and seq after another history: the log was altered",
            |log| {
                begin(log);
                log.halt("chain_broken", decision(1, A, 2).prev([0xee; 32]));
            },
        ),
        scenario("wrong_prev_in_no_op", "a no-op is a commit", |log| {
            begin(log);
            log.halt("chain_broken", no_op(1, A, 2).prev([0; 32]));
        }),
        scenario(
            "wrong_prev_after_announcement",
            "a term's first commit confirms what stood before its announcement",
            |log| {
                begin(log);
                let before_announcement = log.hash;
                log.valid(announcement(2, B));
                log.halt("chain_broken", decision(2, B, 1).prev(before_announcement));
            },
        ),
        scenario(
            "commit_lost_before_announcement",
            "a proved commit is missing: the next term's first commit reveals it",
            |log| {
                begin(log);
                let lost = log.hash_after(&decision(1, A, 2));
                log.valid(announcement(2, B));
                let announced = log.hash_from(&lost, &announcement(2, B));
                log.halt("chain_broken", decision(2, B, 1).prev(announced));
            },
        ),
        scenario(
            "two_owners_one_term",
            "two owners that share a term decide on commits that are not in the log",
            |log| {
                begin(log);
                let other = log.hash_after(&decision(1, A, 2).key(Some(b"order_2")));
                log.valid(decision(1, A, 2));
                log.halt("chain_broken", decision(1, A, 3).prev(other));
            },
        ),
    ]
}

fn missing_epochs() -> Vec<Vector> {
    let first = |name, draft: Draft| {
        scenario(
            name,
            "no term is in force yet, so its owner has read an announcement that is missing here",
            |log| {
                log.void("null_value", no_op(1, A, 1).spoil(|_| None));
                log.halt("before_first_term", draft);
            },
        )
    };
    vec![
        first("commit_before_any_announcement", decision(1, A, 1)),
        first("no_op_before_any_announcement", no_op(1, A, 1)),
        first("commit_of_a_late_epoch_first", decision(i64::MAX, A, 7)),
        // Epoch 0, a term of zeros and the right prev equal the initial state.
        first("commit_of_epoch_zero", decision(0, [0; 16], 1)),
        scenario(
            "first_epoch_two",
            "the first epoch is 1; an owner that announces 2 has read it",
            |log| log.halt("announcement_skips_epoch", announcement(2, A)),
        ),
        scenario("first_epoch_greatest", "the first epoch is 1", |log| {
            log.halt("announcement_skips_epoch", announcement(i64::MAX, A))
        }),
        scenario(
            "epoch_skipped",
            "an owner that announces epoch 3 has read an announcement of epoch 2",
            |log| {
                begin(log);
                log.halt("announcement_skips_epoch", announcement(3, B));
            },
        ),
        scenario(
            "announcement_lost",
            "an owner that commits in epoch 2 has read its announcement",
            |log| {
                begin(log);
                log.halt("future_epoch", decision(2, B, 1));
            },
        ),
        scenario(
            "future_epoch_greatest",
            "prev, term and seq are not checked in a later epoch",
            |log| {
                begin(log);
                let commit = no_op(i64::MAX, A, i64::MIN);
                log.halt("future_epoch", commit.prev([0xee; 32]));
            },
        ),
        scenario(
            "other_term_in_epoch",
            "an epoch has one term; an owner that lost the race for it never commits",
            |log| {
                begin(log);
                log.void("announcement_too_late", announcement(1, B));
                log.halt("term_unknown", decision(1, B, 1));
            },
        ),
        scenario(
            "other_term_by_its_last_bit",
            "all 16 bytes are the term; seq and prev are not checked in another one",
            |log| {
                begin(log);
                let mut term = A;
                term[15] ^= 1;
                log.halt("term_unknown", no_op(1, term, 9).prev([0xee; 32]));
            },
        ),
    ]
}

/// A term whose announcement was altered, and its first commit, whose owner has read the original.
fn altered(name: &str, alarm: &str, alter: impl FnOnce(&mut Log, Draft)) -> Vector {
    let why = "an altered announcement is found out by the first record of its term";
    scenario(name, why, |log| {
        begin(log);
        let announcement = announcement(2, B);
        let announced = log.hash_after(&announcement);
        alter(log, announcement);
        log.halt(alarm, decision(2, B, 1).prev(announced));
    })
}

fn altered_announcements() -> Vec<Vector> {
    vec![
        altered(
            "announcement_altered_to_garbage",
            "future_epoch",
            |log, announcement| {
                let spoilt = announcement.spoil(|value| Some([&[1], &value[1..]].concat()));
                log.void("malformed_magic", spoilt);
            },
        ),
        altered(
            "announcement_altered_in_seq",
            "future_epoch",
            |log, mut announcement| {
                announcement.seq = 1;
                log.void("announcement_seq", announcement);
            },
        ),
        altered(
            "announcement_altered_in_term",
            "term_unknown",
            |log, mut announcement| {
                announcement.term[0] ^= 1;
                log.valid(announcement);
            },
        ),
        altered(
            "announcement_altered_in_url",
            "chain_broken",
            |log, announcement| {
                log.valid(
                    announcement.spoil(|value| Some([&value[..value.len() - 1], b"1"].concat())),
                );
            },
        ),
        scenario(
            "announcement_altered_in_empty_term",
            "after a term without a commit the next announcement reveals the alteration",
            |log| {
                begin(log);
                log.void("announcement_too_late", announcement(0, B));
                log.halt("announcement_skips_epoch", announcement(3, A));
            },
        ),
    ]
}

/// A term's next commit, altered so that it would be void; but it still has the chain's hash as `prev`.
fn altered_commits() -> Vec<Vector> {
    let commit = |name: &str, why: &str, alter: fn(Draft) -> Draft| {
        scenario(name, why, |log| {
            begin(log);
            log.halt("altered", alter(decision(1, A, 2)));
        })
    };
    vec![
        commit(
            "commit_altered_to_another_seq",
            "the right prev implies the seq",
            |mut commit| {
                commit.seq = 1;
                commit
            },
        ),
        commit(
            "commit_altered_to_a_later_seq",
            "a gap has another prev",
            |mut commit| {
                commit.seq = 3;
                commit
            },
        ),
        commit(
            "commit_altered_to_an_ended_epoch",
            "a record with this prev was written by an owner that has read the current term",
            |mut commit| {
                commit.epoch = 0;
                commit
            },
        ),
        commit(
            "commit_altered_to_announcement",
            "an announcement's prev is not checked, but one with a seq is not an announcement",
            |commit| {
                let body = announcement(1, A).body;
                commit.key(Some(b"")).body(body)
            },
        ),
        commit("commit_altered_to_no_op", "a no-op has no key", |commit| {
            let body = no_op(1, A, 2).body;
            commit.body(body)
        }),
        commit(
            "commit_altered_to_null_key",
            "only the value shows the kind of the record",
            |commit| commit.key(None),
        ),
        commit(
            "commit_altered_to_empty_key",
            "a decision names an aggregate",
            |commit| commit.key(Some(b"")),
        ),
        commit(
            "commit_altered_to_another_wire_format",
            "prev is at its position whatever the first byte is",
            |commit| commit.spoil(|value| Some([&[1], &value[1..]].concat())),
        ),
        commit(
            "commit_cut_off_behind_prev",
            "the shortest value that still has prev",
            |commit| commit.spoil(|value| Some(value[..37].to_vec())),
        ),
    ]
}

fn commits_that_carry_the_hash() -> Vec<Vector> {
    vec![
        scenario(
            "commit_cut_off_within_prev",
            "31 bytes of the right prev prove nothing",
            |log| {
                begin(log);
                let commit = decision(1, A, 2).prev(log.hash);
                log.void(
                    "malformed_truncated",
                    commit.spoil(|value| Some(value[..36].to_vec())),
                );
            },
        ),
        scenario(
            "commit_altered_behind_announcement",
            "the same for a term's first commit",
            |log| {
                begin(log);
                log.valid(announcement(2, B));
                log.halt("altered", decision(1, A, 2));
            },
        ),
        scenario(
            "prev_before_any_announcement",
            "h(0) is public, but no owner commits behind it",
            |log| {
                log.halt(
                    "altered",
                    no_op(0, A, 0).spoil(|value| Some(value[..40].to_vec())),
                );
            },
        ),
    ]
}

/// An announcement that names a version of the rule.
fn of_version(epoch: i64, rule_version: i32) -> Draft {
    let version = long(i64::from(rule_version));
    announcement(epoch, B).body([long(0), version, long(4), text("http://newer")].concat())
}

fn versions() -> Vec<Vector> {
    vec![
        scenario(
            "newer_rule",
            "a valid announcement of a later version: newer software is needed from here on",
            |log| {
                begin(log);
                log.halt("newer_rule", of_version(2, 2));
            },
        ),
        scenario("newer_rule_first", "the first announcement too", |log| {
            log.halt("newer_rule", of_version(1, i32::MAX))
        }),
        scenario(
            "newer_rule_void",
            "an announcement that is void is void in every version",
            |log| {
                begin(log);
                log.void("announcement_too_late", of_version(1, 2));
                log.void("announcement_too_late", of_version(0, 2));
                log.void("key_forbidden", of_version(2, 2).key(Some(KEY)));
                let mut late = of_version(2, 2);
                late.seq = 1;
                log.void("announcement_seq", late);
                log.valid(decision(1, A, 2));
            },
        ),
        scenario(
            "newer_rule_skips_epoch",
            "a skipped epoch is reported before a later version",
            |log| {
                begin(log);
                log.halt("announcement_skips_epoch", of_version(3, 2));
            },
        ),
    ]
}
