//! Announcements: how terms begin and end.

use super::{Vector, scenario, scenario_in};
use crate::writer::{A, B, KEY, announcement, decision, long, no_op, text};

pub fn all() -> Vec<Vector> {
    [first_terms(), refused(), take_over(), ends_of_terms()]
        .into_iter()
        .flatten()
        .collect()
}

fn first_terms() -> Vec<Vector> {
    vec![
        scenario("empty_log", "nothing was written", |_| {}),
        scenario(
            "first_announcement",
            "the first epoch is 1; its hash is the log id",
            |log| log.valid(announcement(1, A)),
        ),
        scenario_in(
            "journal.catalog",
            0,
            "another_partition",
            "h(0) binds the chain to topic and partition",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1));
            },
        ),
        scenario_in(
            "journal.orders",
            259,
            "a_great_partition",
            "h(0) has the partition as four bytes, big-endian, and the topic's length before the topic",
            |log| {
                log.valid(announcement(1, A));
                log.valid(no_op(1, A, 1));
            },
        ),
        scenario(
            "garbage_before_first_announcement",
            "a void record moves the next offset and nothing else",
            |log| {
                log.void("null_value", no_op(1, A, 1).spoil(|_| None));
                log.valid(announcement(1, A));
            },
        ),
        scenario(
            "term_of_zeros",
            "any 16 bytes are a term once they are announced",
            |log| {
                log.valid(announcement(1, [0; 16]));
                log.valid(no_op(1, [0; 16], 1));
            },
        ),
    ]
}

fn refused() -> Vec<Vector> {
    vec![
        scenario(
            "first_epoch_zero",
            "the first epoch is 1; a lower one comes too late, as epochs only rise",
            |log| {
                log.void("announcement_too_late", announcement(0, A));
                log.void("announcement_too_late", announcement(-1, A));
                log.void("announcement_too_late", announcement(i64::MIN, A));
                log.valid(announcement(1, A));
            },
        ),
        scenario("epoch_repeated", "an epoch is given once", |log| {
            log.valid(announcement(1, A));
            log.void("announcement_too_late", announcement(1, B));
            log.valid(decision(1, A, 1));
        }),
        scenario("epoch_went_back", "epochs only rise", |log| {
            log.valid(announcement(1, A));
            log.valid(announcement(2, B));
            log.void("announcement_too_late", announcement(1, A));
            log.void("announcement_too_late", announcement(-1, A));
            log.valid(no_op(2, B, 1));
        }),
        scenario(
            "announcement_sent_again",
            "the copy is void and does not set seq back to 0",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1));
                log.void("announcement_too_late", announcement(1, A));
                log.void("announcement_too_late", announcement(1, A).recorded_at(0));
                log.valid(decision(1, A, 2));
            },
        ),
        scenario(
            "announcement_with_seq",
            "an announcement is its term's first record",
            |log| {
                let mut late = announcement(1, A);
                late.seq = 1;
                log.void("announcement_seq", late.clone());
                late.seq = -1;
                log.void("announcement_seq", late);
                log.valid(announcement(1, A));
            },
        ),
        scenario(
            "announcement_with_key",
            "an announcement names no aggregate; its key is empty and not null",
            |log| {
                log.void("key_forbidden", announcement(1, A).key(Some(KEY)));
                log.void("null_key", announcement(1, A).key(None));
                log.valid(announcement(1, A));
            },
        ),
    ]
}

fn take_over() -> Vec<Vector> {
    vec![
        scenario(
            "announcements_race",
            "the first of two announcements of the same epoch is valid",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1));
                log.valid(announcement(2, B));
                log.void("announcement_too_late", announcement(2, A));
                log.valid(decision(2, B, 1));
                log.void("other_term", decision(1, A, 2));
                log.valid(decision(2, B, 2));
            },
        ),
        scenario(
            "announcement_lands_late",
            "a dead owner's announcement of the next epoch is valid, and the living owner announces itself again",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1));
                log.valid(announcement(2, B));
                log.void("other_term", decision(1, A, 2));
                log.void("announcement_too_late", announcement(2, A));
                log.valid(announcement(3, A));
                log.void("announcement_too_late", announcement(2, B));
                log.valid(decision(3, A, 1));
            },
        ),
        scenario(
            "zombie_after_take_over",
            "an announcement ends the term before it, whatever its owner still writes",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1));
                log.valid(announcement(2, B));
                log.void("other_term", decision(1, A, 2));
                log.valid(decision(2, B, 1));
                log.void("other_term", no_op(1, A, 3));
                log.valid(decision(2, B, 2));
            },
        ),
    ]
}

fn ends_of_terms() -> Vec<Vector> {
    vec![
        scenario(
            "term_used_again",
            "a term is its epoch and its id together",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1));
                log.valid(announcement(2, A));
                log.void("other_term", decision(1, A, 2));
                log.valid(decision(2, A, 1));
            },
        ),
        scenario(
            "announcement_after_announcement",
            "a term may end before its first commit",
            |log| {
                log.valid(announcement(1, A));
                log.valid(announcement(2, B));
                log.valid(announcement(3, A));
                log.valid(decision(3, A, 1));
            },
        ),
        scenario(
            "announcement_with_any_prev",
            "an announcement's prev is not checked; the chain covers its bytes nevertheless",
            |log| {
                log.valid(announcement(1, A).prev([0xee; 32]));
                log.valid(decision(1, A, 1));
            },
        ),
        scenario(
            "what_an_announcement_says",
            "partitions, URL and an earlier version of the rule are not judged",
            |log| {
                let body = |rule_version: i32, partitions: i64, url: &str| {
                    let version = long(i64::from(rule_version));
                    [long(0), version, long(partitions), text(url)].concat()
                };
                log.valid(announcement(1, A).body(body(1, 4, "")));
                log.valid(announcement(2, B).body(body(0, -1, "no url at all")));
                log.valid(announcement(3, A).body(body(i32::MIN, 0, &"long ".repeat(60))));
                log.valid(announcement(4, B).body(body(-1, 4, "nul \0, \u{fffe}, \u{1f4d6}")));
                log.valid(no_op(4, B, 1));
            },
        ),
    ]
}
