//! A row of Online Retail as typed values, or the reason why it can't be taken.

use crate::import::{fields, london, price};
use schemas::{
    Currency, Quantity, UnitPrice,
    money::line_amount,
    product::{Sku, SkuError},
};
use std::borrow::Cow;

/// The currency of every price in the file.
pub const CURRENCY: Currency = Currency::GBP;

const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// Why the first row is no header of Online Retail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It isn't CSV.
    #[error("the header cannot be read")]
    Row(#[from] fields::Error),
    /// It lacks a column.
    #[error("the header has no column {column:?}; it has {found:?}")]
    MissingColumn {
        /// The column that is missing.
        column: &'static str,
        /// What the header has, cut at 200 characters.
        found: String,
    },
}

/// Why a row can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It isn't CSV.
    #[error(transparent)]
    Fields(#[from] fields::Error),
    /// More or fewer fields than the header has.
    #[error("the row has {found} fields, the header has {expected}")]
    FieldCount {
        /// As many as the header has.
        expected: usize,
        /// As many as the row has.
        found: usize,
    },
    /// Nothing there.
    #[error("the invoice number is empty")]
    NoInvoice,
    /// Nothing there.
    #[error("the country is empty")]
    NoCountry,
    /// The stock code can't be one.
    #[error(transparent)]
    StockCode(#[from] SkuError),
    /// The quantity is no whole number of 64 bits.
    #[error("the quantity is not a whole number, or out of range")]
    Quantity,
    /// The price can't be read.
    #[error(transparent)]
    Price(#[from] price::Error),
    /// The date can't be read.
    #[error(transparent)]
    Date(#[from] london::Error),
    /// Quantity times price is beyond 64 bits of minor units.
    #[error("quantity times price is out of range")]
    AmountOutOfRange,
}

/// Where each column stands.
pub struct Header {
    positions: [usize; COLUMNS.len()],
    fields: usize,
}

/// What one row says.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The invoice's number; not empty.
    pub invoice: &'a str,
    /// The product's code.
    pub sku: Sku,
    /// As in the file, blanks and all.
    pub description: &'a str,
    /// Pieces, signed.
    pub quantity: Quantity,
    /// When.
    pub time: london::Reading,
    /// Price of a piece, signed.
    pub unit_price: UnitPrice,
    /// Quantity times price in minor units, rounded half-even.
    pub amount: i64,
    /// The customer's id.
    pub customer: Option<&'a str>,
    /// Not empty.
    pub country: &'a str,
}

impl Header {
    /// Finds the columns by name, in whatever order; others may stand between them.
    pub fn parse(row: &str) -> Result<Self, HeaderError> {
        let names = fields::split(row)?;
        let mut positions = [0; COLUMNS.len()];
        for (position, column) in positions.iter_mut().zip(COLUMNS) {
            *position = names
                .iter()
                .position(|name| name.trim() == column)
                .ok_or_else(|| HeaderError::MissingColumn {
                    column,
                    found: row.chars().take(200).collect(),
                })?;
        }
        Ok(Self {
            positions,
            fields: names.len(),
        })
    }

    /// Splits a row under this header.
    pub fn split<'a>(&self, row: &'a str) -> Result<Vec<Cow<'a, str>>, RowError> {
        let fields = fields::split(row)?;
        if fields.len() == self.fields {
            Ok(fields)
        } else {
            Err(RowError::FieldCount {
                expected: self.fields,
                found: fields.len(),
            })
        }
    }

    /// The invoice that a row names which may be unfit for anything else; `None` if it names none.
    pub fn invoice_of(&self, row: &str) -> Option<String> {
        let position = self.positions[0];
        let invoice = match fields::split(row) {
            Ok(fields) => fields.get(position).map(|invoice| invoice.to_string()),
            // Whatever is wrong with the quotes, what stands before the first of them is as it stands.
            Err(_) => row
                .split(',')
                .nth(position)
                .map(|invoice| invoice.trim_matches('"').to_owned()),
        };
        invoice.filter(|invoice| !invoice.trim().is_empty())
    }

    /// Reads the fields that [`Header::split`] gave.
    pub fn read<'a>(
        &self,
        fields: &'a [Cow<'a, str>],
        clock: &london::Clock,
    ) -> Result<Entry<'a>, RowError> {
        let [
            invoice,
            sku,
            description,
            quantity,
            date,
            price,
            customer,
            country,
        ] = self.positions.map(|position| fields[position].as_ref());
        if invoice.trim().is_empty() {
            return Err(RowError::NoInvoice);
        }
        if country.trim().is_empty() {
            return Err(RowError::NoCountry);
        }
        let sku = Sku::parse(sku)?;
        let quantity = quantity
            .parse()
            .map(Quantity)
            .map_err(|_| RowError::Quantity)?;
        let unit_price = price::parse(price)?;
        let time = clock.read(date)?;
        let amount =
            line_amount(quantity, unit_price, CURRENCY).map_err(|_| RowError::AmountOutOfRange)?;
        Ok(Entry {
            invoice,
            sku,
            description,
            quantity,
            time,
            unit_price,
            amount,
            customer: Some(customer).filter(|customer| !customer.trim().is_empty()),
            country,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
    const ROW: &str = "536365,85123A,WHITE HEART ,6,12/1/2010 8:26,2.55,17850,United Kingdom";

    fn fault(row: &str) -> String {
        let header = Header::parse(HEADER).unwrap();
        let result = header.split(row).and_then(|fields| {
            let clock = london::Clock::new();
            header
                .read(&fields, &clock)
                .map(|entry| format!("{entry:?}"))
        });
        result.expect_err("the row must be refused").to_string()
    }

    #[test]
    fn finds_the_invoice_of_a_row_that_is_broken() {
        let header = Header::parse(HEADER).unwrap();
        for (row, invoice) in [
            (ROW, Some("536365")),
            ("C1", Some("C1")),
            ("1,A,\"open,1", Some("1")),
            ("\"1\",A,\"open,1", Some("1")),
            ("\"1,A", Some("1")),
            (" ,A,B", None),
            ("", None),
        ] {
            assert_eq!(header.invoice_of(row).as_deref(), invoice, "{row}");
        }
        let other = Header::parse(&format!("Note,{HEADER}")).unwrap();
        assert_eq!(other.invoice_of("x,7,\"A").as_deref(), Some("7"));
        assert_eq!(other.invoice_of("x"), None);
    }

    #[test]
    fn reads_a_row() {
        let header = Header::parse(HEADER).unwrap();
        let fields = header.split(ROW).unwrap();
        let entry = header.read(&fields, &london::Clock::new()).unwrap();
        assert_eq!(entry.invoice, "536365");
        assert_eq!(entry.sku.as_str(), "85123A");
        assert_eq!(entry.description, "WHITE HEART ");
        assert_eq!(
            (entry.quantity, entry.unit_price),
            (Quantity(6), UnitPrice(2_550_000))
        );
        assert_eq!(entry.amount, 1530);
        assert_eq!(entry.time.at.to_string(), "2010-12-01T08:26:00Z");
        assert_eq!(
            (entry.customer, entry.country),
            (Some("17850"), "United Kingdom")
        );
    }

    #[test]
    fn finds_columns_by_name() {
        let names = "Country,CustomerID,UnitPrice,Note,InvoiceDate,Quantity,Description,\
            StockCode,InvoiceNo";
        let header = Header::parse(names).unwrap();
        let fields = header
            .split("France,,1.5,x,12/1/2010 8:26,-2,,POST,C1")
            .unwrap();
        let entry = header.read(&fields, &london::Clock::new()).unwrap();
        assert_eq!(
            (entry.invoice, entry.country, entry.customer),
            ("C1", "France", None)
        );
        assert_eq!(entry.amount, -300);
    }

    #[test]
    fn names_the_missing_column() {
        let error = Header::parse("Invoice,StockCode").err().unwrap();
        assert_eq!(
            error.to_string(),
            "the header has no column \"InvoiceNo\"; it has \"Invoice,StockCode\""
        );
    }

    #[test]
    fn names_what_is_wrong_with_a_row() {
        for (from, to, reason) in [
            (
                "United Kingdom",
                "United,Kingdom",
                "the row has 9 fields, the header has 8",
            ),
            (
                "WHITE",
                "\"WHITE",
                "a quoted field is not closed on its line",
            ),
            ("536365", " ", "the invoice number is empty"),
            ("United Kingdom", "", "the country is empty"),
            (
                "85123A",
                "",
                "a stock code must not be empty nor begin or end with a blank",
            ),
            (
                "85123A",
                "85123£",
                "a stock code is printable ASCII, this has '£'",
            ),
            (
                ",6,",
                ",6.0,",
                "the quantity is not a whole number, or out of range",
            ),
            (
                ",6,",
                ",9223372036854775808,",
                "the quantity is not a whole number, or out of range",
            ),
            ("2.55", "2.5500001", "the price has more than 6 decimals"),
            ("2.55", "two", "the price is not a decimal number"),
            ("12/1", "13/1", "the date does not exist"),
            (
                "12/1/2010",
                "2010-12-01",
                "the date is not month/day/year hour:minute",
            ),
        ] {
            assert_eq!(fault(&ROW.replace(from, to)), reason, "{to}");
        }
        let huge = ROW
            .replace(",6,", ",9223372036854775807,")
            .replace("2.55", "9223372036854");
        assert_eq!(fault(&huge), "quantity times price is out of range");
    }

    proptest! {
        #[test]
        fn any_text_gives_an_entry_or_a_reason(row in "([^,]{0,8},){7}[^,]{0,8}|\\PC*") {
            let header = Header::parse(HEADER).unwrap();
            if let Ok(fields) = header.split(&row) {
                let _ = header.read(&fields, &london::Clock::new());
            }
        }
    }
}
