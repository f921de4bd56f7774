//! The shape of every aggregate: decide what happens, evolve what is.

/// The rules of one kind of aggregate.
pub trait Decider {
    /// The kind's name, the first part of every record key: lower-case letters. Stored for ever.
    const AGGREGATE_TYPE: &'static str;
    /// What is known of one aggregate; the default is one that does not exist yet.
    type State: Default;
    /// What may be asked of it.
    type Command;
    /// The contract's facts of the aggregate's context. Those of other kinds of aggregate in the
    /// same context never stand under this one's key.
    type Event;
    /// Why the business refused; never a technical failure.
    type Rejection: std::error::Error;

    /// Answers a command with the facts to record. No events means "already so".
    fn decide(
        state: &Self::State,
        command: &Self::Command,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Applies one recorded fact. Total: a fact is never refused.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// What many facts come to.
pub fn fold<'e, D: Decider>(
    state: D::State,
    events: impl IntoIterator<Item = &'e D::Event>,
) -> D::State
where
    D::Event: 'e,
{
    events.into_iter().fold(state, D::evolve)
}
