//! What an import came to: the file's totals, counted here and not taken from answers, and what the
//! service said. As a table for people and as JSON for `daybook reconcile`.

use crate::import::{
    answer::Tally,
    book::{Book, Kind},
    row::CURRENCY,
    traps::Traps,
};
use indicatif::HumanCount;
use schemas::Currency;
use serde::Serialize;
use std::{fmt, time::Duration};

/// The outcome of an import.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Invoices in the file, of both kinds.
    pub invoices: u64,
    /// Those that are sales.
    pub sales: u64,
    /// Those that are credit notes.
    pub credit_notes: u64,
    /// Lines of all invoices.
    pub lines: u64,
    /// The sum of the lines' amounts in minor units, each rounded half-even.
    pub total_minor: i128,
    /// What they are minor units of.
    pub currency: Currency,
    /// Stock codes in the file.
    pub products: u64,
    /// What was odd.
    pub traps: Traps,
    /// Rows that could not be taken, and those of the same invoices; in none of the figures above.
    pub rejected_rows: u64,
    /// What the service said.
    pub answers: Tally,
    /// How long the file was read, in seconds.
    pub reading_seconds: f64,
    /// How long commands were sent and answered, in seconds.
    pub seconds: f64,
    /// Commands answered in a second.
    pub commands_per_second: f64,
}

impl Report {
    /// Puts the figures together.
    pub fn new(
        book: &Book,
        rejected_rows: u64,
        answers: Tally,
        reading: Duration,
        sending: Duration,
    ) -> Self {
        let seconds = sending.as_secs_f64();
        Self {
            invoices: book.invoices.len() as u64,
            sales: book.count(Kind::Sale),
            credit_notes: book.count(Kind::CreditNote),
            lines: book.lines,
            total_minor: book.total_minor,
            currency: CURRENCY,
            products: book.products.len() as u64,
            traps: book.traps.clone(),
            rejected_rows,
            reading_seconds: reading.as_secs_f64(),
            seconds,
            commands_per_second: answers.answered() as f64 / seconds.max(f64::MIN_POSITIVE),
            answers,
        }
    }

    /// Whether every row was read and no command was refused.
    pub fn is_complete(&self) -> bool {
        self.rejected_rows == 0 && self.answers.refused == 0
    }

    /// Major and minor units with thousands marked: `GBP 9,747,747.93`.
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
        writeln!(f, "odd, and handled")?;
        for (name, count) in self.traps.named() {
            row(f, name, count)?;
        }
        writeln!(f, "the service's answers")?;
        row(f, "new", self.answers.new)?;
        row(f, "already there", self.answers.already)?;
        row(
            f,
            "  under another description",
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
        let book = Book {
            total_minor,
            ..Book::default()
        };
        let second = Duration::from_secs(1);
        Report::new(&book, 0, Tally::default(), second, second)
    }

    #[test]
    fn writes_totals_of_any_size() {
        for (total_minor, text) in [
            (974_774_793, "GBP 9,747,747.93"),
            (-5, "GBP -0.05"),
            (i128::MAX, "GBP 1701411834604692317316873037158841057.27"),
        ] {
            assert_eq!(report(total_minor).total(), text);
        }
    }

    #[test]
    fn has_the_names_that_others_read() {
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
            assert!(value[name].is_number(), "{name}");
        }
        assert_eq!(value["currency"], "GBP");
        for name in ["new", "already", "refused"] {
            assert!(value["answers"][name].is_number(), "{name}");
        }
        assert_eq!(value["traps"]["zero_prices"], 0);
    }

    #[test]
    fn tells_every_figure() {
        let text = report(7).to_string();
        assert!(text.contains("GBP 0.07"));
        assert!(text.contains("exact duplicate lines"));
        assert!(text.lines().all(|line| line.len() < 80));
    }
}
