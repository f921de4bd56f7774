//! Bytes that are not a frame, and unusual bytes that are one.

use super::{Log, Vector, scenario};
use crate::writer::{A, Spoil, announcement, decision, long, no_op};

/// The offset of the frame's varints, and the end of a no-op of these scenarios.
const VARINTS: usize = 53;

pub fn all() -> Vec<Vector> {
    [short(), numbers(), announcements(), odd_but_valid()]
        .into_iter()
        .flatten()
        .collect()
}

/// A term whose next commit comes malformed in several ways, each void, and then well-formed.
fn spoilt(name: &str, why: &str, reason: &str, ways: &[Spoil]) -> Vector {
    scenario(name, why, |log: &mut Log| {
        log.valid(announcement(1, A));
        for way in ways {
            log.void(reason, no_op(1, A, 1).spoil(*way));
        }
        log.valid(no_op(1, A, 1));
    })
}

/// The value with its varints replaced: 53 bytes of header, prev and term stay.
fn with_varints(mut value: Vec<u8>, varints: &[&[u8]]) -> Option<Vec<u8>> {
    value.truncate(VARINTS);
    value.extend(varints.concat());
    Some(value)
}

fn short() -> Vec<Vector> {
    vec![
        spoilt(
            "value_cut_off",
            "a value that ends within its frame, at each field boundary",
            "malformed_truncated",
            &[
                |_| Some(vec![]),
                |value| Some(value[..1].to_vec()),
                |value| Some(value[..4].to_vec()),
                |value| Some(value[..5].to_vec()),
                |value| Some(value[..36].to_vec()),
                |value| Some(value[..37].to_vec()),
                |value| Some(value[..52].to_vec()),
                |value| Some(value[..53].to_vec()),
                |value| Some(value[..54].to_vec()),
                |value| Some(value[..55].to_vec()),
                |value| Some(value[..56].to_vec()),
                |value| Some(value[..value.len() - 1].to_vec()),
            ],
        ),
        spoilt(
            "wire_format_unknown",
            "the first byte is 0 in the wire format that we know",
            "malformed_magic",
            &[
                |value| Some([&[1], &value[1..]].concat()),
                |value| Some([&[0xff], &value[1..]].concat()),
                |_| Some(vec![1]),
            ],
        ),
        spoilt(
            "garbage_text",
            "records of other tools",
            "malformed_magic",
            &[
                |_| Some(b"hello".to_vec()),
                |_| Some(br#"{"key":"sale/536365","command":"ImportSale"}"#.to_vec()),
                |_| {
                    Some("\u{201c}quoted, and longer than a whole frame would be\u{201d}, \u{a3}1.50".into())
                },
            ],
        ),
        spoilt(
            "zeros",
            "zeros are a frame: epoch 0, seq 0, and an announcement cut off",
            "malformed_truncated",
            &[|_| Some(vec![0; 57])],
        ),
        spoilt(
            "more_zeros",
            "60 zeros or more are an announcement of epoch 0",
            "announcement_too_late",
            &[|_| Some(vec![0; 60]), |_| Some(vec![0; 400])],
        ),
    ]
}

fn numbers() -> Vec<Vector> {
    vec![
        spoilt(
            "varint_cut_off",
            "a varint whose last byte says that more follows",
            "malformed_truncated",
            &[
                |value| with_varints(value, &[&[0x82]]),
                |value| with_varints(value, &[&[2, 2, 0x80, 0x80]]),
                |value| with_varints(value, &[&[2, 2, 0, 0x82]]),
            ],
        ),
        spoilt(
            "varint_of_eleven_bytes",
            "no 64 bits need more than ten bytes, however little the last ones add",
            "malformed_varint",
            &[
                |value| with_varints(value, &[&[0x82], &[0x80; 9], &[0, 2, 0, 2]]),
                |value| with_varints(value, &[&[2], &[0xff; 11], &[0, 0, 2]]),
                |value| with_varints(value, &[&[2, 2], &[0x80; 200], &[0, 2]]),
            ],
        ),
        spoilt(
            "varint_beyond_64_bits",
            "the tenth byte has room for one bit",
            "malformed_range",
            &[
                |value| with_varints(value, &[&[0x82], &[0x80; 8], &[2, 2, 0, 2]]),
                |value| with_varints(value, &[&[2], &[0xff; 9], &[0x7f, 0, 2]]),
            ],
        ),
        spoilt(
            "body_unknown",
            "this version of the rule knows no fourth body",
            "malformed_body",
            &[
                |value| with_varints(value, &[&[2, 2, 0], &long(3)]),
                |value| with_varints(value, &[&[2, 2, 0], &long(-1)]),
                |value| with_varints(value, &[&[2, 2, 0], &long(i64::MAX)]),
                |value| with_varints(value, &[&[2, 2, 0], &long(i64::MIN)]),
            ],
        ),
    ]
}

fn announcements() -> Vec<Vector> {
    let body = |parts: &[&[u8]]| announcement(1, A).body(parts.concat());
    vec![
        scenario(
            "announcement_cut_off",
            "an announcement's three fields are frozen too",
            |log| {
                log.void("malformed_truncated", body(&[&[0]]));
                log.void("malformed_truncated", body(&[&[0, 2]]));
                log.void("malformed_truncated", body(&[&[0, 2, 8]]));
                log.void("malformed_truncated", body(&[&[0, 2, 8, 10], b"http"]));
                log.void(
                    "malformed_truncated",
                    body(&[&[0, 2, 8], &long(i64::MAX), b"http"]),
                );
                log.valid(body(&[&[0, 2, 8, 8], b"http"]));
            },
        ),
        scenario(
            "announcement_beyond_32_bits",
            "rule_version and partitions are ints",
            |log| {
                let (above, below) = (long(i64::from(i32::MAX) + 1), long(i64::from(i32::MIN) - 1));
                log.void("malformed_range", body(&[&[0], &above, &[8, 0]]));
                log.void("malformed_range", body(&[&[0, 2], &below, &[0]]));
                // Out of range is malformed, and not a later version of the rule.
                log.void("malformed_range", body(&[&[0], &long(i64::MAX), &[8, 0]]));
                log.valid(body(&[&[0, 2], &long(i64::from(i32::MIN)), &[0]]));
            },
        ),
        scenario(
            "announcement_url_is_no_text",
            "a text has a length and is UTF-8",
            |log| {
                log.void("malformed_length", body(&[&[0, 2, 8], &long(-1)]));
                log.void("malformed_length", body(&[&[0, 2, 8], &long(i64::MIN)]));
                log.void("malformed_text", body(&[&[0, 2, 8, 4], &[0xc3, 0x28]]));
                // Cut off, overlong, beyond the last code point.
                log.void("malformed_text", body(&[&[0, 2, 8, 2], &[0xc3]]));
                log.void("malformed_text", body(&[&[0, 2, 8, 4], &[0xc0, 0x80]]));
                log.void(
                    "malformed_text",
                    body(&[&[0, 2, 8, 8], &[0xf4, 0x90, 0x80, 0x80]]),
                );
                log.void(
                    "malformed_text",
                    body(&[&[0, 2, 8, 6], &[0xed, 0xa0, 0x80]]),
                );
                log.valid(body(&[&[0, 2, 8, 4], "\u{e9}".as_bytes()]));
            },
        ),
    ]
}

fn odd_but_valid() -> Vec<Vector> {
    vec![
        scenario(
            "fields_of_a_later_version",
            "the bytes behind the frame are not checked, though the chain covers them",
            |log| {
                let mut body = announcement(1, A).body;
                body.extend(*b"more");
                log.valid(announcement(1, A).body(body));
                log.valid(no_op(1, A, 1).body([&[2], &b"more"[..]].concat()));
                log.valid(no_op(1, A, 2));
            },
        ),
        scenario(
            "decision_cut_off",
            "the rule does not check a decision's fields: valid, though readers that decode it halt",
            |log| {
                log.valid(announcement(1, A));
                log.valid(decision(1, A, 1).body(vec![4]));
                log.valid(decision(1, A, 2).body([4, 0xff, 0xff].to_vec()));
            },
        ),
        scenario(
            "varints_padded",
            "a varint of up to ten bytes is accepted, as other readers of Avro accept it",
            |log| {
                // The body's branch, rule_version, partitions and the URL's length.
                let body: [&[u8]; 5] = [&[0x80, 0], &[0x82, 0x80, 0], &[8], &[0x84, 0], b"ab"];
                log.valid(announcement(1, A).body(body.concat()));
                let padded =
                    |value| with_varints(value, &[&[0x82, 0], &[0x82], &[0x80; 8], &[0, 0, 2]]);
                log.valid(no_op(1, A, 1).recorded_at(0).spoil(padded));
                log.valid(no_op(1, A, 2));
            },
        ),
    ]
}
