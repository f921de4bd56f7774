//! The expected result of an import of the shipped data. `tests/python/expectation.py` computes it from
//! the CSV alone.

use crate::{environment::Environment, python::python};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Longest time for reading the CSV.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The totals that every source must have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Sales.
    pub sales: i64,
    /// Credit notes.
    pub credit_notes: i64,
    /// Lines of both.
    pub lines: i64,
    /// Minor units, signed.
    pub total_minor: i64,
}

/// The totals of a group of invoices: of a country, a customer or a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Group {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Lines of both.
    pub lines: i64,
    /// Minor units, signed.
    pub total_minor: i64,
}

/// Groups by the start of their window (RFC 3339), then by country.
pub type Windows = BTreeMap<String, BTreeMap<String, Group>>;

/// The expected result.
#[derive(Debug, Clone, Deserialize)]
pub struct Expectation {
    /// The whole file.
    #[serde(flatten)]
    pub totals: Totals,
    /// Stock codes.
    pub products: i64,
    /// Stock codes with a price.
    pub priced_products: i64,
    /// Occurrences by data-quality problem.
    pub data_quality: BTreeMap<String, u64>,
    /// By country.
    pub countries: BTreeMap<String, Group>,
    /// By customer, without the invoices that have none.
    pub customers: BTreeMap<String, Group>,
    /// By day (yyyy-mm-dd, UTC).
    pub days: BTreeMap<String, Group>,
    /// By window size (`day`, `hour`).
    pub windows: BTreeMap<String, Windows>,
}

impl Expectation {
    /// Computes the expected result of importing a file.
    pub async fn of(file: &Path) -> Result<Self> {
        let environment = Environment::read()?;
        let name = file.to_str().context("the path is not UTF-8")?;
        let text = python(&environment, "expectation.py", &[name], TIMEOUT).await?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    /// The windows of one size, `day` or `hour`.
    pub fn windows(&self, size: &str) -> Result<&Windows> {
        let windows = self.windows.get(size);
        windows.with_context(|| format!("the expectation has no windows of size {size}"))
    }
}
