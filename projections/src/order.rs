//! The types of orders in the answers of all views. Each view has its own types for its stored rows.
//!
//! `list`, `detail` and `totals` have the queries that all versions of the view `orders` share.

pub mod detail;
pub mod list;
pub mod totals;

use crate::problems::QueryError;
use axum::http::StatusCode;
use schemas::{Currency, Totals, TotalsByCurrency, ids};
use serde::{Deserialize, Serialize};
use service::problem::Problem;
use utoipa::ToSchema;

/// The prefixes of the ids of orders and credit notes.
const ID_PREFIXES: [&str; 2] = ["order", "creditnote"];

/// Sale or credit note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// An order that the customer pays for.
    Sale,
    /// A refund to the customer.
    CreditNote,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Amount {
    /// Minor units (pence, cents), signed.
    #[schema(example = 13912)]
    pub amount: i64,
    /// ISO 4217.
    #[schema(example = "GBP")]
    pub currency: String,
}

/// An order or credit note, without its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderSummary {
    /// TypeID.
    #[schema(example = "order_01h455vb4pex5vsknk084sn02q")]
    pub id: String,
    /// Sale or credit note.
    pub kind: Kind,
    /// The source's invoice number.
    #[schema(example = "536365")]
    pub invoice: String,
    /// Opaque id of the customer; null if the source has none.
    #[schema(example = "17850")]
    pub customer: Option<String>,
    /// The country, spelled as in the source.
    #[schema(example = "United Kingdom")]
    pub country: String,
    /// RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub ordered_at: String,
    /// The sum of the lines; negative if money is given back.
    pub total: Amount,
    /// Number of lines.
    #[schema(example = 7)]
    pub line_count: i32,
    /// The aggregate's version.
    #[schema(example = 1)]
    pub version: i64,
}

/// One page of orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderPage {
    /// Newest first.
    pub orders: Vec<OrderSummary>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(example = "cursor-of-the-next-page")]
    pub next_cursor: Option<String>,
}

impl Kind {
    /// The name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "SALE",
            Self::CreditNote => "CREDIT_NOTE",
        }
    }

    /// Parses a stored name.
    ///
    /// # Errors
    /// [`QueryError::Value`] for a name that [`Kind::as_str`] never returns.
    pub fn stored(name: &str) -> Result<Self, QueryError> {
        [Self::Sale, Self::CreditNote]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| QueryError::Value {
                column: "kind",
                value: name.to_owned(),
            })
    }
}

impl Amount {
    /// An amount in minor units of a currency.
    pub fn new(amount: i64, currency: &str) -> Self {
        Self {
            amount,
            currency: currency.to_owned(),
        }
    }
}

/// Adds totals in a stored currency to those of a view.
///
/// # Errors
/// [`QueryError::Value`] for an invalid currency, [`QueryError::Overflow`] for a sum beyond 64 bits.
pub fn add_totals(
    sums: &mut TotalsByCurrency,
    currency: &str,
    totals: Totals,
) -> Result<(), QueryError> {
    let currency = Currency::parse(currency).map_err(|_| QueryError::Value {
        column: "currency",
        value: currency.to_owned(),
    })?;
    Ok(sums.add(currency, totals)?)
}

/// Checks the form of an order's id.
///
/// # Errors
/// A 400 if the text is not the id of an order or a credit note.
pub fn check_id(text: &str) -> Result<(), Problem> {
    let mut prefixes = ID_PREFIXES.iter();
    if prefixes.any(|prefix| ids::is_type_id(text, prefix)) {
        return Ok(());
    }
    let detail = "pass the id of an order or a credit note: order_ or creditnote_, then 26 \
        characters";
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "INVALID_ORDER_ID",
        detail,
    ))
}

/// The 404 of an order.
pub fn not_found(id: &str) -> Problem {
    let detail = format!("no order or credit note has the id {id}: pass an id from the list");
    Problem::new(StatusCode::NOT_FOUND, "ORDER_NOT_FOUND", detail)
}

/// Parses the currency code of a query parameter.
///
/// # Errors
/// A 400 if the text is not an ISO 4217 code.
pub fn currency(name: &str, text: &str) -> Result<String, Problem> {
    let parsed = Currency::parse(text).map_err(|_| {
        let detail = format!("{name}: pass an ISO 4217 code such as GBP");
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_CURRENCY", detail)
    });
    Ok(parsed?.code().to_owned())
}
