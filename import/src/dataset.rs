//! Groups the rows of the file into invoices and products.
//!
//! The whole dataset is held in memory (about 80 bytes per line), because the lines of an invoice may be
//! anywhere in the file.

use crate::{
    conventions::Conventions,
    data_quality::{DataQuality, RowEncoding},
    invoices::{Invoice, Kind, LastPrice, Line, Product},
    row::{CURRENCY, Entry},
};
use schemas::{Quantity, money::line_amount};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Maximum number of lines per file.
pub const LINES_MAX: u64 = 10_000_000;

/// Reasons why a row contradicts earlier rows or exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An invoice has exactly one customer.
    #[error("the customer differs from that of the invoice's first line")]
    CustomerDiffers,
    /// An invoice has exactly one country.
    #[error("the country differs from that of the invoice's first line")]
    CountryDiffers,
    /// The invoice's total exceeds 64 bits of minor units.
    #[error("the invoice's total is out of range")]
    TotalOutOfRange,
    /// The file's total exceeds 64 bits of minor units.
    #[error("the total of this row and of those before it is out of range")]
    FileTotalOutOfRange,
    /// The file has more than [`LINES_MAX`] lines.
    #[error("the file has more than {LINES_MAX} lines")]
    TooManyLines,
}

/// The content of the file.
#[derive(Debug, Default)]
pub struct Dataset {
    /// In the order of their first lines.
    pub invoices: Vec<Invoice>,
    /// In the order of their first lines.
    pub products: Vec<Product>,
    /// Number of lines of all invoices.
    pub lines: u64,
    /// The sum of all amounts in minor units.
    pub total_minor: i64,
    /// The forms in which its rows write dates and ids.
    pub conventions: Conventions,
    /// Counts of unusual data.
    pub data_quality: DataQuality,
}

/// Builds a [`Dataset`] row by row.
#[derive(Debug, Default)]
pub struct DatasetBuilder {
    dataset: Dataset,
    invoice_by_number: HashMap<Arc<str>, usize>,
    product_by_sku: HashMap<Arc<str>, usize>,
    texts: HashSet<Arc<str>>,
    last_invoice: Option<usize>,
}

impl Dataset {
    /// Number of invoices of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        let of_kind = self.invoices.iter().filter(|invoice| invoice.kind == kind);
        of_kind.count() as u64
    }
}

impl DatasetBuilder {
    /// An empty dataset of a file with these conventions.
    pub fn new(conventions: Conventions) -> Self {
        let mut builder = Self::default();
        builder.dataset.conventions = conventions;
        builder
    }

    /// The forms in which the file's rows write dates and ids.
    pub fn conventions(&self) -> &Conventions {
        &self.dataset.conventions
    }

    /// Adds a row; changes nothing on an error. `line` is its position in the file.
    ///
    /// # Errors
    /// [`Error`]: the row contradicts an earlier row of its invoice, or exceeds a limit.
    pub fn add(
        &mut self,
        line: u64,
        entry: &Entry<'_>,
        encoding: RowEncoding,
    ) -> Result<(), Error> {
        if self.dataset.lines == LINES_MAX {
            return Err(Error::TooManyLines);
        }
        let found = self.find_invoice(entry)?;
        let total_minor = self.dataset.total_minor.checked_add(entry.amount);
        let total_minor = total_minor.ok_or(Error::FileTotalOutOfRange)?;
        let index = found.unwrap_or_else(|| self.create_invoice(line, entry));
        let description = entry.description.trim_matches(is_ascii_blank);
        let sku = self.intern(entry.sku.as_str());
        let interned_description = (!description.is_empty()).then(|| self.intern(description));
        let price = last_price(line, entry);
        self.record_product(line, &sku, interned_description.as_ref(), price);

        let invoice = &mut self.dataset.invoices[index];
        invoice.is_contiguous &= invoice.lines.is_empty() || self.last_invoice == Some(index);
        invoice.total_minor += entry.amount;
        invoice.lines.push(Line {
            sku,
            description: interned_description,
            quantity: entry.quantity,
            unit_price: entry.unit_price,
            at: entry.time.at,
        });
        self.last_invoice = Some(index);
        self.dataset.lines += 1;
        self.dataset.total_minor = total_minor;
        self.dataset
            .data_quality
            .count_row(entry, encoding, description);
        Ok(())
    }

    /// The dataset, including the counts that need all rows.
    pub fn finish(self) -> Dataset {
        let mut dataset = self.dataset;
        for invoice in &dataset.invoices {
            dataset.data_quality.count_invoice(invoice);
        }
        dataset.data_quality.count_products(&dataset.products);
        dataset
    }

    /// The index of the entry's invoice, which must match the entry; `None` if it is new.
    fn find_invoice(&self, entry: &Entry<'_>) -> Result<Option<usize>, Error> {
        let Some(&index) = self.invoice_by_number.get(&*entry.invoice) else {
            return Ok(None);
        };
        let invoice = &self.dataset.invoices[index];
        if invoice.customer.as_deref() != entry.customer {
            return Err(Error::CustomerDiffers);
        }
        if &*invoice.country != entry.country {
            return Err(Error::CountryDiffers);
        }
        if invoice.total_minor.checked_add(entry.amount).is_none() {
            return Err(Error::TotalOutOfRange);
        }
        Ok(Some(index))
    }

    /// Creates the entry's invoice, still without lines.
    fn create_invoice(&mut self, line: u64, entry: &Entry<'_>) -> usize {
        let index = self.dataset.invoices.len();
        let number = self.intern(&entry.invoice);
        let invoice = Invoice {
            number: number.clone(),
            kind: Kind::of(&entry.invoice),
            customer: entry.customer.map(|customer| self.intern(customer)),
            country: self.intern(entry.country),
            ordered_at: entry.time.at,
            first_line: line,
            lines: Vec::new(),
            is_contiguous: true,
            total_minor: 0,
        };
        self.dataset.invoices.push(invoice);
        self.invoice_by_number.insert(number, index);
        index
    }

    fn record_product(
        &mut self,
        line: u64,
        sku: &Arc<str>,
        description: Option<&Arc<str>>,
        price: Option<LastPrice>,
    ) {
        let index = *self.product_by_sku.entry(sku.clone()).or_insert_with(|| {
            self.dataset.products.push(Product {
                sku: sku.clone(),
                description: None,
                first_line: line,
                price: None,
            });
            self.dataset.products.len() - 1
        });
        let product = &mut self.dataset.products[index];
        if product.description.is_none() {
            product.description = description.cloned();
        }
        if let Some(price) = price
            && product.price.is_none_or(|known| known.at <= price.at)
        {
            product.price = Some(price);
        }
    }

    /// The shared copy of a text, which many lines have in common.
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(interned) = self.texts.get(text) {
            return interned.clone();
        }
        let interned: Arc<str> = text.into();
        self.texts.insert(interned.clone());
        interned
    }
}

/// The price that a row shows for its product.
fn last_price(line: u64, entry: &Entry<'_>) -> Option<LastPrice> {
    match Kind::of(&entry.invoice) {
        Kind::Sale => {
            let amount = line_amount(Quantity(1), entry.unit_price, CURRENCY).ok()?;
            let at = entry.time.at;
            (amount > 0).then_some(LastPrice { amount, at, line })
        }
        Kind::CreditNote => None,
    }
}

/// Whether a character is trimmed as white space; blanks beyond ASCII are kept.
fn is_ascii_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{local_time::Zone, row::Header};

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
    const PLAIN: RowEncoding = RowEncoding {
        is_ascii: true,
        is_windows_1252: false,
    };

    fn add(builder: &mut DatasetBuilder, line: u64, row: &str) -> Result<(), Error> {
        let header = Header::parse(HEADER).unwrap();
        let fields = header.split(row).unwrap();
        let entry = header
            .read(&fields, &Zone::of_dataset(), builder.conventions())
            .unwrap();
        builder.add(line, &entry, PLAIN)
    }

    fn dataset(rows: &[&str]) -> Dataset {
        let mut builder = DatasetBuilder::default();
        for (line, row) in (2..).zip(rows) {
            add(&mut builder, line, row).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn lines_of_an_invoice_are_grouped_wherever_they_are() {
        let dataset = dataset(&[
            "1,A,,2,12/1/2010 8:26,1.00,7,France",
            "C2,a,tea ,-1,12/1/2010 8:27,0.005,,Spain",
            "1,A,\tcup\u{a0},1,12/1/2010 8:28,0.50,7,France",
            "A3,B C,,1,12/1/2010 8:29,-2,,Spain",
        ]);
        let outline: Vec<_> = dataset
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
            dataset.invoices[0].ordered_at.to_string(),
            "2010-12-01T08:26:00Z"
        );
        assert_eq!((dataset.lines, dataset.total_minor), (4, 50));
        let products: Vec<_> = dataset
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
        let expected = DataQuality {
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
            ..DataQuality::default()
        };
        assert_eq!(dataset.data_quality, expected);
    }

    #[test]
    fn a_product_has_the_price_of_its_last_sale() {
        let dataset = dataset(&[
            "1,A,,1,12/3/2010 8:26,3.00,7,France",
            "2,A,,1,12/1/2010 8:26,1.00,7,France",
            "3,B,,1,12/1/2010 8:26,1.00,7,France",
            "3,B,,1,12/1/2010 8:26,2.005,7,France",
            "C4,B,,-1,12/9/2010 8:26,9.00,7,France",
            "5,B,,1,12/9/2010 8:26,0,7,France",
            "5,C,,1,12/9/2010 8:26,0.004,7,France",
            "5,D,,1,12/9/2010 8:26,-1.00,7,France",
        ]);
        let prices: Vec<_> = dataset
            .products
            .iter()
            .map(|product| {
                let price = product.price.map(|price| (price.amount, price.line));
                (&*product.sku, price)
            })
            .collect();
        assert_eq!(
            prices,
            [
                ("A", Some((300, 2))),
                ("B", Some((200, 5))),
                ("C", None),
                ("D", None)
            ]
        );
    }

    #[test]
    fn duplicate_lines_are_kept_and_counted() {
        let dataset = dataset(&[
            "1,A,cup,-2,12/1/2010 8:26,0,7,France",
            "1,A,cup ,-2,12/1/2010 8:26,0.00,7,France",
            "1,A,cup,-2,12/1/2010 8:27,0,7,France",
            "2,A,cup,-2,12/1/2010 8:26,0,7,France",
        ]);
        assert_eq!(dataset.lines, 4);
        assert_eq!(dataset.data_quality.exact_duplicate_lines, 1);
        assert_eq!(
            dataset
                .data_quality
                .negative_quantities_outside_credit_notes,
            4
        );
        assert_eq!(dataset.data_quality.zero_prices, 4);
        assert_eq!(dataset.data_quality.invoices_not_together, 0);
    }

    #[test]
    fn rows_that_contradict_their_invoice_are_errors() {
        let mut builder = DatasetBuilder::default();
        for row in [
            "0,N,,-9,12/1/2010 8:26,0.01,7,France",
            "1,A,,9223372036854775807,12/1/2010 8:26,0.01,7,France",
        ] {
            add(&mut builder, 2, row).unwrap();
        }
        for (row, error) in [
            ("1,A,,1,12/1/2010 8:26,1,8,France", Error::CustomerDiffers),
            ("1,A,,1,12/1/2010 8:26,1,,France", Error::CustomerDiffers),
            ("1,A,,1,12/1/2010 8:26,1,7,Spain", Error::CountryDiffers),
            (
                "1,B,,1,12/1/2010 8:26,0.05,7,France",
                Error::TotalOutOfRange,
            ),
            (
                "2,B,,1,12/1/2010 8:26,0.10,7,France",
                Error::FileTotalOutOfRange,
            ),
        ] {
            assert_eq!(add(&mut builder, 3, row), Err(error), "{row}");
        }
        let dataset = builder.finish();
        assert_eq!((dataset.lines, dataset.products.len()), (2, 2));
    }
}
