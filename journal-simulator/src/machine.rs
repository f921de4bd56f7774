//! The state machine of a simulated run: a few counters. Every event has the old and the new value, so the log shows
//! a decision on a wrong state.

use journal::{
    owner::Machine,
    probe::{CounterChanged, Event},
};
use schemas::{Outcome, OutcomeKind};

/// The highest value.
pub(super) const VALUE_MAX: i64 = 24;

/// The command that a client invokes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Invocation {
    /// Raises the counter by 1, several times.
    Raise { steps: i64 },
    /// Lowers the counter.
    Lower { by: i64 },
    /// Sets the counter, which may have the value already.
    Set { value: i64 },
}

/// The rules of the counters.
pub(super) struct Counters;

impl Machine for Counters {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    /// The value, if the counter was ever changed.
    type State = Option<i64>;
    type Command = Invocation;

    fn blank(&self, _: &str) -> Option<Option<i64>> {
        Some(None)
    }

    fn decide(&self, state: &Option<i64>, invocation: &Invocation) -> Result<Vec<Event>, Outcome> {
        let value = state.unwrap_or(0);
        match invocation {
            Invocation::Raise { steps } if value + steps > VALUE_MAX => {
                Err(rejection("TOO_HIGH", value))
            }
            Invocation::Raise { steps } => {
                let mut old = *state;
                let raise = |step| {
                    let new = value + step;
                    changed(old.replace(new), new)
                };
                Ok((1..=*steps).map(raise).collect())
            }
            Invocation::Lower { by } if value - by < 0 => Err(rejection("TOO_LOW", value)),
            Invocation::Lower { by } => Ok(vec![changed(*state, value - by)]),
            Invocation::Set { value } if *state == Some(*value) => Ok(Vec::new()),
            Invocation::Set { value } => Ok(vec![changed(*state, *value)]),
        }
    }

    fn evolve(&self, state: Option<i64>, event: &Event) -> Option<i64> {
        match event {
            Event::CounterChanged(changed) => Some(changed.new),
            Event::Noted(_) => state,
        }
    }
}

fn changed(old: Option<i64>, new: i64) -> Event {
    Event::CounterChanged(CounterChanged { old, new })
}

fn rejection(code: &str, value: i64) -> Outcome {
    Outcome {
        kind: OutcomeKind::Conflict,
        code: code.into(),
        detail: format!("{{\"value\":{value}}}").into_bytes(),
    }
}
