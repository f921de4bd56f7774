//! The context `catalog`: products.

use crate::outcome::refusal;
use domain::{
    Decider, Product,
    product::{self, Rejection},
};
use journal::owner::Machine;
use schemas::{Outcome, catalog::Event};

/// Decides for products.
#[derive(Debug, Clone, Copy)]
pub struct Catalog;

impl Machine for Catalog {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    type State = product::State;
    type Command = product::Command;

    fn blank(&self, _aggregate_type: &str) -> product::State {
        product::State::default()
    }

    fn decide(
        &self,
        state: &product::State,
        command: &product::Command,
    ) -> Result<Vec<Event>, Outcome> {
        Product::decide(state, command).map_err(|rejection| {
            let status = match rejection {
                Rejection::ExistsDescribedOtherwise { .. } => 409,
                Rejection::Unknown => 404,
                Rejection::PriceNotPositive { .. } => 422,
            };
            refusal(status, rejection.code(), &rejection)
        })
    }

    fn evolve(&self, state: product::State, event: &Event) -> product::State {
        Product::evolve(state, event)
    }
}
