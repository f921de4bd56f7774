//! Commits: their order in the term, and the chain.

use super::{Vector, begin, scenario};
use crate::writer::{A, B, KEY, RECORDED_AT_US, announcement, decision, no_op};

pub fn all() -> Vec<Vector> {
    [
        order(),
        gaps(),
        chain(),
        keys(),
        order_of_reasons(),
        limits(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn order() -> Vec<Vector> {
    vec![
        scenario(
            "commits_in_order",
            "no-ops and decisions are both commits",
            |log| {
                begin(log);
                log.valid(no_op(1, A, 2));
                log.valid(decision(1, A, 3));
            },
        ),
        scenario("duplicate", "a commit is valid once", |log| {
            begin(log);
            log.void("seq_repeated", decision(1, A, 1));
            log.valid(decision(1, A, 2));
            log.void("seq_repeated", decision(1, A, 1));
            log.valid(decision(1, A, 3));
        }),
        scenario(
            "batch_sent_again",
            "a batch may come again whole or in part, and mixed with what follows it",
            |log| {
                begin(log);
                let second = decision(1, A, 2).recorded_at(7).prev(log.hash);
                log.valid(second.clone());
                let third = no_op(1, A, 3).prev(log.hash);
                log.valid(third.clone());
                log.void("seq_repeated", second.clone());
                log.void("seq_repeated", third);
                log.valid(decision(1, A, 4));
                log.void("seq_repeated", second);
            },
        ),
        scenario(
            "other_record_under_a_seq",
            "a second record with a seq is void, whatever it contains",
            |log| {
                begin(log);
                log.void("seq_repeated", no_op(1, A, 1));
                log.void("seq_repeated", decision(1, A, 1).key(Some(b"order_2")));
                log.valid(decision(1, A, 2));
            },
        ),
    ]
}

fn gaps() -> Vec<Vector> {
    vec![
        scenario(
            "gap",
            "after a lost commit all later records of the term are void: each depends on the lost one",
            |log| {
                begin(log);
                log.void("seq_gap", decision(1, A, 3));
                log.void("seq_gap", decision(1, A, 4));
                log.void("seq_gap", no_op(1, A, 5));
            },
        ),
        scenario(
            "gap_filled_late",
            "the missing commit is valid when it comes, and so are the commits that follow it then",
            |log| {
                begin(log);
                log.void("seq_gap", decision(1, A, 3));
                log.valid(decision(1, A, 2));
                log.valid(decision(1, A, 3));
            },
        ),
        scenario(
            "gap_then_barrier",
            "the owner's next announcement ends a gap",
            |log| {
                begin(log);
                log.void("seq_gap", decision(1, A, 3));
                log.valid(announcement(2, B));
                log.void("other_term", decision(1, A, 2));
                log.valid(decision(2, B, 1));
            },
        ),
        scenario(
            "commit_with_seq_zero",
            "seq 0 is the announcement's",
            |log| {
                log.valid(announcement(1, A));
                log.void("seq_repeated", decision(1, A, 0));
                log.void("seq_repeated", no_op(1, A, -1));
                log.valid(no_op(1, A, 1));
            },
        ),
        scenario(
            "offsets_leap_forward",
            "control records of a foreign transaction take offsets that no consumer sees",
            |log| {
                log.offset = 4;
                log.valid(announcement(1, A));
                log.offset = 17;
                log.valid(decision(1, A, 1));
                log.void("seq_repeated", decision(1, A, 1));
                log.offset = 5_000_000_000;
                log.valid(decision(1, A, 2));
                log.offset = 5_000_000_009;
                log.void("null_key", no_op(1, A, 3).key(None));
            },
        ),
    ]
}

fn chain() -> Vec<Vector> {
    vec![
        scenario(
            "wrong_prev_in_other_term",
            "a zombie's prev is not checked",
            |log| {
                begin(log);
                log.valid(announcement(2, B));
                log.void("other_term", decision(1, A, 2).prev([0xee; 32]));
                log.valid(decision(2, B, 1));
            },
        ),
        scenario(
            "wrong_prev_after_gap",
            "prev is checked only if the seq is right",
            |log| {
                begin(log);
                log.void("seq_gap", decision(1, A, 3).prev([0xee; 32]));
                log.void("seq_repeated", decision(1, A, 1).prev([0xee; 32]));
                log.valid(decision(1, A, 2));
            },
        ),
        scenario(
            "void_records_are_not_chained",
            "the chain covers valid records only",
            |log| {
                begin(log);
                let before = log.hash;
                log.void("seq_gap", decision(1, A, 3));
                log.void("null_key", decision(1, A, 2).key(None));
                log.void("announcement_too_late", announcement(1, B));
                log.valid(decision(1, A, 2).prev(before));
            },
        ),
    ]
}

fn keys() -> Vec<Vector> {
    vec![
        scenario("null_key", "no record of ours has a null key", |log| {
            begin(log);
            log.void("null_key", decision(1, A, 2).key(None));
            log.void("null_key", no_op(1, A, 2).key(None));
            log.valid(decision(1, A, 2));
        }),
        scenario("null_value", "a tombstone means nothing here", |log| {
            begin(log);
            log.void("null_value", decision(1, A, 2).spoil(|_| None));
            log.void("null_key", decision(1, A, 2).key(None).spoil(|_| None));
            log.valid(decision(1, A, 2));
        }),
        scenario("no_op_with_key", "a no-op is about no aggregate", |log| {
            begin(log);
            log.void("key_forbidden", no_op(1, A, 2).key(Some(KEY)));
            log.valid(no_op(1, A, 2));
        }),
        scenario(
            "decision_without_key",
            "a decision names one aggregate",
            |log| {
                begin(log);
                log.void("key_missing", decision(1, A, 2).key(Some(b"")));
                log.valid(decision(1, A, 2));
            },
        ),
        scenario(
            "key_of_any_bytes",
            "the rule does not check a key's content, and the chain covers it",
            |log| {
                begin(log);
                log.valid(decision(1, A, 2).key(Some(&[0, 0xff, b'\n'])));
                log.valid(decision(1, A, 3).key(Some(&[b'k'; 300])));
            },
        ),
    ]
}

fn order_of_reasons() -> Vec<Vector> {
    vec![scenario(
        "first_reason_counts",
        "if several reasons apply, the first is given, and reasons to be void come before reasons to halt",
        |log| {
            // Not even epoch and prev of these records are checked.
            let stray = |epoch| decision(epoch, B, 9).prev([0xee; 32]);
            log.void("null_key", stray(1).key(None).spoil(|_| None));
            log.void("null_value", stray(1).spoil(|_| None));
            log.void(
                "malformed_truncated",
                stray(1).key(Some(b"")).spoil(|_| Some(vec![0])),
            );
            log.void("key_missing", stray(1).key(Some(b"")));
            begin(log);
            log.void("null_key", stray(7).key(None));
            log.void("key_missing", stray(7).key(Some(b"")));
            log.void("key_forbidden", no_op(7, B, 9).key(Some(KEY)));
            let mut late = announcement(7, B);
            late.seq = 1;
            log.void("announcement_seq", late.clone());
            log.void("key_forbidden", late.key(Some(KEY)));
            log.void("seq_gap", decision(1, A, 9).prev([0xee; 32]));
            log.valid(decision(1, A, 2));
        },
    )]
}

fn limits() -> Vec<Vector> {
    vec![
        scenario(
            "greatest_numbers",
            "numbers at the limits of 64 bits neither wrap nor match",
            |log| {
                begin(log);
                log.void("announcement_too_late", announcement(i64::MIN, A));
                log.void("other_term", decision(i64::MIN, A, 2));
                log.void("seq_gap", decision(1, A, i64::MAX));
                log.void("seq_repeated", decision(1, A, i64::MIN));
                log.valid(decision(1, A, 2));
            },
        ),
        scenario(
            "ended_epochs",
            "a commit of an epoch below the current one is void, whatever its term; so are 0 and negative epochs",
            |log| {
                log.valid(announcement(1, A));
                log.valid(announcement(2, B));
                log.void("other_term", decision(1, B, 1));
                log.void("other_term", decision(1, [7; 16], 1));
                log.void("other_term", decision(0, B, 1));
                log.void("other_term", no_op(-1, [0; 16], 1));
                log.valid(decision(2, B, 1));
            },
        ),
        scenario(
            "log_time",
            "the greatest recorded_at of valid commits; neither a void record nor an announcement moves it",
            |log| {
                log.valid(announcement(1, A).recorded_at(i64::MAX));
                log.valid(no_op(1, A, 1).recorded_at(RECORDED_AT_US));
                log.valid(decision(1, A, 2).recorded_at(RECORDED_AT_US + 2));
                log.valid(no_op(1, A, 3).recorded_at(RECORDED_AT_US + 1));
                log.void("seq_gap", no_op(1, A, 5).recorded_at(i64::MAX));
                log.valid(announcement(2, B).recorded_at(RECORDED_AT_US + 1_000_000));
            },
        ),
        scenario(
            "log_time_of_announcements_alone",
            "before the first commit log time is 0",
            |log| {
                log.valid(announcement(1, A).recorded_at(RECORDED_AT_US));
                log.valid(announcement(2, B).recorded_at(RECORDED_AT_US));
            },
        ),
        scenario("log_time_before_1970", "log time is never below 0", |log| {
            log.valid(announcement(1, A).recorded_at(-5));
            log.valid(no_op(1, A, 1).recorded_at(-7));
            log.valid(decision(1, A, 2).recorded_at(i64::MIN));
        }),
        scenario(
            "recorded_at_is_not_judged",
            "any 64 bits are a time",
            |log| {
                log.valid(announcement(1, A).recorded_at(i64::MIN));
                log.valid(no_op(1, A, 1).recorded_at(i64::MAX));
                log.valid(no_op(1, A, 2).recorded_at(0));
            },
        ),
        scenario(
            "schema_id_is_not_judged",
            "no verdict waits for the registry",
            |log| {
                log.valid(announcement(1, A).schema_id(u32::MAX));
                log.valid(decision(1, A, 1).schema_id(0));
                log.valid(decision(1, A, 2).schema_id(0x8000_0000));
            },
        ),
    ]
}
