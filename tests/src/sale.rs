//! Sales to import, as clients write them.

use serde_json::{Value, json};

/// The body of a sale with one line, worth GBP 1.
pub fn sale(invoice: &str) -> Value {
    json!({"invoice": invoice, "country": "EIRE", "currency": "GBP",
        "ordered_at": "2010-12-01T08:26:00Z", "lines": [line("A")]})
}

/// A line of a sale: one piece, worth one major unit of the sale's currency.
pub fn line(sku: &str) -> Value {
    json!({"sku": sku, "quantity": 1, "unit_price": 1_000_000})
}

/// A line of a batch that imports a sale.
pub fn import_sale(key: &str, sale: &Value) -> Value {
    json!({"key": key, "command": "ImportSale", "body": sale})
}
