//! What every view of orders keeps of one, and how an answer shows it.

use crate::facts::{Fact, FoldError};
use schemas::{
    Timestamp, ids,
    orders::{CreditNoteIssued, Event, SaleImported, SaleLine},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The prefixes of the ids of what this context's views call orders.
const ID_PREFIXES: [&str; 2] = ["order", "creditnote"];

/// The years 1 to 9999, in microseconds since 1970.
const CALENDAR_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Sale or credit note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// Goods for money.
    Sale,
    /// Money given back.
    CreditNote,
}

/// An order without its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The whole record key, which is the order's TypeID.
    pub id: String,
    /// Sale or credit note.
    pub kind: Kind,
    /// The number that the source gave it.
    pub invoice: String,
    /// Opaque id; `None` where the source has none.
    pub customer: Option<String>,
    /// As the source names it.
    pub country: String,
    /// When the sale was made or the credit note issued.
    pub ordered_at: Timestamp,
    /// ISO 4217.
    pub currency: String,
    /// Minor units, signed.
    pub total: i64,
    /// How many lines it has.
    pub line_count: i32,
    /// The aggregate's version that this row shows.
    pub version: i64,
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
    /// The number that the source gave it.
    #[schema(example = "536365")]
    pub invoice: String,
    /// Opaque id of the customer; null where the source has none.
    #[schema(example = "17850")]
    pub customer: Option<String>,
    /// As the source names it.
    #[schema(example = "United Kingdom")]
    pub country: String,
    /// RFC 3339, in UTC.
    #[schema(example = "2010-12-01T08:26:00Z")]
    pub ordered_at: String,
    /// The sum of its lines; below zero gives money back.
    pub total: Amount,
    /// How many lines it has.
    pub line_count: i32,
    /// The aggregate's version.
    pub version: i64,
}

/// One page of orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OrderPage {
    /// Newest first.
    pub orders: Vec<OrderSummary>,
    /// Gives the next page as `cursor`; null on the last one.
    pub next_cursor: Option<String>,
}

impl Kind {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "SALE",
            Self::CreditNote => "CREDIT_NOTE",
        }
    }

    /// Reads what [`Kind::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sale, Self::CreditNote]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

impl Header {
    /// What a fact says of its order: all of it, for each fact of today tells an order as a whole.
    pub fn of(fact: &Fact<'_, Event>) -> Result<Self, FoldError> {
        let (kind, invoice, customer, country, ordered_at, currency, total) = match fact.event {
            Event::SaleImported(SaleImported {
                invoice,
                customer,
                country,
                ordered_at,
                currency,
                lines: _,
                total,
            }) => (
                Kind::Sale,
                invoice,
                customer,
                country,
                ordered_at,
                currency,
                total,
            ),
            Event::CreditNoteIssued(CreditNoteIssued {
                invoice,
                order_id: _,
                customer,
                country,
                issued_at,
                currency,
                lines: _,
                total,
            }) => (
                Kind::CreditNote,
                invoice,
                customer,
                country,
                issued_at,
                currency,
                total,
            ),
        };
        if !is_in_calendar(*ordered_at) {
            return Err(FoldError::Time {
                key: fact.key.to_owned(),
                offset: fact.offset,
                time: *ordered_at,
            });
        }
        let lines = lines(fact.event).len();
        let line_count = i32::try_from(lines).map_err(|_| FoldError::TooManyLines {
            key: fact.key.to_owned(),
            offset: fact.offset,
            lines,
        })?;
        Ok(Self {
            id: fact.key.to_owned(),
            kind,
            invoice: invoice.clone(),
            customer: customer.clone(),
            country: country.clone(),
            ordered_at: *ordered_at,
            currency: currency.code().to_owned(),
            total: *total,
            line_count,
            version: fact.version,
        })
    }
}

/// The lines that a fact gives its order.
pub fn lines(event: &Event) -> &[SaleLine] {
    match event {
        Event::SaleImported(sale) => &sale.lines,
        Event::CreditNoteIssued(note) => &note.lines,
    }
}

/// Whether a time is of the years 1 to 9999, as every [`Timestamp`] that was read from text.
pub fn is_in_calendar(time: Timestamp) -> bool {
    CALENDAR_US.contains(&time.0)
}

/// Whether a text can be an order's id at all.
pub fn is_id(text: &str) -> bool {
    ID_PREFIXES
        .iter()
        .any(|prefix| ids::is_type_id(text, prefix))
}

impl Amount {
    /// Minor units of a currency.
    pub fn new(amount: i64, currency: &str) -> Self {
        Self {
            amount,
            currency: currency.to_owned(),
        }
    }
}

impl From<Header> for OrderSummary {
    fn from(header: Header) -> Self {
        Self {
            id: header.id,
            kind: header.kind,
            invoice: header.invoice,
            customer: header.customer,
            country: header.country,
            ordered_at: header.ordered_at.to_string(),
            total: Amount {
                amount: header.total,
                currency: header.currency,
            },
            line_count: header.line_count,
            version: header.version,
        }
    }
}
