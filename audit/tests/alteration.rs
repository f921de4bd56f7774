//! `daybook audit verify` finds each kind of alteration of a log or of a copy of it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use audit::{copy::RecordLine, finding::Problem, report::Report};
use support::{
    Journal, PARTITION, copy, copy_altered, is_end, names, no_op, problems, text, verify,
};

/// Offsets of the records that the model judges valid.
fn valid_offsets(records: &[RecordLine]) -> Vec<i64> {
    use audit::model::{Model, Verdict};
    let mut model = Model::new(support::TOPIC, PARTITION);
    let valid = |record: &&RecordLine| matches!(model.judge(record.entry()), Ok(Verdict::Valid(_)));
    records
        .iter()
        .filter(valid)
        .map(|record| record.offset)
        .collect()
}

/// The ways in which a byte is altered. `DEV_TEST_FULL=1`: all of them; otherwise one, which differs from byte to byte.
fn masks(byte: usize) -> Vec<u8> {
    const MASKS: [u8; 3] = [0x01, 0x80, 0xff];
    match std::env::var("DEV_TEST_FULL").as_deref() {
        Ok("1") => MASKS.to_vec(),
        _ => vec![MASKS[byte % MASKS.len()]],
    }
}

/// Calls `check` for each byte of each valid record's key and value, altered in the ways of [`masks`].
fn for_each_altered_byte(records: &[RecordLine], mut check: impl FnMut(i64, &str, &[RecordLine])) {
    let valid = valid_offsets(records);
    for index in 0..records.len() {
        let record = &records[index];
        if !valid.contains(&record.offset) {
            continue;
        }
        let key_bytes = record.key.as_ref().unwrap().len();
        let value_bytes = record.value.as_ref().unwrap().len();
        for at in 0..key_bytes + value_bytes {
            for mask in masks(at) {
                let mut altered = records.to_vec();
                let (part, byte) = match at.checked_sub(key_bytes) {
                    None => ("key", &mut altered[index].key.as_mut().unwrap()[at]),
                    Some(at) => ("value", &mut altered[index].value.as_mut().unwrap()[at]),
                };
                *byte ^= mask;
                let what = format!("offset {}: {part} byte {at} ^ {mask:#04x}", record.offset);
                check(record.offset, &what, &altered);
            }
        }
    }
}

#[test]
fn a_log_of_a_correct_run_has_no_findings() {
    let journal = Journal::with_every_kind();
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), Vec::<&str>::new(), "{}", text(&report));
    let partition = &report.partitions[usize::try_from(PARTITION).unwrap()];
    assert_eq!(partition.counts.announcements, 3);
    assert_eq!(partition.counts.commits(), 7);
    assert_eq!(partition.counts.events, 5);
    assert_eq!(partition.aggregates, 3);
    let void: Vec<_> = partition.counts.void.clone().into_iter().collect();
    assert_eq!(
        void,
        [
            ("malformed_magic", 1),
            ("other_term", 1),
            ("seq_repeated", 1)
        ]
    );
    assert_eq!(partition.last_hash, journal.hash);
    let text = text(&report);
    assert_eq!(
        text.lines().last(),
        Some("verified 7 commits in 4 partitions, 0 findings")
    );
}

/// Record lines with their checks recomputed.
fn with_new_checks(records: &[RecordLine]) -> Vec<RecordLine> {
    let line =
        |record: &RecordLine| RecordLine::new(&record.topic, record.partition, record.entry());
    records.iter().map(line).collect()
}

#[test]
fn each_altered_byte_of_a_copy_is_found_and_its_record_named() {
    let journal = Journal::with_every_kind();
    for_each_altered_byte(&journal.records, |offset, what, altered| {
        let report = verify(&copy_altered(&journal.records, altered));
        let is_named = report.findings().any(|finding| {
            finding.problem.name() == "record_altered" && finding.offset == Some(offset)
        });
        assert!(
            is_named,
            "{what}: no record_altered at offset {offset} in:\n{}",
            text(&report)
        );
    });
}

#[test]
fn each_altered_byte_is_found_and_named_even_if_the_check_is_recomputed() {
    let journal = Journal::with_every_kind();
    for_each_altered_byte(&journal.records, |offset, what, altered| {
        let altered = with_new_checks(altered);
        let report = verify(&copy_altered(&journal.records, &altered));
        assert!(
            names(&report, offset),
            "{what}: offset {offset} is not named in:\n{}",
            text(&report)
        );
        let problems = problems(&report);
        assert!(
            problems.contains(&"copy_differs"),
            "{what}: no copy_differs in {problems:?}"
        );
    });
}

/// The copy has the end lines of the altered records, so it is checked like a topic, which has no end lines.
#[test]
fn the_rule_alone_finds_each_altered_byte_except_in_the_last_record() {
    let journal = Journal::with_every_kind();
    let last = *valid_offsets(&journal.records).last().unwrap();
    for_each_altered_byte(&journal.records, |offset, what, altered| {
        let report = verify(&copy(altered));
        if offset != last {
            assert_ne!(report.findings_total(), 0, "{what}");
            assert!(
                names(&report, offset),
                "{what}: offset {offset} is not named in:\n{}",
                text(&report)
            );
        }
    });
}

/// Whether the rule halts.
fn has_alarm(report: &Report) -> bool {
    let mut findings = report.findings();
    findings.any(|finding| matches!(finding.problem, Problem::Alarm { .. }))
}

/// No reader continues silently after an altered or removed announcement.
#[test]
fn the_rule_halts_after_an_announcement_with_any_altered_byte() {
    let journal = Journal::with_every_kind();
    let is_announcement = |record: &RecordLine| {
        let value = record.value.as_ref().unwrap();
        audit::frame::Frame::read(value).is_ok_and(|frame| frame.is_announcement())
    };
    let announcements: Vec<i64> = journal
        .records
        .iter()
        .filter(|record| is_announcement(record))
        .map(|record| record.offset)
        .collect();
    assert_eq!(announcements.len(), 3);
    for_each_altered_byte(&journal.records, |offset, what, altered| {
        if announcements.contains(&offset) {
            let report = verify(&copy(altered));
            assert!(
                has_alarm(&report),
                "{what}: no alarm in:\n{}",
                text(&report)
            );
        }
    });
    for offset in announcements {
        let mut altered = journal.records.clone();
        altered.retain(|record| record.offset != offset);
        let report = verify(&copy(&altered));
        assert!(
            has_alarm(&report),
            "{offset} removed: no alarm in:\n{}",
            text(&report)
        );
    }
}

#[test]
fn altered_void_records_and_timestamps_of_a_copy_are_found() {
    let journal = Journal::with_every_kind();
    for index in 0..journal.records.len() {
        let mut altered = journal.records.clone();
        altered[index].timestamp_ms += 1;
        let report = verify(&copy_altered(&journal.records, &altered));
        assert_eq!(problems(&report), ["record_altered", "copy_differs"]);
        let report = verify(&copy_altered(&journal.records, &with_new_checks(&altered)));
        assert_eq!(problems(&report), ["copy_differs"]);
    }
    let garbage = journal
        .records
        .iter()
        .position(|record| record.value == Some(b"hello".to_vec()));
    let mut altered = journal.records.clone();
    altered[garbage.unwrap()].value = Some(b"hallo".to_vec());
    let report = verify(&copy_altered(&journal.records, &altered));
    assert_eq!(problems(&report), ["record_altered", "copy_differs"]);
}

#[test]
fn each_removed_record_is_found() {
    let journal = Journal::with_every_kind();
    for index in 0..journal.records.len() {
        let mut altered = journal.records.clone();
        let removed = altered.remove(index);
        let report = verify(&copy_altered(&journal.records, &altered));
        let problems = problems(&report);
        assert!(
            problems.contains(&"copy_differs"),
            "{}: no copy_differs in {problems:?}",
            removed.offset
        );
    }
}

#[test]
fn each_pair_of_swapped_records_is_found() {
    let journal = Journal::with_every_kind();
    for index in 1..journal.records.len() {
        let mut lines_swapped = journal.records.clone();
        lines_swapped.swap(index - 1, index);
        let report = verify(&copy_altered(&journal.records, &lines_swapped));
        assert!(
            has_alarm(&report),
            "{index}: no alarm in:\n{}",
            text(&report)
        );

        let mut contents_swapped = lines_swapped;
        contents_swapped[index - 1].offset -= 1;
        contents_swapped[index].offset += 1;
        contents_swapped = with_new_checks(&contents_swapped);
        if contents_swapped == journal.records {
            continue; // A duplicate next to its original.
        }
        let report = verify(&copy_altered(&journal.records, &contents_swapped));
        let problems = problems(&report);
        assert!(
            problems.contains(&"copy_differs"),
            "{index}: no copy_differs in {problems:?}"
        );
    }
}

#[test]
fn each_added_record_of_the_current_term_is_found() {
    for position in 1..=3 {
        for seq_ahead in [-1, 0, 1, 2, 5] {
            let mut journal = Journal::new();
            let mut original = Journal::new();
            for journal in [&mut journal, &mut original] {
                journal.announce();
                journal.decide("order_1", 0, 1);
            }
            for added in 1..=3 {
                if added == position {
                    let (value, key) = journal.encoded(journal.seq + seq_ahead, no_op());
                    journal.push(key, value);
                }
                journal.no_op();
                original.no_op();
            }
            let report = verify(&copy_altered(&original.records, &journal.records));
            let case = format!("position {position}, seq ahead by {seq_ahead}");
            let problems = problems(&report);
            assert!(
                problems.contains(&"copy_differs"),
                "{case}: no copy_differs in {problems:?}"
            );
        }
    }
}

#[test]
fn a_copy_without_its_end_lines_is_truncated() {
    let journal = Journal::with_every_kind();
    let whole = copy(&journal.records);
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for kept in 1..lines.len() {
        let report = verify(&lines[..kept].concat());
        let problems = problems(&report);
        assert!(
            problems.contains(&"truncated_copy"),
            "{kept} lines: no truncated_copy in {problems:?}"
        );
    }
    let cut_in_a_line = &whole[..whole.len() - 10];
    let report = verify(cut_in_a_line);
    assert_eq!(problems(&report), ["truncated_copy", "unreadable_line"]);
}

/// Alters the bytes of the file, not only those of the records in it.
#[test]
fn each_altered_byte_of_the_file_is_found_unless_the_lines_parse_the_same() {
    let mut journal = Journal::new();
    journal.announce();
    journal.decide("order_1", 0, 1);
    journal.no_op();
    let whole = copy(&journal.records);
    let schema_line = whole
        .windows(11)
        .position(|window| window == b"\"schema_id\"")
        .unwrap();
    let schema_end = schema_line
        + whole[schema_line..]
            .iter()
            .position(|b| *b == b'\n')
            .unwrap();
    for at in 0..whole.len() {
        // The documentation in a schema can be altered without a difference.
        if (schema_line..schema_end).contains(&at) {
            continue;
        }
        for mask in [0x01, 0x10] {
            let mut altered = whole.clone();
            altered[at] ^= mask;
            let Ok(report) = audit::verify::verify_copy(altered.as_slice(), &[]) else {
                continue; // The header: the file is reported not to be a copy.
            };
            let parses_the_same = parsed(&altered) == parsed(&whole);
            assert!(
                report.findings_total() > 0 || parses_the_same,
                "byte {at} ^ {mask:#04x}: other lines, but no finding"
            );
        }
    }
}

fn parsed(copy: &[u8]) -> Option<Vec<audit::copy::Line>> {
    let lines = copy
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).ok())
        .collect()
}

#[test]
fn unexpected_lines_are_found() {
    let journal = Journal::with_every_kind();
    let whole = copy(&journal.records);
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let end = lines.iter().rposition(|line| is_end(line)).unwrap();
    let unexpected: [&[u8]; 4] = [b"{}\n", b"\xff\xfe\n", lines[0], lines[end]];
    for line in unexpected {
        let mut altered = lines.clone();
        altered.push(line);
        let report = verify(&altered.concat());
        assert_eq!(problems(&report), ["unreadable_line"], "{line:?}");
    }
}

#[test]
fn a_file_that_is_not_a_copy_is_an_error() {
    for text in ["", "hello\n", "{\"topic\":\"journal.orders\"}\n"] {
        let verified = audit::verify::verify_copy(text.as_bytes(), &[]);
        assert!(verified.is_err(), "no error from {text:?}: {verified:?}");
    }
    let huge = "{\"format\":\"daybook-log-copy\",\"version\":1,\
                \"topics\":[{\"topic\":\"journal.orders\",\"partitions\":2000000000}]}\n";
    audit::verify::verify_copy(huge.as_bytes(), &[]).unwrap_err();
}
