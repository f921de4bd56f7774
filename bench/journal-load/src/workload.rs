//! The workload: products that are described, stocked and sold. The owners and the baseline share its
//! rules.
//!
//! Each owner's journal belongs to a context, so the workload's events are encoded as the catalog's. A
//! number of pieces is encoded as an amount of money; the bytes are the same.

use journal::owner::Machine;
use schemas::{
    Currency, Money, Outcome, OutcomeKind,
    catalog::{Event, ProductCreated, ProductEvent, ProductPriceChanged},
    product::Sku,
};
use serde::{Deserialize, Serialize};

/// The commands.
#[derive(Debug, Clone)]
pub enum Command {
    /// Change the product's description.
    Describe {
        /// The product.
        sku: Sku,
        /// The new text.
        description: String,
    },
    /// Set the number of pieces in stock.
    Stock {
        /// The number of pieces.
        pieces: i64,
    },
    /// Sell one piece.
    Sell,
}

/// The state of a product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    description: String,
    pieces: i64,
}

/// The events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadEvent {
    /// The description was changed.
    Described {
        /// The product.
        sku: Sku,
        /// The new text.
        description: String,
    },
    /// The number of pieces in stock was changed.
    Counted {
        /// The number before.
        old: i64,
        /// The number after.
        new: i64,
    },
}

/// The rejection of a sale when no piece is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no piece is left")]
pub struct SoldOut;

/// Code of [`SoldOut`] in an answer.
pub const SOLD_OUT: &str = "SOLD_OUT";

impl State {
    /// The event of a command; `None` if the command changes nothing.
    pub fn decide(&self, command: &Command) -> Result<Option<WorkloadEvent>, SoldOut> {
        match command {
            Command::Describe { description, .. } if *description == self.description => Ok(None),
            Command::Describe { sku, description } => Ok(Some(WorkloadEvent::Described {
                sku: sku.clone(),
                description: description.clone(),
            })),
            Command::Stock { pieces } if *pieces == self.pieces => Ok(None),
            Command::Stock { pieces } => Ok(Some(self.counted(*pieces))),
            Command::Sell if self.pieces == 0 => Err(SoldOut),
            Command::Sell => Ok(Some(self.counted(self.pieces - 1))),
        }
    }

    fn counted(&self, new: i64) -> WorkloadEvent {
        WorkloadEvent::Counted {
            old: self.pieces,
            new,
        }
    }

    /// Sets the description.
    pub fn describe(&mut self, description: &str) {
        description.clone_into(&mut self.description);
    }

    /// Sets the number of pieces.
    pub fn set_pieces(&mut self, pieces: i64) {
        self.pieces = pieces;
    }
}

/// The rules as the state machine of an owner.
#[derive(Debug, Clone, Copy)]
pub struct Products;

impl Machine for Products {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    type State = State;
    type Command = Command;

    fn blank(&self, _aggregate_type: &str) -> Option<State> {
        Some(State::default())
    }

    fn decide(&self, state: &State, command: &Command) -> Result<Vec<Event>, Outcome> {
        match state.decide(command) {
            Ok(event) => Ok(event.into_iter().map(encodable).collect()),
            Err(SoldOut) => Err(Outcome {
                kind: OutcomeKind::Conflict,
                code: SOLD_OUT.into(),
                detail: b"{}".to_vec(),
            }),
        }
    }

    fn evolve(&self, mut state: State, event: &Event) -> State {
        match event {
            Event::Product(ProductEvent::ProductCreated(created)) => {
                state.describe(&created.description)
            }
            Event::Product(ProductEvent::ProductPriceChanged(changed)) => {
                state.set_pieces(changed.new.amount)
            }
        }
        state
    }
}

fn encodable(event: WorkloadEvent) -> Event {
    match event {
        WorkloadEvent::Described { sku, description } => {
            Event::Product(ProductEvent::ProductCreated(ProductCreated {
                sku,
                description,
            }))
        }
        WorkloadEvent::Counted { old, new } => {
            Event::Product(ProductEvent::ProductPriceChanged(ProductPriceChanged {
                old: Some(pieces(old)),
                new: pieces(new),
            }))
        }
    }
}

fn pieces(amount: i64) -> Money {
    Money {
        amount,
        currency: Currency::GBP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_pieces_are_sold_than_are_in_stock() {
        let mut state = State::default();
        state.set_pieces(1);
        assert_eq!(
            state.decide(&Command::Sell),
            Ok(Some(WorkloadEvent::Counted { old: 1, new: 0 }))
        );
        state.set_pieces(0);
        assert_eq!(state.decide(&Command::Sell), Err(SoldOut));
    }

    #[test]
    fn the_same_description_twice_changes_nothing() {
        let sku = Sku::parse("A").unwrap();
        let command = Command::Describe {
            sku,
            description: "red".into(),
        };
        let mut state = State::default();
        let decided = state.decide(&command);
        assert!(
            matches!(decided, Ok(Some(_))),
            "{decided:?} instead of an event"
        );
        state.describe("red");
        assert_eq!(state.decide(&command), Ok(None));
    }

    #[test]
    fn the_owners_machine_has_the_same_rules() {
        let stocked = Products.decide(&State::default(), &Command::Stock { pieces: 2 });
        let events = stocked.unwrap();
        let state = events.iter().fold(State::default(), |state, event| {
            Products.evolve(state, event)
        });
        assert_eq!(state.pieces, 2);
        let sold_out = Products.decide(&State::default(), &Command::Sell);
        assert_eq!(sold_out.unwrap_err().code, SOLD_OUT);
    }
}
