//! How often what happened: a suite that never meets a fault proves nothing.

/// Declares what is counted, with the words for it.
macro_rules! happenings {
    ($($(#[$doc:meta])* $name:ident $text:literal)+) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Happening { $($(#[$doc])* $name),+ }

        impl Happening {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// In words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

happenings! {
    /// A client asked something for the first time.
    Command "commands"
    /// A client sent something.
    Attempt "attempts"
    /// A commit is valid in the log.
    Commit "commits"
    /// A client got an answer.
    Answer "answers"
    /// A client got an answer that an earlier attempt's commit gave.
    Replay "replayed answers"
    /// A client got a business's refusal, or "already so".
    Outcome "refusals by the business"
    /// A client got a refusal for another version.
    VersionMismatch "version mismatches"
    /// A client used an id for two commands.
    KeyReused "reused keys"
    /// A client got no answer in time, or was turned away.
    NoAnswer "attempts without an answer"
    /// A record is void.
    VoidRecord "void records"
    /// A record is void, for its term had ended.
    ZombieRecord "void records of ended terms"
    /// A record is void, for one before it in its term is lost.
    GapRecord "void records behind a gap"
    /// A record is void, for it came twice.
    DoubleRecord "void records that came twice"
    /// An announcement is void, for another took its epoch.
    LostAnnouncement "announcements that lost"
    /// A no-op is valid: it proved that its owner was in office.
    NoOp "no-ops"
    /// A command was appended more than once, for its first record is void.
    Redecision "commands decided again"
    /// An answer had expired, and its id was decided again.
    ExpiredId "ids decided again after they expired"
    /// An owner came into office.
    TakeOver "take-overs"
    /// An owner did not know an outcome.
    Barrier "barriers"
    /// An owner found another one in office.
    Deposition "depositions"
    /// An owner found its clock to be wrong.
    ClockRefused "take-overs refused for the clock"
    /// An owner ended, for its store is of another log.
    StoreRefused "stores of other logs refused"
    /// An owner found a store of its own to go on from.
    StoreKept "starts from a store"
    /// An owner emptied its store.
    StoreRebuilt "stores made again"
    /// A process was killed.
    Crash "crashes"
    /// A process was stopped in order.
    Stop "stops in order"
    /// A process stood still for a while.
    Pause "pauses"
    /// The partition was assigned to two or more.
    AssignedTwice "assignments to several"
    /// The partition was assigned to nobody.
    AssignedToNobody "assignments to nobody"
    /// A clock jumped.
    ClockJump "clock jumps"
    /// A clock was ten seconds off for a while.
    ClockWrong "wrong clocks"
    /// A day passed for everybody.
    DayPassed "days that passed"
    /// An append is lost, and reported so.
    AppendLost "appends lost"
    /// An append landed, and was reported as failed.
    AppendUnknown "appends landed but reported as failed"
    /// An append landed long after it was reported as failed.
    AppendLate "appends landed late"
    /// An append landed twice.
    AppendDoubled "appends doubled"
    /// An append was reported with an offset that says nothing.
    OffsetUnknown "reports with offsets of duplicates"
    /// An append's report never came.
    ReportLost "reports lost"
    /// An append's report came late.
    ReportLate "reports late"
    /// An append was not taken.
    QueueFull "appends not taken"
    /// A producer broke for good.
    ProducerBroken "producers broken"
    /// Reading failed for a moment.
    FeedError "passing errors in reading"
    /// Reading stood still.
    FeedSilent "silences in reading"
    /// The broker was away.
    BrokerAway "brokers away"
    /// A process could not reach the broker.
    Isolation "processes cut off"
    /// Many faults came together.
    Storm "storms"
    /// A store lost its last writes with its process.
    StoreLostEnd "stores that lost their end"
    /// A store was deleted.
    StoreDeleted "stores deleted"
    /// A store can't be read in places.
    StoreTorn "stores torn"
    /// A store took no writes for a while.
    StoreFull "stores full"
    /// A store was slow for a while.
    StoreSlow "stores slow"
    /// A store was opened again and had lost its end, under its process.
    StoreReopened "stores opened again"
    /// A store was made from another log.
    StoreForeign "stores of other logs"
    /// A reader began in mid-log.
    ReaderMidway "readers from a checkpoint"
    /// An altered log was read.
    LogAltered "altered logs"
    /// A log without one of its terms was read.
    TermCutOut "logs without a term"
}

/// How often what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally([u64; Happening::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Happening::ALL.len()])
    }
}

impl Tally {
    /// How often it happened.
    pub fn of(&self, happening: Happening) -> u64 {
        self.0[happening as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }

    /// It happened, so many times.
    pub(super) fn count(&mut self, happening: Happening, times: u64) {
        self.0[happening as usize] += times;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, happening) in Happening::ALL.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", self.of(*happening), happening.text())?;
        }
        Ok(())
    }
}
