//! Counts unusual data in the file. `tests/python/expectation.py` counts the same data independently, under
//! the same names.

use crate::{
    invoices::{Invoice, Kind, Product},
    row::Entry,
};
use schemas::UnitPrice;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// A unit price of one penny, in millionths of a pound.
const PENNY: i64 = 10_000;

/// Counts of unusual data among the rows that were not rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DataQuality {
    /// Lines without a customer.
    pub lines_without_customer: u64,
    /// Lines whose description is empty or blank.
    pub lines_without_description: u64,
    /// Lines of sales with a negative quantity.
    pub negative_quantities_outside_credit_notes: u64,
    /// Lines with the price zero.
    pub zero_prices: u64,
    /// Lines whose price is below zero.
    pub negative_prices: u64,
    /// Lines whose price is above zero and below a penny.
    pub prices_below_a_penny: u64,
    /// Lines whose price is not a whole number of pennies.
    pub prices_finer_than_a_penny: u64,
    /// Lines that equal an earlier line in every column after trimming the description.
    pub exact_duplicate_lines: u64,
    /// Invoices whose lines have different times.
    pub invoices_with_several_timestamps: u64,
    /// Invoices whose lines are not adjacent in the file.
    pub invoices_not_together: u64,
    /// Adjustments of bad debt, which are neither ordinary sales nor credit notes.
    pub invoices_starting_with_a: u64,
    /// Stock codes that differ from another one in case only.
    pub stock_codes_differing_in_case_only: u64,
    /// Stock codes that contain a blank.
    pub stock_codes_with_blanks: u64,
    /// Stock codes without a description in any line.
    pub stock_codes_without_description: u64,
    /// Lines whose description was trimmed.
    pub descriptions_trimmed: u64,
    /// Rows that contain characters beyond ASCII.
    pub lines_beyond_ascii: u64,
    /// Rows that are not UTF-8 and were decoded as Windows-1252.
    pub lines_read_as_windows_1252: u64,
    /// Lines whose time was skipped or repeated by a clock change.
    pub times_skipped_or_repeated: u64,
}

/// Encoding of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowEncoding {
    /// The row contains ASCII characters only.
    pub is_ascii: bool,
    /// The row is not UTF-8 and was decoded as Windows-1252.
    pub is_windows_1252: bool,
}

impl DataQuality {
    /// Counts the data of one row; `description` is its trimmed description.
    pub fn count_row(&mut self, entry: &Entry<'_>, encoding: RowEncoding, description: &str) {
        let UnitPrice(price) = entry.unit_price;
        let is_sale = Kind::of(&entry.invoice) == Kind::Sale;
        for (count, applies) in [
            (&mut self.lines_without_customer, entry.customer.is_none()),
            (&mut self.lines_without_description, description.is_empty()),
            (
                &mut self.negative_quantities_outside_credit_notes,
                is_sale && entry.quantity.0 < 0,
            ),
            (&mut self.zero_prices, price == 0),
            (&mut self.negative_prices, price < 0),
            (&mut self.prices_below_a_penny, 0 < price && price < PENNY),
            (&mut self.prices_finer_than_a_penny, price % PENNY != 0),
            (
                &mut self.descriptions_trimmed,
                description.len() != entry.description.len(),
            ),
            (&mut self.lines_beyond_ascii, !encoding.is_ascii),
            (
                &mut self.lines_read_as_windows_1252,
                encoding.is_windows_1252,
            ),
            (
                &mut self.times_skipped_or_repeated,
                entry.time.is_skipped_or_repeated,
            ),
        ] {
            *count += u64::from(applies);
        }
    }

    /// Counts the data of a complete invoice.
    pub fn count_invoice(&mut self, invoice: &Invoice) {
        let distinct: HashSet<_> = invoice.lines.iter().collect();
        self.exact_duplicate_lines += (invoice.lines.len() - distinct.len()) as u64;
        let first = invoice.ordered_at;
        let has_several_times = invoice.lines.iter().any(|line| line.at != first);
        self.invoices_with_several_timestamps += u64::from(has_several_times);
        self.invoices_not_together += u64::from(!invoice.is_contiguous);
        self.invoices_starting_with_a += u64::from(invoice.number.starts_with('A'));
    }

    /// Counts the data of all stock codes.
    pub fn count_products(&mut self, products: &[Product]) {
        let mut spellings: HashMap<String, u64> = HashMap::new();
        for product in products {
            *spellings
                .entry(product.sku.to_ascii_uppercase())
                .or_default() += 1;
            self.stock_codes_with_blanks += u64::from(product.sku.contains(' '));
            self.stock_codes_without_description += u64::from(product.description.is_none());
        }
        self.stock_codes_differing_in_case_only +=
            spellings.values().filter(|count| **count > 1).sum::<u64>();
    }

    /// Each count with its label, in the order of the fields.
    pub fn labelled(&self) -> [(&'static str, u64); 18] {
        [
            ("lines without customer", self.lines_without_customer),
            ("lines without description", self.lines_without_description),
            (
                "negative quantities outside credit notes",
                self.negative_quantities_outside_credit_notes,
            ),
            ("zero prices", self.zero_prices),
            ("negative prices", self.negative_prices),
            ("prices below a penny", self.prices_below_a_penny),
            ("prices finer than a penny", self.prices_finer_than_a_penny),
            ("exact duplicate lines", self.exact_duplicate_lines),
            (
                "invoices with several timestamps",
                self.invoices_with_several_timestamps,
            ),
            ("invoices not together", self.invoices_not_together),
            ("invoices starting with A", self.invoices_starting_with_a),
            (
                "stock codes differing in case only",
                self.stock_codes_differing_in_case_only,
            ),
            ("stock codes with blanks", self.stock_codes_with_blanks),
            (
                "stock codes without description",
                self.stock_codes_without_description,
            ),
            ("descriptions trimmed", self.descriptions_trimmed),
            ("lines beyond ASCII", self.lines_beyond_ascii),
            (
                "lines read as Windows-1252",
                self.lines_read_as_windows_1252,
            ),
            ("times skipped or repeated", self.times_skipped_or_repeated),
        ]
    }
}
