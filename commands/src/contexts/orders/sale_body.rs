//! The body of commands that import sales and credit notes.

use crate::fields::{
    AtMost, CurrencyCode, CustomerId, Description, Name, QUANTITY_MAX, Sku, Time, UNIT_PRICE_MAX,
    Within,
};
use domain::sale::{Line, Sale};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Maximum number of lines of one sale.
pub const LINES_MAX: usize = 10_000;

/// A sale or a credit note of another system.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaleBody {
    /// The other system's invoice number.
    #[schema(value_type = String, example = "536365")]
    invoice: Name,
    /// The customer's opaque id, but not `.` or `..`. Leave it out, or send null, if the source names no customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "17850")]
    customer: Option<CustomerId>,
    /// The country's name, as in the source.
    #[schema(value_type = String, example = "United Kingdom")]
    country: Name,
    /// The time of the sale, in RFC 3339.
    ordered_at: Time,
    /// The currency of all prices, as a code of ISO 4217.
    currency: CurrencyCode,
    /// The lines of the sale; at least one.
    #[schema(value_type = Vec<LineBody>)]
    lines: AtMost<LINES_MAX, LineBody>,
}

/// One line of a sale.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineBody {
    /// The product sold.
    sku: Sku,
    /// The product's description, as in the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    description: Option<Description>,
    /// Number of pieces; negative if they were taken back.
    #[schema(value_type = i64, example = 6)]
    quantity: Within<QUANTITY_MAX>,
    /// Price of one piece, in millionths of the major unit; may be negative.
    #[schema(value_type = i64, example = 2_550_000)]
    unit_price: Within<UNIT_PRICE_MAX>,
}

impl SaleBody {
    /// Converts the sale for the decider.
    pub fn to_sale(&self) -> Sale {
        Sale {
            invoice: (&self.invoice).into(),
            customer: self.customer.as_ref().map(String::from),
            country: (&self.country).into(),
            at: self.ordered_at.get(),
            currency: self.currency.get(),
            lines: self
                .lines
                .as_slice()
                .iter()
                .map(LineBody::to_line)
                .collect(),
        }
    }
}

impl LineBody {
    fn to_line(&self) -> Line {
        Line {
            sku: self.sku.get().clone(),
            description: self.description.as_ref().map(String::from),
            quantity: self.quantity.into(),
            unit_price: self.unit_price.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sale() -> Value {
        json!({"invoice": "1", "country": "EIRE", "ordered_at": "2010-12-01T08:26:00Z",
               "currency": "GBP", "lines": [{"sku": "A", "quantity": -1, "unit_price": 1}]})
    }

    fn with(pointer: &str, value: Value) -> Result<Sale, String> {
        let mut body = sale();
        match body.pointer_mut(pointer) {
            Some(field) => *field = value,
            None => body[pointer.trim_start_matches('/')] = value,
        }
        let body = service::json::read::<SaleBody>(body.to_string().as_bytes());
        let body = body.map_err(|error| error.to_string())?;
        Ok(body.to_sale())
    }

    #[test]
    fn an_error_names_the_field_that_is_wrong() {
        with("/customer", Value::Null).unwrap();
        for (pointer, value, part) in [
            ("/invoice", json!(""), "invoice: must not be empty"),
            ("/invoice", json!(7), "invoice: invalid type"),
            (
                "/customer",
                json!("x".repeat(65)),
                "customer: must have at most 64",
            ),
            ("/customer", json!(".."), "customer: must not be \"..\""),
            (
                "/country",
                json!("A\u{0}"),
                "country: must not have control characters",
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
                "lines[0].quantity: must be between",
            ),
            (
                "/lines/0/quantity",
                json!(1.5),
                "lines[0].quantity: invalid type",
            ),
            (
                "/lines/0/unit_price",
                json!(i64::MIN),
                "lines[0].unit_price: must be between",
            ),
            (
                "/lines/0/unit_price",
                json!(1e30),
                "lines[0].unit_price: invalid type",
            ),
            ("/colour", json!(1), "unknown field `colour`"),
        ] {
            let error = with(pointer, value).unwrap_err();
            assert!(error.contains(part), "{pointer}: no {part:?} in: {error}");
        }
    }

    #[test]
    fn an_absent_and_a_null_customer_give_the_same_command() {
        let absent: SaleBody = serde_json::from_value(sale()).unwrap();
        let mut body = sale();
        body["customer"] = Value::Null;
        let null: SaleBody = serde_json::from_value(body).unwrap();
        let (absent, null) = (serde_json::to_value(absent), serde_json::to_value(null));
        assert_eq!(absent.unwrap(), null.unwrap());
    }
}
