//! The versions of the void rule: the version that owners announce, and the latest version that readers support.
//!
//! The two versions differ during an upgrade, because each process is both a reader and an owner, and nodes are
//! upgraded one after the other. A reader halts at an announcement of a version that it does not support. So a new
//! version takes two releases:
//!
//! 1. The first release raises only [`RULE_VERSION_KNOWN`]. Its readers judge each term by the version that the term's
//!    announcement names. Its owners still announce the previous version, so older nodes can read their records.
//! 2. The second release raises [`RULE_VERSION_ANNOUNCED`]. Install it once every node and every other reader has the
//!    first release. After its first announcement, nodes can be rolled back to the first release, but not to an earlier
//!    one.

/// The version of the rule that owners announce and follow.
pub const RULE_VERSION_ANNOUNCED: i32 = 1;
/// The latest version of the rule by which readers can judge.
pub const RULE_VERSION_KNOWN: i32 = 1;
/// The version of a log before its first announcement.
pub const RULE_VERSION_FIRST: i32 = 1;

const _: () = assert!(
    RULE_VERSION_ANNOUNCED <= RULE_VERSION_KNOWN,
    "an owner must support the version that it announces, because it reads its own announcement"
);
