//! An order. So far, every order is a sale of another system, imported unchanged.

use crate::{
    decider::Decider,
    sale::{Sale, SaleRejection},
};
use schemas::{
    ContentHash,
    orders::{OrderEvent as Event, SaleImported},
};
use serde::{Deserialize, Serialize};

/// The aggregate `order`.
pub struct Order;

/// The state of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    NotPlaced,
    /// It was imported from another system and is complete.
    Imported {
        /// The hash of its event.
        content: ContentHash,
    },
}

/// A request to change an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Import a sale of another system.
    ImportSale(Sale),
}

impl Decider for Order {
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = SaleRejection;

    fn decide(state: &State, command: &Command) -> Result<Vec<Event>, SaleRejection> {
        match command {
            Command::ImportSale(sale) => import_sale(state, sale),
        }
    }

    fn evolve(_: State, event: &Event) -> State {
        match event {
            Event::SaleImported(imported) => State::Imported {
                content: ContentHash::of(imported),
            },
        }
    }
}

fn import_sale(state: &State, sale: &Sale) -> Result<Vec<Event>, SaleRejection> {
    let (lines, total) = sale.priced()?;
    let imported = SaleImported {
        invoice: sale.invoice.clone(),
        customer: sale.customer.clone(),
        country: sale.country.clone(),
        ordered_at: sale.at,
        currency: sale.currency,
        lines,
        total,
    };
    match state {
        State::NotPlaced => Ok(vec![Event::SaleImported(imported)]),
        State::Imported { content } if *content == ContentHash::of(&imported) => Ok(vec![]),
        State::Imported { .. } => Err(SaleRejection::Exists {
            invoice: imported.invoice,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sale::examples::{any_sale, other_contents, sale},
        spec::given,
    };
    use proptest::prelude::*;

    #[test]
    fn a_sale_is_imported_once() {
        let expected = Event::SaleImported(SaleImported {
            invoice: "536365".into(),
            customer: Some("17850".into()),
            country: "United Kingdom".into(),
            ordered_at: schemas::Timestamp(1_291_191_960_000_000),
            currency: schemas::Currency::GBP,
            lines: sale(&[(6, 2_550_000)]).priced().unwrap().0,
            total: 1530,
        });
        given::<Order>([])
            .when(Command::ImportSale(sale(&[(6, 2_550_000)])))
            .then([expected])
            .and_again_nothing();
    }

    #[test]
    fn a_second_import_with_other_content_is_rejected() {
        let first = sale(&[(6, 2_550_000)]);
        let events = Order::decide(&State::NotPlaced, &Command::ImportSale(first.clone())).unwrap();
        for other in other_contents(&first) {
            let invoice = other.invoice.clone();
            given::<Order>(events.clone())
                .when(Command::ImportSale(other))
                .then_rejected(SaleRejection::Exists { invoice });
        }
    }

    #[test]
    fn a_sale_without_lines_is_rejected() {
        let invoice = "536365".into();
        given::<Order>([])
            .when(Command::ImportSale(sale(&[])))
            .then_rejected(SaleRejection::NoLines { invoice });
    }

    proptest! {
        #[test]
        fn any_sale_is_imported_at_most_once(sale in any_sale()) {
            let command = Command::ImportSale(sale);
            if let Ok(events) = Order::decide(&State::NotPlaced, &command) {
                let state = crate::fold::<Order>(State::NotPlaced, &events);
                prop_assert_eq!(events.len(), 1);
                prop_assert_eq!(Order::decide(&state, &command), Ok(vec![]));
            }
        }
    }
}
