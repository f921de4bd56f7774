//! The file's rows put together: invoices with their lines, and products.
//!
//! All of it is held in memory (about 80 bytes a line), for an invoice's lines may stand anywhere.

use crate::import::{
    row::Entry,
    traps::{RowText, Traps},
};
use schemas::{Quantity, Timestamp, UnitPrice};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Most lines that are taken from one file.
pub const LINES_MAX: u64 = 10_000_000;

/// Why a row can't be taken along with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An invoice has one customer.
    #[error("the customer is not that of the invoice's first line")]
    CustomerDiffers,
    /// An invoice has one country.
    #[error("the country is not that of the invoice's first line")]
    CountryDiffers,
    /// The invoice's total would be beyond 64 bits of minor units.
    #[error("the invoice's total is out of range")]
    TotalOutOfRange,
    /// More than [`LINES_MAX`].
    #[error("the file has more than {LINES_MAX} lines")]
    TooManyLines,
}

/// What an invoice is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Money in, or an adjustment.
    Sale,
    /// Its number starts with C.
    CreditNote,
}

/// One invoice.
#[derive(Debug)]
pub struct Invoice {
    /// Its number in the file.
    pub number: Arc<str>,
    /// Sale or credit note.
    pub kind: Kind,
    /// Of all its lines.
    pub customer: Option<Arc<str>>,
    /// Of all its lines.
    pub country: Arc<str>,
    /// Its first line's time.
    pub ordered_at: Timestamp,
    /// Where its first line stands in the file.
    pub first_line: u64,
    /// At least one, in the file's order.
    pub lines: Vec<Line>,
    /// Whether no other invoice's lines stand between its own.
    pub is_together: bool,
    /// The sum of its lines' amounts, in minor units.
    pub total_minor: i64,
}

/// One line of an invoice.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The product's code.
    pub sku: Arc<str>,
    /// Trimmed; `None` where that leaves nothing.
    pub description: Option<Arc<str>>,
    /// Pieces, signed.
    pub quantity: Quantity,
    /// Price of a piece, signed.
    pub unit_price: UnitPrice,
    /// The line's own time.
    pub at: Timestamp,
}

/// One stock code.
#[derive(Debug)]
pub struct Product {
    /// The code; its case counts.
    pub sku: Arc<str>,
    /// The first that is not empty.
    pub description: Option<Arc<str>>,
    /// Where the code first stands in the file.
    pub first_line: u64,
}

/// What the file comes to.
#[derive(Debug, Default)]
pub struct Book {
    /// In the order of their first lines.
    pub invoices: Vec<Invoice>,
    /// In the order of their first lines.
    pub products: Vec<Product>,
    /// How many lines the invoices have.
    pub lines: u64,
    /// The sum of all amounts in minor units; too wide to overflow.
    pub total_minor: i128,
    /// What was odd.
    pub traps: Traps,
}

/// A book while it is written.
#[derive(Debug, Default)]
pub struct BookBuilder {
    book: Book,
    invoice_by_number: HashMap<Arc<str>, usize>,
    product_by_sku: HashMap<Arc<str>, usize>,
    texts: HashSet<Arc<str>>,
    last_invoice: Option<usize>,
}

impl Kind {
    /// What the invoice of a number is.
    pub fn of(number: &str) -> Self {
        if number.starts_with('C') {
            Self::CreditNote
        } else {
            Self::Sale
        }
    }
}

impl Book {
    /// How many invoices are of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        let of_kind = self.invoices.iter().filter(|invoice| invoice.kind == kind);
        of_kind.count() as u64
    }
}

impl BookBuilder {
    /// Adds a row, or leaves everything as it is. `line` is its place in the file.
    pub fn add(&mut self, line: u64, entry: &Entry<'_>, text: RowText) -> Result<(), Error> {
        if self.book.lines == LINES_MAX {
            return Err(Error::TooManyLines);
        }
        let index = self.find_or_open_invoice(line, entry)?;
        let description = entry.description.trim_matches(is_ascii_blank);
        let sku = self.keep(entry.sku.as_str());
        let kept_description = (!description.is_empty()).then(|| self.keep(description));
        self.note_product(line, &sku, kept_description.as_ref());

        let invoice = &mut self.book.invoices[index];
        invoice.is_together &= invoice.lines.is_empty() || self.last_invoice == Some(index);
        invoice.total_minor += entry.amount;
        invoice.lines.push(Line {
            sku,
            description: kept_description,
            quantity: entry.quantity,
            unit_price: entry.unit_price,
            at: entry.time.at,
        });
        self.last_invoice = Some(index);
        self.book.lines += 1;
        self.book.total_minor += i128::from(entry.amount);
        self.book.traps.count_entry(entry, text, description);
        Ok(())
    }

    /// The book, with the traps counted that show only at the end.
    pub fn finish(self) -> Book {
        let mut book = self.book;
        for invoice in &book.invoices {
            book.traps.count_invoice(invoice);
        }
        book.traps.count_products(&book.products);
        book
    }

    /// The entry's invoice, if the entry fits it: its index.
    fn find_or_open_invoice(&mut self, line: u64, entry: &Entry<'_>) -> Result<usize, Error> {
        if let Some(&index) = self.invoice_by_number.get(entry.invoice) {
            let invoice = &self.book.invoices[index];
            if invoice.customer.as_deref() != entry.customer {
                return Err(Error::CustomerDiffers);
            }
            if &*invoice.country != entry.country {
                return Err(Error::CountryDiffers);
            }
            if invoice.total_minor.checked_add(entry.amount).is_none() {
                return Err(Error::TotalOutOfRange);
            }
            return Ok(index);
        }
        let index = self.book.invoices.len();
        let number = self.keep(entry.invoice);
        let invoice = Invoice {
            number: number.clone(),
            kind: Kind::of(entry.invoice),
            customer: entry.customer.map(|customer| self.keep(customer)),
            country: self.keep(entry.country),
            ordered_at: entry.time.at,
            first_line: line,
            lines: Vec::new(),
            is_together: true,
            total_minor: 0,
        };
        self.book.invoices.push(invoice);
        self.invoice_by_number.insert(number, index);
        Ok(index)
    }

    fn note_product(&mut self, line: u64, sku: &Arc<str>, description: Option<&Arc<str>>) {
        let index = *self.product_by_sku.entry(sku.clone()).or_insert_with(|| {
            self.book.products.push(Product {
                sku: sku.clone(),
                description: None,
                first_line: line,
            });
            self.book.products.len() - 1
        });
        let product = &mut self.book.products[index];
        if product.description.is_none() {
            product.description = description.cloned();
        }
    }

    /// The one copy of a text that many lines share.
    fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.texts.get(text) {
            return kept.clone();
        }
        let kept: Arc<str> = text.into();
        self.texts.insert(kept.clone());
        kept
    }
}

/// White space that is trimmed; wider blanks beyond ASCII stay.
fn is_ascii_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{london::Clock, row::Header};

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
    const PLAIN: RowText = RowText {
        is_ascii: true,
        is_windows_1252: false,
    };

    fn add(builder: &mut BookBuilder, line: u64, row: &str) -> Result<(), Error> {
        let header = Header::parse(HEADER).unwrap();
        let fields = header.split(row).unwrap();
        let entry = header.read(&fields, &Clock::new()).unwrap();
        builder.add(line, &entry, PLAIN)
    }

    fn book(rows: &[&str]) -> Book {
        let mut builder = BookBuilder::default();
        for (line, row) in (2..).zip(rows) {
            add(&mut builder, line, row).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn groups_lines_that_stand_apart() {
        let book = book(&[
            "1,A,,2,12/1/2010 8:26,1.00,7,France",
            "C2,a,tea ,-1,12/1/2010 8:27,0.005,,Spain",
            "1,A,\tcup\u{a0},1,12/1/2010 8:28,0.50,7,France",
            "A3,B C,,1,12/1/2010 8:29,-2,,Spain",
        ]);
        let outline: Vec<_> = book
            .invoices
            .iter()
            .map(|invoice| {
                (
                    &*invoice.number,
                    invoice.kind,
                    invoice.first_line,
                    invoice.total_minor,
                )
            })
            .collect();
        assert_eq!(
            outline,
            [
                ("1", Kind::Sale, 2, 250),
                ("C2", Kind::CreditNote, 3, 0),
                ("A3", Kind::Sale, 5, -200)
            ]
        );
        assert_eq!(
            book.invoices[0].ordered_at.to_string(),
            "2010-12-01T08:26:00Z"
        );
        assert_eq!((book.lines, book.total_minor), (4, 50));
        let products: Vec<_> = book
            .products
            .iter()
            .map(|product| {
                (
                    &*product.sku,
                    product.description.as_deref(),
                    product.first_line,
                )
            })
            .collect();
        assert_eq!(
            products,
            [
                ("A", Some("cup\u{a0}"), 2),
                ("a", Some("tea"), 3),
                ("B C", None, 5)
            ]
        );
        let expected = Traps {
            lines_without_customer: 2,
            lines_without_description: 2,
            negative_prices: 1,
            prices_below_a_penny: 1,
            prices_finer_than_a_penny: 1,
            invoices_with_several_timestamps: 1,
            invoices_not_together: 1,
            invoices_starting_with_a: 1,
            stock_codes_differing_in_case_only: 2,
            stock_codes_with_blanks: 1,
            stock_codes_without_description: 1,
            descriptions_trimmed: 2,
            ..Traps::default()
        };
        assert_eq!(book.traps, expected);
    }

    #[test]
    fn keeps_and_counts_duplicates() {
        let book = book(&[
            "1,A,cup,-2,12/1/2010 8:26,0,7,France",
            "1,A,cup ,-2,12/1/2010 8:26,0.00,7,France",
            "1,A,cup,-2,12/1/2010 8:27,0,7,France",
            "2,A,cup,-2,12/1/2010 8:26,0,7,France",
        ]);
        assert_eq!(book.lines, 4);
        assert_eq!(book.traps.exact_duplicate_lines, 1);
        assert_eq!(book.traps.negative_quantities_outside_credit_notes, 4);
        assert_eq!(book.traps.zero_prices, 4);
        assert_eq!(book.traps.invoices_not_together, 0);
    }

    #[test]
    fn refuses_rows_that_do_not_fit_their_invoice() {
        let mut builder = BookBuilder::default();
        add(
            &mut builder,
            2,
            "1,A,,9223372036854775807,12/1/2010 8:26,0.01,7,France",
        )
        .unwrap();
        for (row, error) in [
            ("1,A,,1,12/1/2010 8:26,1,8,France", Error::CustomerDiffers),
            ("1,A,,1,12/1/2010 8:26,1,,France", Error::CustomerDiffers),
            ("1,A,,1,12/1/2010 8:26,1,7,Spain", Error::CountryDiffers),
            ("1,B,,1,12/1/2010 8:26,1,7,France", Error::TotalOutOfRange),
        ] {
            assert_eq!(add(&mut builder, 3, row), Err(error));
        }
        let book = builder.finish();
        assert_eq!((book.lines, book.products.len()), (1, 1));
    }
}
