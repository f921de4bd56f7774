//! A product: its description and its price.

use crate::decider::{Decider, RejectionKind};
use schemas::{
    Money, Sku,
    catalog::{ProductCreated, ProductEvent as Event, ProductPriceChanged},
};
use serde::{Deserialize, Serialize};

/// The aggregate `product`; its id is its SKU.
pub struct Product;

/// The state of a product.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// It does not exist.
    #[default]
    Unknown,
    /// It exists.
    Created {
        /// May be empty.
        description: String,
        /// `None` until it is first priced.
        price: Option<Money>,
    },
}

/// A request to change a product.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Add it to the catalog.
    Create {
        /// The SKU, which is the product's id.
        sku: Sku,
        /// May be empty.
        description: String,
    },
    /// Set its price.
    ChangePrice {
        /// The new price; must be above zero.
        new: Money,
    },
}

/// Reasons why a command is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The SKU belongs to a product with another description.
    #[error(
        "the product exists with the description {description:?}; send this description, or another SKU"
    )]
    ExistsWithOtherDescription {
        /// The existing product's description.
        description: String,
    },
    /// The product does not exist.
    #[error("the product does not exist; create it before you set its price")]
    Unknown,
    /// The price is zero or below.
    #[error("the price is {price}; send a price above zero")]
    PriceNotPositive {
        /// The requested price.
        price: Money,
    },
}

impl crate::decider::Rejection for Rejection {
    fn code(&self) -> &'static str {
        match self {
            Self::ExistsWithOtherDescription { .. } => "PRODUCT_EXISTS",
            Self::Unknown => "PRODUCT_NOT_FOUND",
            Self::PriceNotPositive { .. } => "PRICE_NOT_POSITIVE",
        }
    }

    fn kind(&self) -> RejectionKind {
        match self {
            Self::ExistsWithOtherDescription { .. } => RejectionKind::Conflict,
            Self::Unknown => RejectionKind::NotFound,
            Self::PriceNotPositive { .. } => RejectionKind::Invalid,
        }
    }
}

impl Decider for Product {
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
            // No log has a price before its product. Events are never refused, so a price without a product is
            // ignored.
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
        } => Err(Rejection::ExistsWithOtherDescription {
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
    fn a_product_is_created_once() {
        given::<Product>([])
            .when(create("LANTERN"))
            .then([created("LANTERN")])
            .and_again_nothing();
    }

    #[test]
    fn another_description_is_a_conflict() {
        let description = "LANTERN".into();
        given::<Product>([created("LANTERN")])
            .when(create("WHITE LANTERN"))
            .then_rejected(Rejection::ExistsWithOtherDescription { description });
    }

    #[test]
    fn a_price_change_has_the_old_and_the_new_price() {
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
    fn the_present_price_changes_nothing() {
        let first = Event::ProductPriceChanged(ProductPriceChanged {
            old: None,
            new: pence(255),
        });
        given::<Product>([created(""), first])
            .when(Command::ChangePrice { new: pence(255) })
            .then_nothing();
    }

    #[test]
    fn a_price_needs_a_product_and_must_be_positive() {
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
