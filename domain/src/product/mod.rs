//! A product: what it is called, and what it costs.

use crate::decider::Decider;
use schemas::{
    Money, Sku,
    catalog::{Event, ProductCreated, ProductPriceChanged},
};
use serde::{Deserialize, Serialize};

/// The aggregate `product`; its id is its SKU.
pub struct Product;

/// A product's life.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It is not on the books.
    #[default]
    Unknown,
    /// It is on the books.
    Created {
        /// May be empty.
        description: String,
        /// `None` until it is first priced.
        price: Option<Money>,
    },
}

/// What may be asked of a product.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Put it on the books.
    Create {
        /// Its id.
        sku: Sku,
        /// May be empty.
        description: String,
    },
    /// Set what it costs from now on.
    ChangePrice {
        /// Above zero.
        new: Money,
    },
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The SKU is taken by a product that is described otherwise.
    #[error("the product exists, and is described as {description:?}")]
    ExistsDescribedOtherwise {
        /// Its description.
        description: String,
    },
    /// There is nothing to price.
    #[error("there is no such product")]
    Unknown,
    /// A price is above zero.
    #[error("a price must be above zero, this is {price}")]
    PriceNotPositive {
        /// The price asked for.
        price: Money,
    },
}

impl Rejection {
    /// The rejection's stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ExistsDescribedOtherwise { .. } => "PRODUCT_EXISTS",
            Self::Unknown => "PRODUCT_NOT_FOUND",
            Self::PriceNotPositive { .. } => "PRICE_NOT_POSITIVE",
        }
    }
}

impl Decider for Product {
    const AGGREGATE_TYPE: &'static str = "product";
    type State = State;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(state: &State, command: &Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Create { sku, description } => create(state, sku, description),
            Command::ChangePrice { new } => change_price(state, *new),
        }
    }

    fn evolve(state: State, event: &Event) -> State {
        match (event, state) {
            (Event::ProductCreated(created), _) => State::Created {
                description: created.description.clone(),
                price: None,
            },
            (Event::ProductPriceChanged(changed), State::Created { description, .. }) => {
                State::Created {
                    description,
                    price: Some(changed.new),
                }
            }
            // No history of ours has this; a fact is never refused, and it does not make a product.
            (Event::ProductPriceChanged(_), State::Unknown) => State::Unknown,
        }
    }
}

fn create(state: &State, sku: &Sku, description: &str) -> Result<Vec<Event>, Rejection> {
    match state {
        State::Unknown => Ok(vec![Event::ProductCreated(ProductCreated {
            sku: sku.clone(),
            description: description.to_owned(),
        })]),
        State::Created {
            description: present,
            ..
        } if present == description => Ok(vec![]),
        State::Created {
            description: present,
            ..
        } => Err(Rejection::ExistsDescribedOtherwise {
            description: present.clone(),
        }),
    }
}

fn change_price(state: &State, new: Money) -> Result<Vec<Event>, Rejection> {
    match state {
        State::Unknown => Err(Rejection::Unknown),
        State::Created { .. } if new.amount <= 0 => Err(Rejection::PriceNotPositive { price: new }),
        State::Created { price, .. } if *price == Some(new) => Ok(vec![]),
        State::Created { price, .. } => Ok(vec![Event::ProductPriceChanged(ProductPriceChanged {
            old: *price,
            new,
        })]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::given;
    use proptest::prelude::*;
    use schemas::Currency;

    fn sku() -> Sku {
        Sku::parse("85123A").unwrap()
    }

    fn created(description: &str) -> Event {
        Event::ProductCreated(ProductCreated {
            sku: sku(),
            description: description.into(),
        })
    }

    fn create(description: &str) -> Command {
        Command::Create {
            sku: sku(),
            description: description.into(),
        }
    }

    fn pence(amount: i64) -> Money {
        Money {
            amount,
            currency: Currency::GBP,
        }
    }

    #[test]
    fn is_created_once() {
        given::<Product>([])
            .when(create("LANTERN"))
            .then([created("LANTERN")])
            .and_again_nothing();
    }

    #[test]
    fn is_not_silently_described_otherwise() {
        let description = "LANTERN".into();
        given::<Product>([created("LANTERN")])
            .when(create("WHITE LANTERN"))
            .then_rejected(Rejection::ExistsDescribedOtherwise { description });
    }

    #[test]
    fn a_price_change_says_old_and_new() {
        let first = Event::ProductPriceChanged(ProductPriceChanged {
            old: None,
            new: pence(255),
        });
        let second = ProductPriceChanged {
            old: Some(pence(255)),
            new: pence(339),
        };
        given::<Product>([created(""), first])
            .when(Command::ChangePrice { new: pence(339) })
            .then([Event::ProductPriceChanged(second)])
            .and_again_nothing();
    }

    #[test]
    fn the_same_price_is_already_so() {
        let first = Event::ProductPriceChanged(ProductPriceChanged {
            old: None,
            new: pence(255),
        });
        given::<Product>([created(""), first])
            .when(Command::ChangePrice { new: pence(255) })
            .then_nothing();
    }

    #[test]
    fn refuses_prices_that_are_none() {
        let unknown = given::<Product>([]).when(Command::ChangePrice { new: pence(1) });
        unknown.then_rejected(Rejection::Unknown);
        given::<Product>([created("")])
            .when(Command::ChangePrice { new: pence(0) })
            .then_rejected(Rejection::PriceNotPositive { price: pence(0) });
    }

    fn any_command() -> impl Strategy<Value = Command> {
        prop_oneof![
            "[a-c]?".prop_map(|description| create(&description)),
            (-2_i64..3).prop_map(|amount| Command::ChangePrice { new: pence(amount) }),
        ]
    }

    proptest! {
        #[test]
        fn any_command_in_any_state_changes_nothing_the_second_time(
            commands in proptest::collection::vec(any_command(), 1..20)
        ) {
            let mut state = State::default();
            for command in &commands {
                if let Ok(events) = Product::decide(&state, command) {
                    state = crate::fold::<Product>(state, &events);
                    prop_assert_eq!(Product::decide(&state, command), Ok(vec![]));
                }
            }
        }
    }
}
