//! Given/when/then for any decider: `given([..]).when(command).then([..])`.

use crate::decider::{Decider, fold};
use std::fmt::Debug;

pub struct Given<D: Decider>(D::State);

pub struct When<D: Decider> {
    state: D::State,
    command: D::Command,
    outcome: Result<Vec<D::Event>, D::Rejection>,
}

pub struct Then<D: Decider> {
    state: D::State,
    command: D::Command,
}

pub fn given<D: Decider>(history: impl IntoIterator<Item = D::Event>) -> Given<D> {
    let history: Vec<_> = history.into_iter().collect();
    Given(fold::<D>(D::State::default(), &history))
}

impl<D: Decider> Given<D> {
    pub fn when(self, command: D::Command) -> When<D> {
        When {
            outcome: D::decide(&self.0, &command),
            state: self.0,
            command,
        }
    }
}

impl<D: Decider> When<D>
where
    D::Event: PartialEq + Debug,
    D::Rejection: PartialEq + Debug,
{
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) -> Then<D> {
        let events = self.outcome.expect("the command was rejected");
        assert_eq!(events, expected.into_iter().collect::<Vec<_>>());
        Then {
            state: fold::<D>(self.state, &events),
            command: self.command,
        }
    }

    #[track_caller]
    pub fn then_nothing(self) {
        self.then([]);
    }

    #[track_caller]
    pub fn then_rejected(self, expected: D::Rejection) {
        assert_eq!(self.outcome, Err(expected));
    }
}

impl<D: Decider> Then<D>
where
    D::Event: PartialEq + Debug,
    D::Rejection: PartialEq + Debug,
{
    /// The same command, delivered again, records nothing.
    #[track_caller]
    pub fn and_again_nothing(self) {
        assert_eq!(D::decide(&self.state, &self.command), Ok(vec![]));
    }
}
