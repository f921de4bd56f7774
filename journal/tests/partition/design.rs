//! The design that the model checker varies, and ways to get it wrong.

/// Number of owners.
pub const OWNERS: usize = 2;

/// The design of owners and readers.
#[derive(Debug, Clone, Copy)]
pub struct Design {
    pub judging: Judging,
    pub answering: Answering,
    pub announcing: Announcing,
    pub serving: Serving,
    pub reading: Reading,
    pub retrying: Retrying,
    pub speculating: Speculating,
    pub read_only: ReadOnlyAnswering,
    pub naming: Naming,
    pub bounds: Bounds,
}

/// The bounds of the search. Beyond a bound no event happens, which is like a crash there.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Announcements of each owner.
    pub terms: [u8; OWNERS],
    /// Commands that each owner has to decide, one commit each and one more per retry.
    pub commands: [u8; OWNERS],
    /// Appends that are sent a second time, over the whole run: the broker takes the copy, or it
    /// recognises it and reports no offset.
    pub duplicates: u8,
    /// Read-only commands, over the whole run. A read-only command is answered without a commit, such as a refusal.
    pub read_only_commands: u8,
    /// Whether the run ends with an alteration of the log.
    pub alteration: bool,
    /// Records in the log.
    pub records: usize,
}

/// The rule for valid announcements and commits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judging {
    /// As in `journal::rule`.
    Rule,
    /// Wrong: any later epoch begins a term, not only the next.
    AnyLaterEpoch,
    /// Wrong: an announcement of the current epoch begins it again.
    SameEpochAgain,
    /// Wrong: a commit may come after a gap in seq, and prev is not checked.
    GapsInSeq,
    /// Wrong: prev is not checked.
    AnyPrev,
    /// Wrong: a commit before its announcement is void, and the reader continues.
    SilentGaps,
}

/// When an owner answers a command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answering {
    /// Its commit is proved: its offset follows its predecessor's, which is proved.
    Proved,
    /// Wrong: the broker has reported its commit.
    Delivered,
    /// Wrong: its offset follows its predecessor's, proved or not.
    Adjacent,
    /// Wrong: also if the broker reports a duplicate and its predecessor is proved.
    KnownToBroker,
}

/// The epoch that an owner announces, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Announcing {
    /// Its own epoch + 1, or the log's last epoch + 1 if it has none, and only once it has read the
    /// verdict on its last announcement; until then it sends that announcement again.
    AfterReading,
    /// Wrong: it does not wait for that verdict, and announces one epoch further on.
    Blindly,
    /// Wrong: the epoch in force + 1, although another owner announced the epoch in force.
    AboveForeign,
}

/// When an owner starts to decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Serving {
    /// It has read its announcement as valid.
    AfterReading,
    /// Wrong: it has sent its announcement.
    AtOnce,
}

/// The records that an owner folds when it reads up to its next announcement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Every valid record.
    Everything,
    /// The records of its own last term. This is sufficient only if it announces its own epoch + 1.
    OwnTerm,
}

/// The handling of commits with an unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Retrying {
    /// A barrier: it announces itself again, reads up to that, and decides void commands again.
    AfterBarrier,
    /// Wrong: it decides again at once, in the same term.
    InTerm,
}

/// The state that unproved commits produced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speculating {
    /// A barrier drops it.
    Dropped,
    /// Wrong: it is kept.
    Kept,
}

/// When an owner answers a read-only command.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadOnlyAnswering {
    /// Once all commits that the answer depends on are proved, and a record that was appended after the command
    /// arrived.
    AfterProof,
    /// Wrong: at once, on all decided commits.
    OnOverlay,
    /// Wrong: at once, on all proved commits.
    OnProved,
}

/// The name of a term.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Naming {
    /// A unique id.
    Fresh,
    /// Wrong: its epoch, so that both owners use the same name.
    ByEpoch,
}
