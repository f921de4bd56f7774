//! What the checker varies: the design, and ways to get it wrong.

/// How many owners there are.
pub const OWNERS: usize = 2;

/// How owners and readers go about it.
#[derive(Debug, Clone, Copy)]
pub struct Design {
    pub judging: Judging,
    pub answering: Answering,
    pub announcing: Announcing,
    pub serving: Serving,
    pub reading: Reading,
    pub retrying: Retrying,
    pub speculating: Speculating,
    pub asking: Asking,
    pub naming: Naming,
    pub bounds: Bounds,
}

/// How far the checker looks. Beyond a bound nothing more happens, which is like a crash there.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Announcements of each owner.
    pub terms: [u8; OWNERS],
    /// Commands that each owner has to decide, one commit each and one more per retry.
    pub commands: [u8; OWNERS],
    /// Appends that are sent a second time, over the whole run: the broker takes the copy, or it
    /// knows it for one and reports no offset.
    pub duplicates: u8,
    /// Questions that are answered without a commit, over the whole run.
    pub questions: u8,
    /// Whether the run ends with an alteration of the log.
    pub alteration: bool,
    /// Records in the log.
    pub records: usize,
}

/// Which announcements and commits are valid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Judging {
    /// As `journal::rule` says.
    Rule,
    /// Wrong: any later epoch begins a term, not only the next.
    AnyLaterEpoch,
    /// Wrong: an announcement of the current epoch begins it again.
    SameEpochAgain,
    /// Wrong: a commit may come after a gap in seq, and prev is not checked.
    GapsInSeq,
    /// Wrong: prev is not checked.
    AnyPrev,
    /// Wrong: what comes before its announcement is void, and the reader goes on.
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
    /// Wrong: or the broker says that it has it already, where its predecessor is proved.
    KnownToBroker,
}

/// Which epoch an owner announces, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Announcing {
    /// The one after its own, or after the whole log if it has none, and only once it has read how
    /// its last announcement was judged; until then it sends that again.
    AfterReading,
    /// Wrong: also before, one epoch further on.
    Blindly,
    /// Wrong: the one after the epoch that is in force, though that is another owner's.
    AboveForeign,
}

/// When an owner begins to decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Serving {
    /// It has read its announcement as valid.
    AfterReading,
    /// Wrong: it has sent its announcement.
    AtOnce,
}

/// What an owner takes in when it reads up to its next announcement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Every valid record.
    Everything,
    /// The records of its own last term. Good enough behind its own epoch + 1, and only there.
    OwnTerm,
}

/// What an owner does with commits whose outcome it doesn't know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Retrying {
    /// A barrier: it announces itself again, reads up to that, and decides again what is void.
    BehindBarrier,
    /// Wrong: it decides again at once, in the same term.
    InTerm,
}

/// What becomes of the state that unproved commits made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speculating {
    /// A barrier drops it.
    Dropped,
    /// Wrong: it is kept.
    Kept,
}

/// When a question is answered that needs no commit, as a refusal does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Asking {
    /// All that it saw is proved, and a record of the term that was appended after it came.
    BehindProof,
    /// Wrong: at once, on everything that was decided.
    OnOverlay,
    /// Wrong: at once, on everything that is proved.
    OnProved,
}

/// How a term is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Naming {
    /// By an id that nobody else has.
    Fresh,
    /// Wrong: by its epoch, so that both owners call it the same.
    ByEpoch,
}
