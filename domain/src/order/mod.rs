//! An order. So far: one that was made elsewhere and is taken over as it stood.

use crate::{
    decider::Decider,
    sale::{Sale, SaleRejection},
};
use schemas::orders::{Event, SaleImported};
use serde::{Deserialize, Serialize};

/// The aggregate `order`.
pub struct Order;

/// An order's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    NotPlaced,
    /// It was made elsewhere and is complete.
    Imported,
}

/// What may be asked of an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Take over a sale that was made elsewhere.
    ImportSale(Sale),
}

impl Decider for Order {
    const AGGREGATE_TYPE: &'static str = "order";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = SaleRejection;

    fn decide(state: &State, command: &Command) -> Result<Vec<Event>, SaleRejection> {
        match command {
            Command::ImportSale(sale) => import_sale(state, sale),
        }
    }

    fn evolve(state: State, event: &Event) -> State {
        match event {
            Event::SaleImported(_) => State::Imported,
            // A fact about another aggregate.
            Event::CreditNoteIssued(_) => state,
        }
    }
}

fn import_sale(state: &State, sale: &Sale) -> Result<Vec<Event>, SaleRejection> {
    match state {
        State::Imported => Ok(vec![]),
        State::NotPlaced => {
            let (lines, total) = sale.priced()?;
            Ok(vec![Event::SaleImported(SaleImported {
                invoice: sale.invoice.clone(),
                customer: sale.customer.clone(),
                country: sale.country.clone(),
                ordered_at: sale.at,
                currency: sale.currency,
                lines,
                total,
            })])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sale::examples::{any_sale, sale},
        spec::given,
    };
    use proptest::prelude::*;

    #[test]
    fn takes_a_sale_over_once() {
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
    fn refuses_a_sale_without_lines() {
        let invoice = "536365".into();
        given::<Order>([])
            .when(Command::ImportSale(sale(&[])))
            .then_rejected(SaleRejection::NoLines { invoice });
    }

    proptest! {
        #[test]
        fn any_sale_twice_is_taken_over_at_most_once(sale in any_sale()) {
            let command = Command::ImportSale(sale);
            if let Ok(events) = Order::decide(&State::NotPlaced, &command) {
                let state = crate::fold::<Order>(State::NotPlaced, &events);
                prop_assert_eq!(events.len(), 1);
                prop_assert_eq!(Order::decide(&state, &command), Ok(vec![]));
            }
        }
    }
}
