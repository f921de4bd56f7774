//! Reads a row of Online Retail as typed values, or returns the reason why it is rejected.

use crate::{
    conventions::{self, Conventions, IdColumn},
    fields, local_time, price,
};
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

/// Reasons why the first row is not a header of Online Retail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The row is not CSV.
    #[error("the header cannot be read")]
    Row(#[from] fields::Error),
    /// A column is missing.
    #[error("the header has no column {column:?}; it has {found:?}")]
    MissingColumn {
        /// The missing column.
        column: &'static str,
        /// The header, truncated to 200 characters.
        found: String,
    },
}

/// Reasons why a row is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row is not CSV.
    #[error(transparent)]
    Fields(#[from] fields::Error),
    /// More or fewer fields than the header has.
    #[error("the row has {found} fields, the header has {expected}")]
    FieldCount {
        /// Number of fields in the header.
        expected: usize,
        /// Number of fields in the row.
        found: usize,
    },
    /// The invoice number is empty or blank.
    #[error("the invoice number is empty")]
    NoInvoice,
    /// An id starts or ends with a blank, which would make it another id.
    #[error("the {column} starts or ends with a blank")]
    Blank {
        /// The column of the id.
        column: IdColumn,
    },
    /// The country is empty or blank.
    #[error("the country is empty")]
    NoCountry,
    /// The stock code is invalid.
    #[error(transparent)]
    StockCode(#[from] SkuError),
    /// The quantity is not a whole number of 64 bits.
    #[error("the quantity is not a whole number, or out of range")]
    Quantity,
    /// The price can't be read.
    #[error(transparent)]
    Price(#[from] price::Error),
    /// The date can't be read.
    #[error(transparent)]
    Date(#[from] local_time::Error),
    /// Quantity times price is beyond 64 bits of minor units.
    #[error("quantity times price is out of range")]
    AmountOutOfRange,
}

/// The position of each column.
pub struct Header {
    positions: [usize; COLUMNS.len()],
    fields: usize,
}

/// The typed values of one row.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The invoice number; not empty.
    pub invoice: Cow<'a, str>,
    /// The stock code.
    pub sku: Sku,
    /// The description as in the file, untrimmed.
    pub description: &'a str,
    /// Pieces, signed.
    pub quantity: Quantity,
    /// The row's time.
    pub time: local_time::ResolvedTime,
    /// Price per piece, signed.
    pub unit_price: UnitPrice,
    /// Quantity times price in minor units, rounded half-even.
    pub amount: i64,
    /// The customer's id.
    pub customer: Option<&'a str>,
    /// The country; not empty.
    pub country: &'a str,
}

impl Header {
    /// Finds the columns by name, in any order; other columns are ignored.
    ///
    /// # Errors
    /// [`HeaderError`]: the row is not CSV, or lacks a column.
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
    ///
    /// # Errors
    /// [`RowError`]: the row is not CSV, or has another number of fields than the header.
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

    /// The invoice number of a row that may be malformed after it; `None` if the row has no invoice number.
    ///
    /// # Errors
    /// The row's fault, if it may lie in the invoice number or before it. Another field would then be taken
    /// for the number.
    pub fn invoice_of(&self, row: &str) -> Result<Option<String>, RowError> {
        let position = self.positions[0];
        let fields = fields::before_error(row);
        match self.split(row) {
            Ok(_) => {}
            Err(_) if row.trim().is_empty() => return Ok(None),
            Err(fault @ RowError::FieldCount { .. }) if position > 0 => return Err(fault),
            Err(fault) if fields.len() <= position => return Err(fault),
            Err(_) => {}
        }
        let invoice = fields[position].trim();
        Ok((!invoice.is_empty()).then(|| invoice.to_owned()))
    }

    /// The fields that have conventions, among those that [`Header::split`] returned.
    pub fn conventional<'a>(&self, fields: &'a [Cow<'a, str>]) -> conventions::Fields<'a> {
        let [invoice, stock_code, _, _, date, _, customer, _] =
            self.positions.map(|position| fields[position].as_ref());
        conventions::Fields {
            invoice,
            stock_code,
            date,
            customer,
        }
    }

    /// Reads the fields that [`Header::split`] returned.
    ///
    /// # Errors
    /// [`RowError`]: the reason why the row is rejected.
    pub fn read<'a>(
        &self,
        fields: &'a [Cow<'a, str>],
        zone: &local_time::Zone,
        conventions: &Conventions,
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
        for (column, id) in [(IdColumn::Invoice, invoice), (IdColumn::Customer, customer)] {
            if id.trim() != id && !id.trim().is_empty() {
                return Err(RowError::Blank { column });
            }
        }
        let sku = Sku::parse(conventions.id(IdColumn::StockCode, sku))?;
        let quantity = quantity
            .parse()
            .map(Quantity)
            .map_err(|_| RowError::Quantity)?;
        let unit_price = price::parse(price)?;
        let time = zone.resolve(date, conventions.dates)?;
        let amount =
            line_amount(quantity, unit_price, CURRENCY).map_err(|_| RowError::AmountOutOfRange)?;
        Ok(Entry {
            invoice: conventions.invoice(invoice),
            sku,
            description,
            quantity,
            time,
            unit_price,
            amount,
            customer: Some(conventions.id(IdColumn::Customer, customer))
                .filter(|customer| !customer.trim().is_empty()),
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

    /// The reason why a row is rejected.
    fn rejection(row: &str) -> String {
        let header = Header::parse(HEADER).unwrap();
        let result = header.split(row).and_then(|fields| {
            let zone = local_time::Zone::of_dataset();
            header
                .read(&fields, &zone, &Conventions::default())
                .map(|entry| format!("{entry:?}"))
        });
        result.expect_err("the row must be rejected").to_string()
    }

    #[test]
    fn the_invoice_number_before_a_fault_is_found() {
        let header = Header::parse(HEADER).unwrap();
        for (row, invoice) in [
            (ROW, Some("536365")),
            ("C1", Some("C1")),
            ("1,A,\"open,1", Some("1")),
            ("\"1\",A,\"open,1", Some("1")),
            (" ,A,B", None),
            ("", None),
        ] {
            assert_eq!(header.invoice_of(row).unwrap().as_deref(), invoice, "{row}");
        }
        let noted = Header::parse(&format!("Note,{HEADER}")).unwrap();
        let found = noted.invoice_of("x,7,\"A").unwrap();
        assert_eq!(found.as_deref(), Some("7"));
        assert_eq!(noted.invoice_of("").unwrap(), None);
    }

    #[test]
    fn a_fault_before_the_invoice_number_hides_it() {
        let header = Header::parse(HEADER).unwrap();
        let fault = RowError::Fields(fields::Error::QuoteOpen);
        assert_eq!(header.invoice_of("\"1,A"), Err(fault.clone()));
        let noted = Header::parse(&format!("Note,{HEADER}")).unwrap();
        // The note was `see "7", or 8`, and its quotes are lost.
        let shifted = noted.invoice_of(&format!("see 7, or 8,{ROW}"));
        let (expected, found) = (9, 10);
        assert_eq!(shifted, Err(RowError::FieldCount { expected, found }));
        assert_eq!(noted.invoice_of(&format!("\"see 7,8,{ROW}")), Err(fault));
        let fault = RowError::Fields(fields::Error::TextAfterQuote);
        let shifted = noted.invoice_of(&format!("\"a\"b,7,{ROW}"));
        assert_eq!(shifted, Err(fault));
    }

    #[test]
    fn a_row_is_read_as_typed_values() {
        let header = Header::parse(HEADER).unwrap();
        let fields = header.split(ROW).unwrap();
        let zone = local_time::Zone::of_dataset();
        let entry = header
            .read(&fields, &zone, &Conventions::default())
            .unwrap();
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
    fn columns_are_found_by_name() {
        let names = "Country,CustomerID,UnitPrice,Note,InvoiceDate,Quantity,Description,\
            StockCode,InvoiceNo";
        let header = Header::parse(names).unwrap();
        let fields = header
            .split("France,,1.5,x,12/1/2010 8:26,-2,,POST,C1")
            .unwrap();
        let zone = local_time::Zone::of_dataset();
        let entry = header
            .read(&fields, &zone, &Conventions::default())
            .unwrap();
        assert_eq!(
            (&*entry.invoice, entry.country, entry.customer),
            ("C1", "France", None)
        );
        assert_eq!(entry.amount, -300);
    }

    #[test]
    fn the_error_names_the_missing_column() {
        let error = Header::parse("Invoice,StockCode").err().unwrap();
        assert_eq!(
            error.to_string(),
            "the header has no column \"InvoiceNo\"; it has \"Invoice,StockCode\""
        );
    }

    #[test]
    fn the_error_says_why_a_row_is_rejected() {
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
            (
                "536365",
                "536365 ",
                "the invoice number starts or ends with a blank",
            ),
            (
                "17850",
                " 17850",
                "the customer starts or ends with a blank",
            ),
            ("United Kingdom", "", "the country is empty"),
            (
                "85123A",
                "",
                "a SKU must not be empty, and must not start or end with a blank",
            ),
            (
                "85123A",
                "85123£",
                "a SKU must be printable ASCII, this one has '£'",
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
                "the date does not look like 12/31/2010 8:26 or 31/12/2010 8:26",
            ),
        ] {
            assert_eq!(rejection(&ROW.replace(from, to)), reason, "{to}");
        }
        let huge = ROW
            .replace(",6,", ",9223372036854775807,")
            .replace("2.55", "9223372036854");
        assert_eq!(rejection(&huge), "quantity times price is out of range");
    }

    proptest! {
        #[test]
        fn any_text_is_an_entry_or_an_error(row in "([^,]{0,8},){7}[^,]{0,8}|\\PC*") {
            let header = Header::parse(HEADER).unwrap();
            if let Ok(fields) = header.split(&row) {
                let zone = local_time::Zone::of_dataset();
                let _ = header.read(&fields, &zone, &Conventions::default());
            }
        }
    }
}
