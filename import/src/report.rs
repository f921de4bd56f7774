//! Reports an import, as a table for people and as JSON for `daybook reconcile`: totals of the file, which
//! are computed from its rows and not from answers, and the outcomes of the commands.

use crate::{
    answer::OutcomeCounts, data_quality::DataQuality, dataset::Dataset, invoices::Kind,
    row::CURRENCY,
};
use indicatif::HumanCount;
use schemas::Currency;
use serde::Serialize;
use std::{fmt, time::Duration};

/// Report of an import.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Sales and credit notes in the file.
    pub invoices: u64,
    /// Sales in the file.
    pub sales: u64,
    /// Credit notes in the file.
    pub credit_notes: u64,
    /// Lines of all invoices.
    pub lines: u64,
    /// Sum of the lines' amounts in minor units, each rounded half-even.
    pub total_minor: i128,
    /// Currency of the total.
    pub currency: Currency,
    /// Stock codes in the file.
    pub products: u64,
    /// Counts of unusual data. Programs that read the report know it as `traps`.
    #[serde(rename = "traps")]
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
        Self {
            invoices: dataset.invoices.len() as u64,
            sales: dataset.count(Kind::Sale),
            credit_notes: dataset.count(Kind::CreditNote),
            lines: dataset.lines,
            total_minor: dataset.total_minor,
            currency: CURRENCY,
            products: dataset.products.len() as u64,
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

    /// The total in the major unit with thousands separators: `GBP 9,747,747.93`.
    fn total(&self) -> String {
        let unit = 10_u128.pow(self.currency.exponent());
        let amount = self.total_minor.unsigned_abs();
        let sign = if self.total_minor < 0 { "-" } else { "" };
        let whole = u64::try_from(amount / unit).map(|whole| HumanCount(whole).to_string());
        let whole = whole.unwrap_or_else(|_| (amount / unit).to_string());
        let width = self.currency.exponent() as usize;
        format!("{} {sign}{whole}.{:0width$}", self.currency, amount % unit)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, count: u64| {
            writeln!(f, "  {name:<42}{:>17}", HumanCount(count).to_string())
        };
        writeln!(f, "in the file")?;
        row(f, "invoices", self.invoices)?;
        row(f, "  sales", self.sales)?;
        row(f, "  credit notes", self.credit_notes)?;
        row(f, "lines", self.lines)?;
        writeln!(f, "  {:<42}{:>17}", "total", self.total())?;
        row(f, "products", self.products)?;
        row(f, "rejected rows", self.rejected_rows)?;
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

    fn report(total_minor: i128) -> Report {
        let dataset = Dataset {
            total_minor,
            ..Dataset::default()
        };
        let second = Duration::from_secs(1);
        Report::new(&dataset, 0, OutcomeCounts::default(), second, second)
    }

    #[test]
    fn totals_of_any_size_are_written() {
        for (total_minor, text) in [
            (974_774_793, "GBP 9,747,747.93"),
            (-5, "GBP -0.05"),
            (i128::MAX, "GBP 1701411834604692317316873037158841057.27"),
        ] {
            assert_eq!(report(total_minor).total(), text);
        }
    }

    #[test]
    fn the_json_report_has_the_names_that_other_programs_read() {
        let json = serde_json::to_string(&report(7)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        for name in [
            "invoices",
            "sales",
            "credit_notes",
            "lines",
            "total_minor",
            "products",
            "rejected_rows",
            "seconds",
            "commands_per_second",
        ] {
            assert!(value[name].is_number(), "{name}: {value}");
        }
        assert_eq!(value["currency"], "GBP");
        for name in ["new", "already", "refused"] {
            assert!(value["answers"][name].is_number(), "{name}: {value}");
        }
        assert_eq!(value["traps"]["zero_prices"], 0);
    }

    #[test]
    fn the_table_has_every_figure_and_fits_a_terminal() {
        let text = report(7).to_string();
        for figure in ["GBP 0.07", "exact duplicate lines"] {
            assert!(text.contains(figure), "{figure}: {text}");
        }
        assert!(text.lines().all(|line| line.len() < 80), "{text}");
    }
}
