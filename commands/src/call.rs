//! A command on its way: who asks for what, under which id; the same on every node that it passes.

use crate::{
    contexts::orders,
    identity::{Hasher, IdempotencyKey, Principal},
    wire::{self, FieldError, MoneyBody, PriceBody, ProductBody, SaleBody},
};
use domain::{CreditNote, Decider, Order, Product, credit_note, order, product};
use journal::owner::{Request, machine_clock};
use schemas::{
    Origin, Timestamp,
    context::{CATALOG, ORDERS},
    ids::CommandId,
    owners::Place,
    topics::PARTITIONS,
};
use serde::{Deserialize, Serialize};

/// What is asked, as the client gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "name", content = "body")]
pub enum Call {
    /// Puts a product on the books.
    CreateProduct(ProductBody),
    /// Sets what a product costs.
    ChangePrice(PriceChange),
    /// Takes over a sale.
    ImportSale(SaleBody),
    /// Takes over a credit note.
    ImportCreditNote(SaleBody),
}

/// Which product shall cost what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceChange {
    /// The product.
    pub sku: String,
    /// What it costs from now on.
    pub price: MoneyBody,
}

/// A command with the id that makes a retry the same command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Made once, at the node that took the command; it goes with it.
    #[serde(with = "id_text")]
    pub id: CommandId,
    /// Whether the client named it, by an idempotency key.
    pub keyed: bool,
    /// When the node that took it from its client did so, by that node's clock: it goes with it, so that
    /// a command that was long on its way is known as such.
    pub received_at: Timestamp,
    /// Opaque id of the principal.
    pub actor: String,
    /// `If-Match`.
    pub expected_version: Option<i64>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What is asked.
    pub call: Call,
}

/// A checked command in its context's terms, for the owner of its partition.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// For the context `orders`.
    Orders(Request<orders::Command>),
    /// For the context `catalog`.
    Catalog(Request<product::Command>),
}

impl Call {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateProduct(_) => "CreateProduct",
            Self::ChangePrice(_) => "ChangePrice",
            Self::ImportSale(_) => "ImportSale",
            Self::ImportCreditNote(_) => "ImportCreditNote",
        }
    }

    /// Within what an idempotency key names one command: the command's name, and the aggregate where the
    /// client says which. Each partition knows the ids of its own commands only, so a key for two
    /// products names two commands, wherever they are.
    fn scope(&self) -> String {
        let name = self.name();
        match self {
            Self::CreateProduct(product) => format!("{name}/{}", product.sku),
            Self::ChangePrice(change) => format!("{name}/{}", change.sku),
            Self::ImportSale(_) | Self::ImportCreditNote(_) => name.into(),
        }
    }
}

impl Command {
    /// A command of `principal`, received now: under its key if it has one, else under a fresh id.
    pub fn new(principal: &Principal, key: Option<&IdempotencyKey>, call: Call) -> Self {
        Self {
            id: principal.command_id(&call.scope(), key),
            keyed: key.is_some(),
            received_at: machine_clock(),
            actor: principal.0.clone(),
            expected_version: None,
            traceparent: None,
            call,
        }
    }

    /// The same in its context's terms.
    ///
    /// # Errors
    /// A field can't be taken; which one, and why.
    pub fn prepare(&self, hasher: &Hasher) -> Result<Prepared, FieldError> {
        match &self.call {
            Call::CreateProduct(body) => {
                let (sku, description) = body.clone().into_parts()?;
                let key = product_key(sku.as_str());
                let command = product::Command::Create { sku, description };
                self.request(hasher, key, body, command)
                    .map(Prepared::Catalog)
            }
            Call::ChangePrice(change) => {
                let key = product_key(wire::sku(&change.sku)?.as_str());
                let price = change.price.clone();
                let new = PriceBody { price }.into_money()?;
                let command = product::Command::ChangePrice { new };
                self.request(hasher, key, change, command)
                    .map(Prepared::Catalog)
            }
            // The id of what a command creates is made of the command's, so that a retry finds it; it is
            // a TypeID, `<type>_<suffix>`, which is a record's key as it stands.
            Call::ImportSale(body) => {
                let key = self.id.aggregate_id(Order::AGGREGATE_TYPE);
                let command = orders::Command::Order(order::Command::ImportSale(body.to_sale()?));
                self.request(hasher, key, body, command)
                    .map(Prepared::Orders)
            }
            Call::ImportCreditNote(body) => {
                let key = self.id.aggregate_id(CreditNote::AGGREGATE_TYPE);
                let command = credit_note::Command::ImportCreditNote(body.to_sale()?);
                let command = orders::Command::CreditNote(command);
                self.request(hasher, key, body, command)
                    .map(Prepared::Orders)
            }
        }
    }

    fn request<C>(
        &self,
        hasher: &Hasher,
        key: String,
        body: &impl Serialize,
        command: C,
    ) -> Result<Request<C>, FieldError> {
        let hash = hasher
            .hash(self.call.name(), body)
            .map_err(|error| FieldError {
                field: "body".into(),
                reason: format!("has no canonical form: {error}"),
            })?;
        Ok(Request {
            key,
            command,
            id: self.id,
            hash,
            origin: if self.keyed {
                Origin::Keyed
            } else {
                Origin::Server
            },
            actor: self.actor.clone(),
            // A command from outside begins a story of its own.
            correlation_id: self.id.0,
            causation_id: None,
            traceparent: self.traceparent.clone(),
            expected_version: self.expected_version,
            received_at: self.received_at,
        })
    }
}

impl Prepared {
    /// The key of the record that it would become.
    pub fn key(&self) -> &str {
        match self {
            Self::Orders(request) => &request.key,
            Self::Catalog(request) => &request.key,
        }
    }

    /// The id of the trace that it is of.
    pub fn trace_id(&self) -> Option<&str> {
        match self {
            Self::Orders(request) => request.trace_id(),
            Self::Catalog(request) => request.trace_id(),
        }
    }

    /// The partition that decides it.
    pub fn place(&self) -> Place {
        let topic = match self {
            Self::Orders(_) => ORDERS.topic,
            Self::Catalog(_) => CATALOG.topic,
        };
        let partition = kafka::partition::of_key(self.key().as_bytes(), PARTITIONS);
        (topic, partition)
    }
}

fn product_key(sku: &str) -> String {
    format!("{}_{sku}", Product::AGGREGATE_TYPE)
}

/// A command's id as 32 hexadecimal digits.
mod id_text {
    use schemas::ids::CommandId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(id: &CommandId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(id.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommandId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut id = [0; 16];
        hex::decode_to_slice(&text, &mut id).map_err(D::Error::custom)?;
        Ok(CommandId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale() -> Call {
        let body = serde_json::json!({"invoice": "1", "country": "EIRE", "currency": "GBP",
            "ordered_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "A", "quantity": -1, "unit_price": 1}]});
        Call::ImportSale(serde_json::from_value(body).unwrap())
    }

    fn price(sku: &str, amount: i64) -> Call {
        let currency = "GBP".into();
        Call::ChangePrice(PriceChange {
            sku: sku.into(),
            price: MoneyBody { amount, currency },
        })
    }

    #[test]
    fn a_key_names_one_command_for_each_product() {
        let key = IdempotencyKey::parse("k").unwrap();
        let id = |call| Command::new(&Principal::import(), Some(&key), call).id;
        assert_eq!(id(price("LAMP-1", 5)), id(price("LAMP-1", 6)));
        assert_ne!(id(price("LAMP-1", 5)), id(price("LAMP-2", 5)));
        assert_eq!(id(sale()), id(sale()));
    }

    #[test]
    fn a_command_is_the_same_command_on_the_next_node() {
        let hasher = Hasher::new([7; 32]);
        // Without a key, so that the id can't be made again from what the client gave.
        for call in [sale(), price("LAMP-1", 5)] {
            let here = Command {
                expected_version: Some(3),
                ..Command::new(&Principal::import(), None, call)
            };
            let line = serde_json::to_string(&here).unwrap();
            let there: Command = serde_json::from_str(&line).unwrap();
            assert_eq!(line, serde_json::to_string(&there).unwrap());
            let (here, there) = (
                here.prepare(&hasher).unwrap(),
                there.prepare(&hasher).unwrap(),
            );
            assert_eq!((here.key(), here.place()), (there.key(), there.place()));
            match (here, there) {
                (Prepared::Orders(here), Prepared::Orders(there)) => {
                    assert_eq!((here.id, here.hash), (there.id, there.hash));
                }
                (Prepared::Catalog(here), Prepared::Catalog(there)) => {
                    assert_eq!((here.id, here.hash), (there.id, there.hash));
                    assert_eq!(there.expected_version, Some(3));
                }
                pair => panic!("{pair:?}"),
            }
        }
    }
}
