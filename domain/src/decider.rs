//! The trait of every aggregate: `decide` turns a command into events, `evolve` applies an event to the state.

use schemas::{AggregateEvent, OutcomeKind};

/// The rules of one kind of aggregate.
pub trait Decider {
    /// The state of one aggregate. The default is an aggregate that does not exist yet.
    type State: Default;
    /// A request to change one aggregate.
    type Command;
    /// The events of this kind of aggregate.
    type Event: AggregateEvent;
    /// A rejection by the business, never a technical failure.
    type Rejection: Rejection;

    /// The kind's name, the first part of every record key: lower-case letters. It is stored and can never change.
    const AGGREGATE_TYPE: &'static str = <Self::Event as AggregateEvent>::AGGREGATE_TYPE;

    /// Answers a command with the events to record. No events means "already so".
    fn decide(
        state: &Self::State,
        command: &Self::Command,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Applies one recorded event. It accepts every event in every state.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// A typed rejection of a command by the business.
pub trait Rejection: std::error::Error {
    /// The rejection's name, upper-case and stable: programs rely on it.
    fn code(&self) -> &'static str;

    /// The kind of rejection. It is stored with the rejection, and determines the HTTP status.
    fn kind(&self) -> RejectionKind;
}

/// The kinds of rejections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionKind {
    /// The aggregate, or something that the command names, does not exist.
    NotFound,
    /// The aggregate's state does not allow the command.
    Conflict,
    /// A value breaks a business rule.
    Invalid,
    /// The principal may not do this.
    Forbidden,
}

impl From<RejectionKind> for OutcomeKind {
    fn from(kind: RejectionKind) -> Self {
        match kind {
            RejectionKind::NotFound => Self::NotFound,
            RejectionKind::Conflict => Self::Conflict,
            RejectionKind::Invalid => Self::Invalid,
            RejectionKind::Forbidden => Self::Forbidden,
        }
    }
}

/// Applies events to a state, in their order, and returns the state after the last one.
pub fn fold<'e, D: Decider>(
    state: D::State,
    events: impl IntoIterator<Item = &'e D::Event>,
) -> D::State
where
    D::Event: 'e,
{
    events.into_iter().fold(state, D::evolve)
}
