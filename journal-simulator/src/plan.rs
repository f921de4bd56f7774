//! The plan of a run, drawn from its seed before it starts. Each run has some kinds of faults and not
//! others, because faults that always come together hide each other.

use crate::rng::Rng;
use kafka::BrokerRule;

/// The faults of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppendFault {
    /// It never lands; an error is reported.
    Lost,
    /// It lands, but an error is reported.
    Unknown,
    /// An error is reported, and it lands seconds later, after records that others appended meanwhile.
    Late,
    /// It lands twice.
    Doubled,
    /// It lands; it and some records after it are reported as duplicates, with offsets -1, 0, 1...
    Duplicate,
    /// It lands; it is reported without an offset.
    Implicit,
    /// It lands; no report comes.
    Unreported,
    /// It lands; the report comes seconds later.
    ReportedLate,
    /// It never lands: the brokers refuse it by a rule, which they report.
    Refused(BrokerRule),
    /// The producer's queue is full.
    QueueFull,
    /// The producer fails for good.
    ProducerFailed,
}

/// All of them.
const APPEND_FAULTS: [AppendFault; 12] = [
    AppendFault::Lost,
    AppendFault::Unknown,
    AppendFault::Late,
    AppendFault::Doubled,
    AppendFault::Duplicate,
    AppendFault::Implicit,
    AppendFault::Unreported,
    AppendFault::ReportedLate,
    AppendFault::Refused(BrokerRule::Size),
    AppendFault::Refused(BrokerRule::Access),
    AppendFault::QueueFull,
    AppendFault::ProducerFailed,
];

/// The faults of nodes and of their surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Assign,
    Kill,
    Stop,
    Pause,
    JumpClock,
    SetClockWrong,
    PassDay,
    Store(StoreFault),
    CutOff,
    StopBroker,
    Storm,
}

/// The faults of a state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreFault {
    /// It is deleted.
    Lose,
    /// Some entries can't be read.
    Tear,
    /// Writes fail for a while.
    Fill,
    /// Writes are slow for a while.
    Slow,
    /// It is reopened under its node, and has lost its last writes.
    Reopen,
    /// It is replaced by the store of another log.
    Replace,
}

/// All of them, the more frequent ones several times. Assignments always happen.
const ACTIONS: [Action; 19] = [
    Action::Kill,
    Action::Kill,
    Action::Stop,
    Action::Pause,
    Action::Pause,
    Action::Pause,
    Action::JumpClock,
    Action::SetClockWrong,
    Action::PassDay,
    Action::Store(StoreFault::Lose),
    Action::Store(StoreFault::Tear),
    Action::Store(StoreFault::Fill),
    Action::Store(StoreFault::Slow),
    Action::Store(StoreFault::Reopen),
    Action::Store(StoreFault::Replace),
    Action::CutOff,
    Action::StopBroker,
    Action::Storm,
    Action::Storm,
];

/// The plan of a run.
#[derive(Debug)]
pub(super) struct Plan {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of concurrent clients.
    pub clients: usize,
    /// New commands of each client.
    pub commands_of_client: u64,
    /// Maximum number of commands that a client sends at once.
    pub burst_max: u64,
    /// Longest time between two bursts of a client.
    pub think_ms_max: u64,
    /// How long faults are injected, at least until the last client is done.
    pub faults_ms: u64,
    /// Longest time between two faults.
    pub pause_ms_max: u64,
    /// Longest delay to the broker, outside storms.
    pub delay_ms_max: u64,
    /// The faults of appends, each with its rate in thousandths.
    pub append_faults: Vec<(AppendFault, u64)>,
    /// Rate of transient read errors, in thousandths of batches.
    pub read_error: u64,
    /// Rate of long silences of a stream, in thousandths of batches.
    pub read_silence: u64,
    /// The faults of nodes.
    pub actions: Vec<Action>,
}

impl Plan {
    /// Whether the brokers refuse appends by their access rules.
    pub fn refuses_access(&self) -> bool {
        let mut append_faults = self.append_faults.iter();
        append_faults.any(|(fault, _)| *fault == AppendFault::Refused(BrokerRule::Access))
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let mut append_faults = Vec::new();
        for append_fault in APPEND_FAULTS {
            if rng.chance(350) {
                append_faults.push((append_fault, [4, 15, 60][rng.index(3)]));
            }
        }
        let mut actions = vec![Action::Assign; rng.index(3) + 1];
        for action in ACTIONS {
            if rng.chance(300) {
                actions.push(action);
            }
        }
        Self {
            nodes: 2 + rng.index(2),
            clients: 2 + rng.index(4),
            commands_of_client: rng.between(10, 30),
            burst_max: [1, 4, 10][rng.index(3)],
            think_ms_max: [50, 400, 1_500][rng.index(3)],
            faults_ms: rng.between(5_000, 30_000),
            pause_ms_max: [1_000, 4_000, 12_000][rng.index(3)],
            delay_ms_max: [2, 20, 150][rng.index(3)],
            append_faults,
            read_error: [0, 0, 20][rng.index(3)],
            read_silence: [0, 0, 30][rng.index(3)],
            actions,
        }
    }
}
