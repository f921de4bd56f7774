//! What a run is like: drawn from its seed before it begins. Each run has some kinds of faults and not
//! others, for what always comes together hides what comes alone.

use super::dice::Dice;

/// What may become of an append, other than to land once and be reported so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It never lands; an error is reported.
    Lost,
    /// It lands; an error is reported.
    Unknown,
    /// An error is reported, and seconds later it lands, behind what others appended meanwhile.
    Late,
    /// It lands twice.
    Doubled,
    /// It lands; it and some behind it are reported as duplicates are: with offsets -1, 0, 1...
    Duplicate,
    /// It lands; it is reported without an offset.
    Implicit,
    /// It lands; no report comes.
    Unreported,
    /// It lands; the report comes seconds later.
    ReportedLate,
    /// It is not taken.
    Refused,
    /// The producer is of no use from now on.
    Broken,
}

/// All of them.
const FATES: [Fate; 10] = [
    Fate::Lost,
    Fate::Unknown,
    Fate::Late,
    Fate::Doubled,
    Fate::Duplicate,
    Fate::Implicit,
    Fate::Unreported,
    Fate::ReportedLate,
    Fate::Refused,
    Fate::Broken,
];

/// What may happen to the processes and their surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Assign,
    Kill,
    Stop,
    Pause,
    JumpClock,
    SetClockWrong,
    PassDay,
    Store(Harm),
    CutOff,
    StopBroker,
    Storm,
}

/// What may happen to a state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    /// It is deleted.
    Lose,
    /// It can't be read in places.
    Tear,
    /// It takes no writes for a while.
    Fill,
    /// It is slow for a while.
    Slow,
    /// It is opened again under its process, and has lost its end.
    Reopen,
    /// It is another log's.
    Replace,
}

/// All of them, the more frequent ones more often. Assignments always happen.
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
    Action::Store(Harm::Lose),
    Action::Store(Harm::Tear),
    Action::Store(Harm::Fill),
    Action::Store(Harm::Slow),
    Action::Store(Harm::Reopen),
    Action::Store(Harm::Replace),
    Action::CutOff,
    Action::StopBroker,
    Action::Storm,
    Action::Storm,
];

/// What a run is like.
#[derive(Debug)]
pub(super) struct Plan {
    /// Processes.
    pub nodes: usize,
    /// Clients that ask side by side.
    pub clients: usize,
    /// New commands of each.
    pub commands_of_client: u64,
    /// Most commands that a client sends at once.
    pub burst_max: u64,
    /// Longest time that a client thinks.
    pub think_ms_max: u64,
    /// How long faults go on, at least until the last client is done.
    pub chaos_ms: u64,
    /// Longest time between two actions.
    pub calm_ms_max: u64,
    /// Longest way to the broker, in quiet times.
    pub delay_ms_max: u64,
    /// What appends meet with, in thousandths.
    pub fates: Vec<(Fate, u64)>,
    /// How often reading fails for a moment, in thousandths of batches.
    pub feed_error: u64,
    /// How often reading stands still, in thousandths of batches.
    pub feed_silence: u64,
    /// What is done to the processes.
    pub actions: Vec<Action>,
}

impl Plan {
    pub fn draw(dice: &mut Dice) -> Self {
        let mut fates = Vec::new();
        for fate in FATES {
            if dice.chance(350) {
                fates.push((fate, [4, 15, 60][dice.index(3)]));
            }
        }
        let mut actions = vec![Action::Assign; dice.index(3) + 1];
        for action in ACTIONS {
            if dice.chance(300) {
                actions.push(action);
            }
        }
        Self {
            nodes: 2 + dice.index(2),
            clients: 2 + dice.index(4),
            commands_of_client: dice.between(10, 30),
            burst_max: [1, 4, 10][dice.index(3)],
            think_ms_max: [50, 400, 1_500][dice.index(3)],
            chaos_ms: dice.between(5_000, 30_000),
            calm_ms_max: [1_000, 4_000, 12_000][dice.index(3)],
            delay_ms_max: [2, 20, 150][dice.index(3)],
            fates,
            feed_error: [0, 0, 20][dice.index(3)],
            feed_silence: [0, 0, 30][dice.index(3)],
            actions,
        }
    }
}
