//! Coverage: how often each situation occurred. A suite in which no fault occurs proves nothing.

/// Declares the situations that are counted, each with its text.
macro_rules! coverage_points {
    ($($(#[$doc:meta])* $name:ident $text:literal)+) => {
        /// A situation that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CoveragePoint { $($(#[$doc])* $name),+ }

        impl CoveragePoint {
            /// All situations.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its text in a summary.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

coverage_points! {
    /// A client sent a command for the first time.
    Command "commands"
    /// A client sent a command.
    Attempt "attempts"
    /// A commit is valid in the log.
    Commit "commits"
    /// A client got an answer.
    Answer "answers"
    /// A client got the answer of an earlier attempt's commit.
    Replay "replayed answers"
    /// A client got a rejection, or "already so".
    Outcome "rejections"
    /// A client got a refusal for another version.
    VersionMismatch "version mismatches"
    /// A client used an id for two commands.
    KeyReused "reused keys"
    /// A command was refused, because the brokers took no record of the owner.
    Forbidden "commands refused for access"
    /// A client got no answer in time, or was refused.
    NoAnswer "attempts without an answer"
    /// A record is void.
    VoidRecord "void records"
    /// A record is void, because its term had ended.
    ZombieRecord "void records of ended terms"
    /// A record is void, because an earlier one of its term is lost.
    GapRecord "void records behind a gap"
    /// A record is void, because it came twice.
    DoubleRecord "void records that came twice"
    /// An announcement is void, because another took its epoch.
    LostAnnouncement "announcements that lost"
    /// A no-op is valid: it proved that its owner still owned the partition.
    NoOp "no-ops"
    /// A command was appended more than once, because its first record is void.
    Redecision "commands decided again"
    /// An answer had expired, and a command with its id was decided again.
    ExpiredId "ids decided again after they expired"
    /// An owner took over.
    TakeOver "take-overs"
    /// An owner did not know the outcome of an append.
    Barrier "barriers"
    /// An owner was fenced by another one.
    Fencing "owners fenced"
    /// An owner found its clock wrong.
    ClockRefused "take-overs refused for the clock"
    /// An owner ended, because its store belongs to another log.
    StoreRefused "stores of other logs refused"
    /// An owner resumed from its store.
    StoreResumed "starts from a store"
    /// An owner emptied its store.
    StoreRebuilt "stores rebuilt"
    /// A node was killed.
    Crash "crashes"
    /// A node was shut down gracefully.
    Stop "graceful shutdowns"
    /// A node was paused for a while.
    Pause "pauses"
    /// The partition was assigned to two or more nodes at the same time.
    AssignedTwice "assignments to several nodes"
    /// The partition was assigned to no node.
    AssignedToNone "assignments to no node"
    /// A clock jumped.
    ClockJump "clock jumps"
    /// A clock was ten seconds off for a while.
    ClockWrong "wrong clocks"
    /// A day passed for all nodes.
    DayPassed "days that passed"
    /// An append is lost, and reported so.
    AppendLost "appends lost"
    /// An append landed, and was reported as failed.
    AppendUnknown "appends landed but reported as failed"
    /// An append landed long after it was reported as failed.
    AppendLate "appends landed late"
    /// An append landed twice.
    AppendDoubled "appends doubled"
    /// An append was reported with an offset that is not its own.
    OffsetUnknown "reports with offsets of duplicates"
    /// An append's report never came.
    ReportLost "reports lost"
    /// An append's report came late.
    ReportLate "reports late"
    /// An append was refused for its size.
    RefusedSize "appends refused for their size"
    /// An append was refused by the access rules.
    RefusedAccess "appends refused for access"
    /// The producer did not take an append.
    QueueFull "appends not taken"
    /// A producer failed for good.
    ProducerFailed "failed producers"
    /// Reading failed for a moment.
    ReadError "transient read errors"
    /// A stream returned no records for a while.
    ReadSilence "silences of streams"
    /// The broker was unavailable.
    BrokerUnavailable "brokers unavailable"
    /// A node could not reach the broker.
    Isolation "nodes cut off"
    /// Many faults came together.
    Storm "storms"
    /// A store lost its last writes with its node.
    StoreLostEnd "stores that lost writes"
    /// A store was deleted.
    StoreDeleted "stores deleted"
    /// Some entries of a store can't be read.
    StoreTorn "stores torn"
    /// A store took no writes for a while.
    StoreFull "stores full"
    /// A store was slow for a while.
    StoreSlow "stores slow"
    /// A slow store did not answer a read in time.
    StoreTimedOut "reads of stores timed out"
    /// A store was reopened under its node and had lost its last writes.
    StoreReopened "stores reopened"
    /// A store was built from another log.
    StoreForeign "stores of other logs"
    /// A reader started in mid-log.
    ReaderMidway "readers from a checkpoint"
    /// An altered log was read.
    LogAltered "altered logs"
    /// A log without one of its terms was read.
    TermRemoved "logs without a term"
    /// The broker did not report the end of a log.
    EndUnknown "ends not reported"
    /// A subscriber joined the shared reader.
    SubscriberJoined "subscribers joined"
    /// A subscriber reads only some of the partitions.
    SubscriberOfShare "subscribers of some partitions"
    /// A subscriber replaced a shared reader of fewer partitions.
    ReaderReplaced "shared readers replaced"
    /// A subscriber had not taken a batch in time.
    SubscriberLagged "subscribers that lagged"
    /// A subscriber stalled until the others were done.
    SubscriberStalled "subscribers stalled"
    /// A subscriber crashed with a batch.
    SubscriberCrash "subscribers crashed"
    /// A subscriber began again from an earlier checkpoint than its last.
    SubscriberRestored "subscribers restored"
    /// A subscriber paused a partition.
    SubscriberPaused "partitions paused"
    /// A subscriber learned that a partition is halted.
    SubscriberHalted "subscribers halted"
    /// A process with all its subscribers crashed.
    ReadersCrash "crashes of all subscribers"
    /// A projector crashed with a batch.
    ProjectorCrash "projectors crashed"
    /// A projector stalled between two requests.
    ProjectorStalled "projectors stalled"
    /// A projector found that another one had moved the checkpoint.
    CheckpointStale "stale checkpoints of projectors"
    /// A request of a projector got no answer.
    RequestFailed "requests without an answer"
    /// The driver sent a write twice.
    WriteRepeated "writes sent twice"
    /// A replica took a write late.
    WriteLate "writes late"
    /// A replica did not take a write.
    WriteLost "writes lost"
    /// A replica had a newer value than the write that it took.
    WriteOutdated "writes that came too late"
    /// A read stored the newest value at a replica that lacked it.
    ReadRepaired "replicas repaired by reads"
    /// A row was deleted.
    RowDeleted "rows deleted"
}

/// How often each situation occurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage([u64; CoveragePoint::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; CoveragePoint::ALL.len()])
    }
}

impl Coverage {
    /// How often it occurred.
    pub fn of(&self, point: CoveragePoint) -> u64 {
        self.0[point as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }

    /// Counts occurrences.
    pub(super) fn count(&mut self, point: CoveragePoint, times: u64) {
        self.0[point as usize] += times;
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, point) in CoveragePoint::ALL.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", self.of(*point), point.text())?;
        }
        Ok(())
    }
}
