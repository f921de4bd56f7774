//! Facts of the context `orders`. `avro/orders.avsc` is their schema.

use crate::{
    context::{ORDERS, context_events},
    money::{Currency, UnitPrice},
    product::{Quantity, Sku},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

context_events!(ORDERS, SaleImported, CreditNoteIssued);

/// A sale that was made elsewhere, taken over as it stood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaleImported {
    /// The number that the other system gave it.
    pub invoice: String,
    /// Opaque id of the customer; `None` where the source has none.
    pub customer: Option<String>,
    /// As the source names it.
    pub country: String,
    /// When the sale was made.
    pub ordered_at: Timestamp,
    /// The currency of all its amounts.
    pub currency: Currency,
    /// At least one.
    pub lines: Vec<SaleLine>,
    /// Minor units: the sum of the lines' amounts.
    pub total: i64,
}

/// Money given back. An aggregate of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreditNoteIssued {
    /// The credit note's own number.
    pub invoice: String,
    /// The order that it corrects; `None` where the source names none.
    pub order_id: Option<String>,
    /// Opaque id of the customer; `None` where the source has none.
    pub customer: Option<String>,
    /// As the source names it.
    pub country: String,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The currency of all its amounts.
    pub currency: Currency,
    /// At least one.
    pub lines: Vec<SaleLine>,
    /// Minor units, signed: below zero gives money back.
    pub total: i64,
}

/// One line of a sale or of a credit note.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaleLine {
    /// What was sold.
    pub sku: Sku,
    /// As the source words it.
    pub description: Option<String>,
    /// Signed.
    pub quantity: Quantity,
    /// Signed.
    pub unit_price: UnitPrice,
    /// Minor units: quantity x unit price, rounded half-even.
    pub amount: i64,
}
