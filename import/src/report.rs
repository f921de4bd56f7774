//! Reports an import, as a table for people and as JSON for `daybook reconcile`. It has the totals of the
//! file, which are computed from its rows and not from answers, and the outcomes of the commands.

use crate::{
    answer::OutcomeCounts, conventions::Conventions, data_quality::DataQuality, dataset::Dataset,
    invoices::Kind, row::CURRENCY,
};
use indicatif::HumanCount;
use schemas::{Money, Totals, TotalsByCurrency};
use serde::Serialize;
use std::{fmt, time::Duration};

/// Report of an import.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The totals of the file's invoices, by currency.
    pub totals: TotalsByCurrency,
    /// The invoices' numbers, which tell these invoices from others in the service.
    pub invoice_numbers: Vec<String>,
    /// Stock codes in the file.
    pub products: u64,
    /// Stock codes with a price.
    pub priced_products: u64,
    /// The forms in which the file writes dates and ids.
    pub conventions: Conventions,
    /// Counts of unusual data.
    pub data_quality: DataQuality,
    /// Rejected rows, and rows held back because another row of their invoice is rejected; not part of the
    /// figures above.
    pub rejected_rows: u64,
    /// Outcomes of the commands.
    pub answers: OutcomeCounts,
    /// Duration of reading the file, in seconds.
    pub reading_seconds: f64,
    /// Duration of sending commands and receiving answers, in seconds.
    pub seconds: f64,
    /// Answered commands per second.
    pub commands_per_second: f64,
}

impl Report {
    /// Reports a dataset and the outcomes of its commands.
    pub fn new(
        dataset: &Dataset,
        rejected_rows: u64,
        answers: OutcomeCounts,
        reading: Duration,
        sending: Duration,
    ) -> Self {
        let seconds = sending.as_secs_f64();
        let numbers = dataset.invoices.iter();
        Self {
            totals: totals(dataset),
            invoice_numbers: numbers.map(|invoice| invoice.number.to_string()).collect(),
            products: dataset.products.len() as u64,
            priced_products: count_priced(dataset),
            conventions: dataset.conventions.clone(),
            data_quality: dataset.data_quality.clone(),
            rejected_rows,
            reading_seconds: reading.as_secs_f64(),
            seconds,
            commands_per_second: answers.answered() as f64 / seconds.max(f64::MIN_POSITIVE),
            answers,
        }
    }

    /// Whether no row was rejected and no command refused.
    pub fn is_complete(&self) -> bool {
        self.rejected_rows == 0 && self.answers.refused == 0
    }
}

fn count_priced(dataset: &Dataset) -> u64 {
    let products = dataset.products.iter();
    products.filter(|product| product.price.is_some()).count() as u64
}

/// The file's totals. All of its prices are in one currency.
fn totals(dataset: &Dataset) -> TotalsByCurrency {
    let count = |count: u64| i64::try_from(count).expect("a file has 10 million lines at most");
    let mut totals = TotalsByCurrency::default();
    if !dataset.invoices.is_empty() {
        let of_file = Totals {
            invoices: count(dataset.invoices.len() as u64),
            sales: count(dataset.count(Kind::Sale)),
            credit_notes: count(dataset.count(Kind::CreditNote)),
            lines: count(dataset.lines),
            total_minor: dataset.total_minor,
        };
        totals
            .add(CURRENCY, of_file)
            .expect("the first summand does not overflow");
    }
    totals
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, count: u64| {
            writeln!(f, "  {name:<42}{:>17}", HumanCount(count).to_string())
        };
        let of_file =
            |f: &mut fmt::Formatter<'_>, name: &str, count: i64| row(f, name, count.unsigned_abs());
        writeln!(f, "in the file")?;
        for (currency, totals) in self.totals.iter() {
            let total = Money {
                amount: totals.total_minor,
                currency,
            };
            of_file(f, "invoices", totals.invoices)?;
            of_file(f, "  sales", totals.sales)?;
            of_file(f, "  credit notes", totals.credit_notes)?;
            of_file(f, "lines", totals.lines)?;
            writeln!(f, "  {:<38}{:>21}", "total", total.to_string())?;
        }
        row(f, "products", self.products)?;
        row(f, "  with a price", self.priced_products)?;
        row(f, "rejected rows", self.rejected_rows)?;
        writeln!(f, "read as")?;
        writeln!(
            f,
            "  {:<42}{:>17}",
            "dates",
            self.conventions.dates.to_string()
        )?;
        for column in &self.conventions.decimal_ids {
            writeln!(f, "  {column}: whole numbers without their decimals")?;
        }
        if self.conventions.lower_case_cancellations {
            writeln!(f, "  invoice number: c as C, a cancellation")?;
        }
        writeln!(f, "data quality")?;
        for (name, count) in self.data_quality.labelled() {
            row(f, name, count)?;
        }
        writeln!(f, "answers from the service")?;
        row(f, "new", self.answers.new)?;
        row(f, "already executed", self.answers.already)?;
        row(
            f,
            "  with another description",
            self.answers.described_otherwise,
        )?;
        row(f, "refused", self.answers.refused)?;
        for (code, count) in &self.answers.refused_by_code {
            row(f, &format!("  {code}"), *count)?;
        }
        row(f, "failed", self.answers.failed)?;
        for (code, count) in &self.answers.failed_by_code {
            row(f, &format!("  {code}"), *count)?;
        }
        writeln!(
            f,
            "read in {:.1} s, sent and answered in {:.1} s: {:.0} commands/s",
            self.reading_seconds, self.seconds, self.commands_per_second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conventions::IdColumn, invoices::Invoice, local_time::DateOrder};
    use schemas::Timestamp;

    fn report(total_minor: i64) -> Report {
        let invoice = Invoice {
            number: "1".into(),
            kind: Kind::Sale,
            customer: None,
            country: "France".into(),
            ordered_at: Timestamp(0),
            first_line: 2,
            lines: Vec::new(),
            is_contiguous: true,
            total_minor,
        };
        let dataset = Dataset {
            invoices: vec![invoice],
            total_minor,
            ..Dataset::default()
        };
        let second = Duration::from_secs(1);
        Report::new(&dataset, 0, OutcomeCounts::default(), second, second)
    }

    #[test]
    fn the_json_report_has_the_names_that_other_programs_read() {
        let json = serde_json::to_string(&report(7)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        for name in [
            "products",
            "priced_products",
            "rejected_rows",
            "seconds",
            "commands_per_second",
        ] {
            assert!(value[name].is_number(), "{name} is not a number: {value}");
        }
        for name in ["invoices", "sales", "credit_notes", "lines", "total_minor"] {
            let totals = &value["totals"]["GBP"];
            assert!(totals[name].is_number(), "{name} is not a number: {totals}");
        }
        assert_eq!(value["invoice_numbers"], serde_json::json!(["1"]));
        for name in ["new", "already", "refused"] {
            let answers = &value["answers"];
            assert!(
                answers[name].is_number(),
                "{name} is not a number: {answers}"
            );
        }
        assert_eq!(value["conventions"]["dates"], "month-first");
        assert_eq!(value["data_quality"]["zero_prices"], 0);
    }

    #[test]
    fn the_table_has_every_figure_and_fits_a_terminal() {
        let mut report = report(i64::MIN);
        report.conventions = Conventions {
            dates: DateOrder::DayFirst,
            decimal_ids: vec![IdColumn::Customer],
            lower_case_cancellations: true,
        };
        let text = report.to_string();
        for figure in [
            "GBP -92,233,720,368,547,758.08",
            "exact duplicate lines",
            "day-first",
            "customer: whole numbers",
        ] {
            assert!(text.contains(figure), "no {figure:?} in: {text}");
        }
        assert!(
            text.lines().all(|line| line.len() < 80),
            "a line of 80 or more characters in:\n{text}"
        );
    }
}
