//! What is asked and decided here: a shelf with one product, which is described, stocked and sold. The
//! rules stand once, for the owners and for the peer.
//!
//! The facts are the catalog's, for an owner's journal is a context's. A number of pieces is written as
//! an amount of money: the bytes are the same.

use journal::owner::Machine;
use schemas::{
    Currency, Money, Outcome,
    catalog::{Event, ProductCreated, ProductPriceChanged},
    product::Sku,
};
use serde::{Deserialize, Serialize};

/// What may be asked.
#[derive(Debug, Clone)]
pub enum Command {
    /// Write on the shelf what lies there.
    Describe {
        /// The product.
        sku: Sku,
        /// Another text than before.
        description: String,
    },
    /// Let so many pieces lie there.
    Stock {
        /// How many.
        pieces: i64,
    },
    /// Take one piece away.
    Sell,
}

/// What is known of a shelf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    description: String,
    pieces: i64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// It says something else now.
    Described {
        /// The product.
        sku: Sku,
        /// What it says.
        description: String,
    },
    /// Another number of pieces lies there.
    Counted {
        /// Before.
        old: i64,
        /// Now.
        new: i64,
    },
}

/// Nothing is left to sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing is left")]
pub struct SoldOut;

/// Status and code of [`SoldOut`] as an answer.
pub const SOLD_OUT: (i32, &str) = (409, "SOLD_OUT");

impl State {
    /// The facts of a command; none: already so.
    pub fn decide(&self, command: &Command) -> Result<Option<Fact>, SoldOut> {
        match command {
            Command::Describe { description, .. } if *description == self.description => Ok(None),
            Command::Describe { sku, description } => Ok(Some(Fact::Described {
                sku: sku.clone(),
                description: description.clone(),
            })),
            Command::Stock { pieces } if *pieces == self.pieces => Ok(None),
            Command::Stock { pieces } => Ok(Some(self.counted(*pieces))),
            Command::Sell if self.pieces == 0 => Err(SoldOut),
            Command::Sell => Ok(Some(self.counted(self.pieces - 1))),
        }
    }

    fn counted(&self, new: i64) -> Fact {
        Fact::Counted {
            old: self.pieces,
            new,
        }
    }

    /// It says `description` now.
    pub fn describe(&mut self, description: &str) {
        description.clone_into(&mut self.description);
    }

    /// So many pieces lie there now.
    pub fn count(&mut self, pieces: i64) {
        self.pieces = pieces;
    }
}

/// The rules as an owner wants them.
#[derive(Debug, Clone, Copy)]
pub struct Shelves;

impl Machine for Shelves {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    type State = State;
    type Command = Command;

    fn blank(&self, _aggregate_type: &str) -> State {
        State::default()
    }

    fn decide(&self, state: &State, command: &Command) -> Result<Vec<Event>, Outcome> {
        match state.decide(command) {
            Ok(fact) => Ok(fact.into_iter().map(event).collect()),
            Err(SoldOut) => Err(Outcome {
                status: SOLD_OUT.0,
                code: SOLD_OUT.1.into(),
                detail: b"{}".to_vec(),
            }),
        }
    }

    fn evolve(&self, mut state: State, event: &Event) -> State {
        match event {
            Event::ProductCreated(created) => state.describe(&created.description),
            Event::ProductPriceChanged(changed) => state.count(changed.new.amount),
        }
        state
    }
}

fn event(fact: Fact) -> Event {
    match fact {
        Fact::Described { sku, description } => {
            Event::ProductCreated(ProductCreated { sku, description })
        }
        Fact::Counted { old, new } => Event::ProductPriceChanged(ProductPriceChanged {
            old: Some(pieces(old)),
            new: pieces(new),
        }),
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
    fn sells_what_is_there_and_no_more() {
        let mut state = State::default();
        state.count(1);
        assert_eq!(
            state.decide(&Command::Sell),
            Ok(Some(Fact::Counted { old: 1, new: 0 }))
        );
        state.count(0);
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
        assert!(matches!(state.decide(&command), Ok(Some(_))));
        state.describe("red");
        assert_eq!(state.decide(&command), Ok(None));
    }

    #[test]
    fn the_owners_machine_follows_the_same_rules() {
        let stocked = Shelves.decide(&State::default(), &Command::Stock { pieces: 2 });
        let events = stocked.unwrap();
        let state = events.iter().fold(State::default(), |state, event| {
            Shelves.evolve(state, event)
        });
        assert_eq!(state.pieces, 2);
        let refused = Shelves.decide(&State::default(), &Command::Sell);
        assert_eq!(refused.unwrap_err().code, SOLD_OUT.1);
    }
}
