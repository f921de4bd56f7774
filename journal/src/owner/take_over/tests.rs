//! The reactions of a take-over to errors of the reader.

use super::*;

#[test]
fn a_record_that_needs_newer_software_declines_the_partition_and_suspects_this_node() {
    let error = ReadError::Unreadable {
        topic: "journal.probe".into(),
        partition: 1,
        offset: 7,
        reason: "unknown event".into(),
    };
    let Failure::Decline(_, reason) = Failure::from(error) else {
        panic!("the owner would end, or try again at once");
    };
    assert!(reason.suspects_this_node(), "{reason}");
}

#[test]
fn a_log_that_lost_records_declines_the_partition_and_suspects_no_node() {
    let error = ReadError::LogTooShort {
        topic: "journal.probe".into(),
        partition: 1,
        end: 7,
        next_offset: 8,
    };
    let Failure::Decline(_, reason) = Failure::from(error) else {
        panic!("the owner would end, or try again at once");
    };
    assert!(!reason.suspects_this_node(), "{reason}");
}
