//! The business of a simulated run: prices of a few products, on the catalog's own facts. Every fact
//! says the old price and the new one, so a decision on a wrong state shows in the log.

use crate::owner::Machine;
use schemas::{
    Currency, Money, Outcome,
    catalog::{Event, ProductPriceChanged},
};

/// The highest price.
pub(super) const PRICE_MAX: i64 = 24;

/// What clients ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// So many times, by one each.
    Raise { steps: i64 },
    /// By so much.
    Lower { by: i64 },
    /// To this price; it may be so already.
    Set { price: i64 },
}

/// The rules.
pub(super) struct Prices;

impl Machine for Prices {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    /// The price, if it ever had one.
    type State = Option<i64>;
    type Command = Ask;

    fn blank(&self, _: &str) -> Option<i64> {
        None
    }

    fn decide(&self, state: &Option<i64>, ask: &Ask) -> Result<Vec<Event>, Outcome> {
        let price = state.unwrap_or(0);
        match ask {
            Ask::Raise { steps } if price + steps > PRICE_MAX => Err(refusal("TOO_HIGH", price)),
            Ask::Raise { steps } => {
                let mut old = *state;
                let raise = |step| {
                    let new = price + step;
                    changed(old.replace(new), new)
                };
                Ok((1..=*steps).map(raise).collect())
            }
            Ask::Lower { by } if price - by < 0 => Err(refusal("TOO_LOW", price)),
            Ask::Lower { by } => Ok(vec![changed(*state, price - by)]),
            Ask::Set { price } if *state == Some(*price) => Ok(Vec::new()),
            Ask::Set { price } => Ok(vec![changed(*state, *price)]),
        }
    }

    fn evolve(&self, state: Option<i64>, event: &Event) -> Option<i64> {
        match event {
            Event::ProductPriceChanged(changed) => Some(changed.new.amount),
            Event::ProductCreated(_) => state,
        }
    }
}

fn changed(old: Option<i64>, new: i64) -> Event {
    let money = |amount| Money {
        amount,
        currency: Currency::GBP,
    };
    Event::ProductPriceChanged(ProductPriceChanged {
        old: old.map(money),
        new: money(new),
    })
}

fn refusal(code: &str, price: i64) -> Outcome {
    Outcome {
        status: 409,
        code: code.into(),
        detail: format!("{{\"price\":{price}}}").into_bytes(),
    }
}
