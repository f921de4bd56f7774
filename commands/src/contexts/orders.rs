//! The context `orders`: orders and credit notes.

use crate::outcome::refusal;
use domain::{CreditNote, Decider, Order, credit_note, order};
use journal::owner::Machine;
use schemas::{Outcome, orders::Event};
use serde::{Deserialize, Serialize};

/// Decides for orders and credit notes.
#[derive(Debug, Clone, Copy)]
pub struct Orders;

/// What is known of an aggregate of this context.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum State {
    /// An order.
    Order(order::State),
    /// A credit note.
    CreditNote(credit_note::State),
}

/// What may be asked in this context.
#[derive(Debug, Clone)]
pub enum Command {
    /// Of an order.
    Order(order::Command),
    /// Of a credit note.
    CreditNote(credit_note::Command),
}

impl Machine for Orders {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    type State = State;
    type Command = Command;

    fn blank(&self, aggregate_type: &str) -> State {
        match aggregate_type {
            CreditNote::AGGREGATE_TYPE => State::CreditNote(credit_note::State::default()),
            _ => State::Order(order::State::default()),
        }
    }

    fn decide(&self, state: &State, command: &Command) -> Result<Vec<Event>, Outcome> {
        match (state, command) {
            (State::Order(state), Command::Order(command)) => {
                Order::decide(state, command).map_err(|error| refusal(422, error.code(), &error))
            }
            (State::CreditNote(state), Command::CreditNote(command)) => {
                CreditNote::decide(state, command)
                    .map_err(|error| refusal(422, error.code(), &error))
            }
            (State::Order(_), Command::CreditNote(_))
            | (State::CreditNote(_), Command::Order(_)) => {
                unreachable!("a command's key names the kind of aggregate that it is for")
            }
        }
    }

    fn evolve(&self, state: State, event: &Event) -> State {
        match state {
            State::Order(state) => State::Order(Order::evolve(state, event)),
            State::CreditNote(state) => State::CreditNote(CreditNote::evolve(state, event)),
        }
    }
}
