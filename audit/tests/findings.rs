//! Logs that were not altered after they were written, with and without findings.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use audit::{
    copy::RecordLine,
    evidence::NoteKind,
    finding::Problem,
    frame::Frame,
    model::{Entry, Model},
    report::Report,
};
use proptest::prelude::*;
use support::{Journal, PARTITION, copy, decision, no_op, problems, text, verify};

fn notes(report: &Report) -> Vec<NoteKind> {
    let partition = &report.partitions[usize::try_from(PARTITION).unwrap()];
    partition
        .notes
        .iter()
        .map(|note| note.kind.clone())
        .collect()
}

#[track_caller]
fn assert_no_findings(journal: &Journal) -> Report {
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), Vec::<&str>::new(), "{}", text(&report));
    report
}

#[test]
fn a_lost_batch_before_a_new_announcement_is_not_a_finding() {
    let mut journal = Journal::new();
    journal.announce();
    journal.no_op();
    let hash = journal.hash;
    journal.lose();
    journal.no_op();
    journal.no_op();
    // The chain includes valid records only, and the records after the gap are void.
    journal.hash = hash;
    journal.announce();
    journal.no_op();
    let report = assert_no_findings(&journal);
    let gap = NoteKind::Gap {
        expected: 2,
        found: 3,
        records: 2,
        ended_at: Some(4),
    };
    assert_eq!(notes(&report), [gap]);
}

#[test]
fn a_lost_batch_at_the_end_of_the_log_is_noted() {
    let mut journal = Journal::new();
    journal.announce();
    journal.lose();
    journal.no_op();
    let report = assert_no_findings(&journal);
    let gap = NoteKind::Gap {
        expected: 1,
        found: 2,
        records: 1,
        ended_at: None,
    };
    assert_eq!(notes(&report), [gap]);
}

#[test]
fn a_lost_commit_that_lands_late_is_valid() {
    let mut journal = Journal::new();
    journal.announce();
    let (value, key) = journal.encoded(1, no_op());
    journal.lose();
    journal.no_op();
    journal.push(key, value);
    let ahead = journal.records[1].clone();
    // The commit after the late one is sent a second time, and is valid now.
    journal.push(ahead.key.unwrap(), ahead.value.unwrap());
    journal.no_op();
    let report = assert_no_findings(&journal);
    assert_eq!(report.commits(), 3);
}

#[test]
fn a_second_announcement_of_the_same_epoch_is_not_a_finding_even_with_another_time() {
    let mut journal = Journal::new();
    journal.announce();
    let mut owner = journal.clone_owner();
    owner.epoch -= 1;
    owner.records = journal.records.clone();
    owner.announce();
    let again = owner.records.pop().unwrap();
    assert_ne!(again.value, journal.records[0].value);
    journal.push(again.key.unwrap(), again.value.unwrap());
    journal.no_op();
    assert_no_findings(&journal);
}

#[test]
fn commits_of_a_zombie_are_not_findings() {
    let mut journal = Journal::new();
    journal.announce();
    journal.no_op();
    let mut zombie = journal.clone_owner();
    journal.announce();
    for _ in 0..3 {
        zombie.no_op();
        let record = zombie.records.pop().unwrap();
        journal.push(record.key.unwrap(), record.value.unwrap());
        journal.no_op();
    }
    assert_no_findings(&journal);
}

#[test]
fn records_of_other_tools_are_not_findings() {
    let mut journal = Journal::new();
    journal.push(b"x".to_vec(), b"{\"not\":\"avro\"}".to_vec());
    journal.announce();
    journal.no_op();
    journal.push(Vec::new(), vec![0; 40]);
    journal.push(Vec::new(), Vec::new());
    journal.no_op();
    assert_no_findings(&journal);
}

#[test]
fn a_void_record_that_continues_the_chain_halts_the_rule() {
    for (seq, key) in [(7, ""), (0, ""), (2, "order_1")] {
        let mut journal = Journal::new();
        journal.announce();
        journal.no_op();
        let (value, _) = journal.encoded(seq, no_op());
        journal.push(key.into(), value);
        assert_halts(&journal, "altered", None);
    }
}

#[test]
fn a_second_record_with_the_same_seq_is_found() {
    let mut journal = Journal::new();
    journal.announce();
    let (value, key) = journal.encoded(1, decision(0, 0, [8; 16]));
    journal.no_op();
    journal.push(key, value);
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), ["seq_twice"]);
}

#[test]
fn commits_of_a_term_without_an_announcement_are_found_once() {
    let mut journal = Journal::new();
    journal.announce();
    journal.announce();
    journal.no_op();
    let mut stranger = journal.clone_owner();
    stranger.epoch = 1;
    stranger.term = [0xee; 16];
    stranger.hash = [0xdd; 32];
    for seq in 2..5 {
        let (value, key) = stranger.encoded(seq, no_op());
        journal.push(key, value);
    }
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), ["term_not_announced"]);
}

/// The rule halts at the last record, and the finding names `suspect` as possibly altered instead.
#[track_caller]
fn assert_halts(journal: &Journal, alarm: &str, suspect: Option<i64>) {
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), [alarm], "{}", text(&report));
    let finding = report.findings().next().unwrap();
    assert_eq!(
        finding.offset,
        journal.records.last().map(|last| last.offset)
    );
    assert_eq!(finding.problem.since(), suspect);
}

#[test]
fn a_commit_with_another_term_and_the_current_epoch_halts_the_rule() {
    let mut journal = Journal::new();
    journal.announce();
    journal.no_op();
    journal.term = [0xee; 16];
    journal.no_op();
    assert_halts(&journal, "term_unknown", Some(0));
}

#[test]
fn a_commit_before_any_announcement_halts_the_rule() {
    let mut journal = Journal::new();
    journal.push(b"x".to_vec(), b"hello".to_vec());
    journal.epoch = 1;
    journal.no_op();
    assert_halts(&journal, "before_first_term", Some(0));
}

#[test]
fn a_lost_announcement_halts_the_rule() {
    let mut journal = Journal::new();
    journal.announce();
    journal.no_op();
    journal.announce();
    journal.records.pop();
    let mut empty = journal.clone_owner();
    empty.records = journal.records.clone();
    journal.no_op();
    assert_halts(&journal, "future_epoch", None);
    empty.announce();
    assert_halts(&empty, "announcement_skips_epoch", None);
}

#[test]
fn an_announcement_of_a_newer_rule_halts_the_rule() {
    let mut journal = Journal::new();
    journal.announce();
    journal.no_op();
    journal.announce_version(2);
    assert_halts(&journal, "newer_rule", None);
}

/// An owner with a wrong clock announces its term and never serves, so no command id expires early.
#[test]
fn an_announcement_does_not_move_log_time() {
    let mut journal = Journal::new();
    journal.announce();
    journal.decide_as("order_1", 0, 1, [1; 16]);
    journal.clock_us = 10 * 365 * 86_400 * 1_000_000;
    journal.announce();
    journal.clock_us = 0;
    journal.announce();
    journal.decide_as("order_1", 1, 0, [1; 16]);
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), ["command_twice"]);
}

#[test]
fn a_broken_chain_names_all_records_that_may_have_been_altered() {
    let mut journal = Journal::new();
    journal.announce();
    journal.no_op();
    journal.announce();
    journal.hash = [1; 32];
    journal.no_op();
    journal.no_op();
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), ["chain_broken"]);
    let text = text(&report);
    assert!(
        text.contains("the record, or a valid record from offset 1 on, was altered"),
        "no \"the record, or a valid record from offset 1 on, was altered\" in: {text}"
    );
    assert!(
        text.contains("not judged 2"),
        "no \"not judged 2\" in: {text}"
    );
}

#[test]
fn versions_are_gapless_per_aggregate() {
    let mut journal = Journal::new();
    journal.announce();
    journal.decide("order_1", 0, 2);
    journal.decide("order_2", 0, 0);
    journal.decide("order_1", 2, 1);
    journal.decide("order_2", 0, 1);
    assert_no_findings(&journal);
    journal.decide("order_1", 5, 1);
    journal.decide("order_1", 6, 1);
    journal.decide("order_3", 1, 1);
    let report = verify(&copy(&journal.records));
    let problems: Vec<_> = report.findings().map(|finding| &finding.problem).collect();
    let gap = |key: &str, expected, found| Problem::VersionGap {
        key: key.into(),
        expected,
        found,
    };
    assert_eq!(problems, [&gap("order_1", 3, 5), &gap("order_3", 0, 1)]);
}

#[test]
fn a_command_decided_twice_is_found() {
    let mut journal = Journal::new();
    journal.announce();
    journal.decide_as("order_1", 0, 1, [1; 16]);
    journal.decide_as("order_1", 1, 0, [1; 16]);
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), ["command_twice"]);
}

#[test]
fn after_an_undecodable_decision_the_versions_of_its_aggregate_are_not_checked() {
    let mut journal = Journal::new();
    journal.announce();
    let (mut value, _) = journal.encoded(1, decision(0, 1, [1; 16]));
    value.pop();
    let mut other = journal.clone_owner();
    other.records = journal.records.clone();
    journal.push(b"order_1".to_vec(), value.clone());
    journal.hash = audit::model::next_hash(&journal.hash, b"order_1", &value);
    journal.seq = 1;
    journal.decide("order_1", 1, 1);
    journal.decide("order_1", 2, 1);
    let report = verify(&copy(&journal.records));
    assert_eq!(problems(&report), ["undecodable"]);
}

#[test]
fn a_decision_under_a_key_of_another_type_is_found() {
    for key in ["xrder_1", "creditnote_1", "order", "order_"] {
        let mut journal = Journal::new();
        journal.announce();
        journal.decide("order_1", 0, 1);
        assert_no_findings(&journal);
        journal.decide(key, 0, 1);
        let report = verify(&copy(&journal.records));
        assert_eq!(problems(&report), ["key_of_another_type"], "{key}");
        let finding = report.findings().next().unwrap();
        assert_eq!(finding.offset, Some(2), "{key}");
    }
}

#[test]
fn offsets_without_records_are_noted() {
    let mut journal = Journal::new();
    journal.announce();
    let last = journal.records.pop().unwrap();
    let entry = Entry {
        offset: 3,
        ..last.entry()
    };
    journal
        .records
        .push(RecordLine::new(&last.topic, last.partition, entry));
    journal.no_op();
    let report = assert_no_findings(&journal);
    assert_eq!(notes(&report), [NoteKind::OffsetsMissing { from: 0 }]);
}

proptest! {
    #[test]
    fn any_records_are_judged_without_a_panic(
        records in proptest::collection::vec(
            (
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..120)),
                0..3_i64,
            ),
            0..20,
        ),
    ) {
        let mut journal = Journal::new();
        journal.announce();
        let mut lines = journal.records.clone();
        let mut offset = 0;
        for (key, value, leap) in records {
            offset += leap;
            lines.push(RecordLine { offset, key, value, ..lines[0].clone() });
        }
        text(&verify(&copy(&lines)));
    }

    #[test]
    fn any_tail_of_a_decision_is_checked_without_a_panic(
        cut in 60..200_usize,
        tail in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut journal = Journal::new();
        journal.announce();
        let (mut value, key) = journal.encoded(1, decision(0, 1, [1; 16]));
        value.truncate(cut);
        value.extend(tail);
        journal.push(key, value);
        text(&verify(&copy(&journal.records)));
    }

    #[test]
    fn any_lines_are_checked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut file = copy(&[]);
        file.extend(&bytes);
        let _ = audit::verify::verify_copy(file.as_slice(), &[]);
        let _ = audit::verify::verify_copy(bytes.as_slice(), &[]);
        let _ = Frame::read(&bytes);
    }

    #[test]
    fn the_verdicts_on_a_prefix_do_not_depend_on_later_records(kept in 0..14_usize) {
        let journal = Journal::with_every_kind();
        let judge = |count: usize| {
            let mut model = Model::new(support::TOPIC, PARTITION);
            let records = journal.records.iter().take(count);
            let entry = |record: &RecordLine| {
                let entry: Entry<'_> = record.entry();
                model.judge(entry)
            };
            records.map(entry).collect::<Vec<_>>()
        };
        let (all, prefix) = (judge(usize::MAX), judge(kept));
        prop_assert_eq!(&all[..prefix.len()], &prefix[..]);
    }
}
