//! Commands as clients send them, and their way into the domain's terms.
//!
//! Each field that can't be taken is refused by its path, such as `lines[3].sku`.

use domain::sale::{Line, Sale};
use schemas::{Currency, Money, Quantity, Sku, Timestamp, UnitPrice};
use serde::{Deserialize, Serialize};

/// Longest description of a product or a line, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 500;
/// Longest invoice number, customer id or country, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Most lines of one sale.
pub const LINES_MAX: usize = 10_000;
/// Largest quantity and largest unit price (in millionths), either sign: a billion pieces, and a
/// billion pounds.
pub const QUANTITY_MAX: i64 = 1_000_000_000;
/// See [`QUANTITY_MAX`].
pub const UNIT_PRICE_MAX: i64 = 1_000_000_000_000_000;
/// Largest amount of money, in minor units, either sign. Below 2^53, up to which the canonical JSON that
/// a command's hash is made of keeps whole numbers apart.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000_000;

/// A field that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// Where it stands in the command.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A sale or a credit note that was made elsewhere.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleBody {
    /// The number that the other system gave it.
    #[schema(example = "536365")]
    pub invoice: String,
    /// Opaque id; absent or null where the source has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "17850")]
    pub customer: Option<String>,
    /// As the source names it.
    #[schema(example = "United Kingdom")]
    pub country: String,
    /// RFC 3339.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub ordered_at: String,
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: String,
    /// At least one.
    pub lines: Vec<LineBody>,
}

/// One line of it.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineBody {
    /// What was sold.
    #[schema(example = "85123A")]
    pub sku: String,
    /// As the source words it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Signed.
    #[schema(example = 6)]
    pub quantity: i64,
    /// Millionths of the major unit, signed.
    #[schema(example = 2_550_000)]
    pub unit_price: i64,
}

/// A new product.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductBody {
    /// Its id: 1 to 64 printable ASCII characters; case counts.
    #[schema(example = "85123A")]
    pub sku: String,
    /// May be empty.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: String,
}

/// A product's new price.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceBody {
    /// What it costs from now on.
    pub price: MoneyBody,
}

/// Money: whole minor units of a currency.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoneyBody {
    /// Minor units.
    #[schema(example = 1999)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: String,
}

impl SaleBody {
    /// The same in the domain's terms.
    pub fn to_sale(&self) -> Result<Sale, FieldError> {
        if self.lines.len() > LINES_MAX {
            let reason = format!("{} lines, at most {LINES_MAX} are taken", self.lines.len());
            return Err(FieldError {
                field: "lines".into(),
                reason,
            });
        }
        let customer = self.customer.as_deref().map(|text| name("customer", text));
        let lines = self.lines.iter().enumerate();
        Ok(Sale {
            invoice: name("invoice", &self.invoice)?,
            customer: customer.transpose()?,
            country: name("country", &self.country)?,
            at: field("ordered_at", Timestamp::parse(&self.ordered_at))?,
            currency: field("currency", Currency::parse(&self.currency))?,
            lines: lines
                .map(|(index, line)| line.to_line(index))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl LineBody {
    fn to_line(&self, index: usize) -> Result<Line, FieldError> {
        let path = |name: &str| format!("lines[{index}].{name}");
        let text = self.description.as_deref();
        let text = text.map(|text| description(&path("description"), text));
        Ok(Line {
            sku: field(&path("sku"), Sku::parse(&self.sku))?,
            description: text.transpose()?,
            quantity: Quantity(within(&path("quantity"), self.quantity, QUANTITY_MAX)?),
            unit_price: UnitPrice(within(
                &path("unit_price"),
                self.unit_price,
                UNIT_PRICE_MAX,
            )?),
        })
    }
}

impl ProductBody {
    /// The SKU and the description, checked.
    pub fn into_parts(self) -> Result<(Sku, String), FieldError> {
        let sku = field("sku", Sku::parse(&self.sku))?;
        Ok((sku, description("description", &self.description)?))
    }
}

impl PriceBody {
    /// The price, checked.
    pub fn into_money(self) -> Result<Money, FieldError> {
        let currency = field("price.currency", Currency::parse(&self.price.currency))?;
        Ok(Money {
            amount: within("price.amount", self.price.amount, AMOUNT_MAX)?,
            currency,
        })
    }
}

/// A path segment that must be a SKU.
pub fn sku(text: &str) -> Result<Sku, FieldError> {
    field("sku", Sku::parse(text))
}

fn field<T>(name: &str, parsed: Result<T, impl std::error::Error>) -> Result<T, FieldError> {
    parsed.map_err(|error| FieldError {
        field: name.to_owned(),
        reason: error.to_string(),
    })
}

fn within(name: &str, value: i64, max: i64) -> Result<i64, FieldError> {
    match (-max..=max).contains(&value) {
        true => Ok(value),
        false => Err(FieldError {
            field: name.to_owned(),
            reason: format!("must lie between -{max} and {max}"),
        }),
    }
}

fn name(name: &str, text: &str) -> Result<String, FieldError> {
    match text.is_empty() {
        true => Err(FieldError {
            field: name.to_owned(),
            reason: "must not be empty".into(),
        }),
        false => bounded(name, text, NAME_CHARS_MAX),
    }
}

fn description(name: &str, text: &str) -> Result<String, FieldError> {
    bounded(name, text, DESCRIPTION_CHARS_MAX)
}

fn bounded(name: &str, text: &str, chars_max: usize) -> Result<String, FieldError> {
    let error = |reason: String| {
        Err(FieldError {
            field: name.to_owned(),
            reason,
        })
    };
    match text.chars().nth(chars_max) {
        Some(_) => error(format!("longer than {chars_max} characters")),
        None if text.chars().any(char::is_control) => error("has a control character".into()),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Hasher;
    use serde_json::{Value, json};

    fn sale() -> Value {
        json!({"invoice": "1", "country": "EIRE", "ordered_at": "2010-12-01T08:26:00Z",
               "currency": "GBP", "lines": [{"sku": "A", "quantity": -1, "unit_price": 1}]})
    }

    fn with(pointer: &str, value: Value) -> Result<Sale, String> {
        let mut body = sale();
        match body.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => body[pointer.trim_start_matches('/')] = value,
        }
        let body: SaleBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        body.to_sale().map_err(|error| error.to_string())
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        assert!(with("/customer", Value::Null).is_ok());
        for (pointer, value, part) in [
            ("/invoice", json!(""), "invoice: must not be empty"),
            ("/invoice", json!(7), "expected a string"),
            (
                "/customer",
                json!("x".repeat(65)),
                "customer: longer than 64",
            ),
            (
                "/country",
                json!("A\u{0}"),
                "country: has a control character",
            ),
            (
                "/ordered_at",
                json!("yesterday"),
                "ordered_at: not an RFC 3339 time",
            ),
            ("/currency", json!("PND"), "currency: unknown currency"),
            ("/lines/0/sku", json!(" A"), "lines[0].sku: "),
            (
                "/lines/0/quantity",
                json!(QUANTITY_MAX + 1),
                "lines[0].quantity: must lie between",
            ),
            ("/lines/0/quantity", json!(1.5), "expected i64"),
            (
                "/lines/0/unit_price",
                json!(i64::MIN),
                "lines[0].unit_price: must lie between",
            ),
            ("/lines/0/unit_price", json!(1e30), "expected i64"),
            ("/colour", json!(1), "unknown field `colour`"),
        ] {
            let error = with(pointer, value).unwrap_err();
            assert!(error.contains(part), "{pointer}: {error}");
        }
    }

    #[test]
    fn two_prices_are_two_commands_as_far_as_they_are_taken() {
        let price = |amount| PriceBody {
            price: MoneyBody {
                amount,
                currency: "GBP".into(),
            },
        };
        for amount in [AMOUNT_MAX, -AMOUNT_MAX] {
            assert_eq!(price(amount).into_money().unwrap().amount, amount);
            let beyond = price(amount + amount.signum()).into_money().unwrap_err();
            assert_eq!(beyond.field, "price.amount");
        }
        let hash = |amount| Hasher::new([7; 32]).hash("", &price(amount)).unwrap();
        assert_ne!(hash(AMOUNT_MAX), hash(AMOUNT_MAX - 1));
    }

    #[test]
    fn an_absent_customer_and_a_null_one_are_the_same_command() {
        let absent: SaleBody = serde_json::from_value(sale()).unwrap();
        let mut body = sale();
        body["customer"] = Value::Null;
        let null: SaleBody = serde_json::from_value(body).unwrap();
        assert_eq!(
            serde_json::to_value(absent).unwrap(),
            serde_json::to_value(null).unwrap()
        );
    }
}
