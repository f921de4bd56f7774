//! The versions of the void rule: the one that owners announce, and the latest one that readers know.
//!
//! The two are apart, because a process is reader and owner at once, and nodes are upgraded one after the other.
//! A reader halts at an announcement of a version that it does not know. So a new version takes two releases:
//!
//! 1. The first one raises [`RULE_VERSION_KNOWN`] alone: its readers judge each term by the version that the term's
//!    announcement names, and its owners announce the version before. Older nodes read all of it.
//! 2. The next one raises [`RULE_VERSION_ANNOUNCED`]. It is installed once every node and every other reader has the
//!    first release. From its first announcement on there is no way back behind the first release, but there is one
//!    to it.

/// The version of the rule that owners announce and follow.
pub const RULE_VERSION_ANNOUNCED: i32 = 1;
/// The latest version of the rule by which readers can judge.
pub const RULE_VERSION_KNOWN: i32 = 1;
/// The version of a log whose terms have named no other one.
pub const RULE_VERSION_FIRST: i32 = 1;

const _: () = assert!(
    RULE_VERSION_ANNOUNCED <= RULE_VERSION_KNOWN,
    "an owner reads its own announcement"
);
