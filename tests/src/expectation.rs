//! What an import of the shipped data must come to, as `tests/python/expectation.py` computes it from
//! the CSV alone.

use crate::{environment, python::python};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Longest time for reading the CSV.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What any ledger must add up to.
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

/// A group of invoices: one country's, one customer's, one window's.
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

/// The expectation.
#[derive(Debug, Clone, Deserialize)]
pub struct Expectation {
    /// The whole file.
    #[serde(flatten)]
    pub totals: Totals,
    /// Stock codes.
    pub products: i64,
    /// How often each trap of the file is met.
    pub traps: BTreeMap<String, u64>,
    /// By country.
    pub countries: BTreeMap<String, Group>,
    /// By customer; invoices without one are in none.
    pub customers: BTreeMap<String, Group>,
    /// By day (yyyy-mm-dd, UTC).
    pub days: BTreeMap<String, Group>,
    /// By window size (`day`, `hour`).
    pub windows: BTreeMap<String, Windows>,
}

impl Expectation {
    /// Computes it, once: the result stays in the tests' folder.
    pub async fn of_online_retail() -> Result<Self> {
        let environment = environment::Environment::read()?;
        let program = environment::checkout("tests/python/expectation.py");
        let kept = environment.folder.join("expectation.json");
        if !is_newer(&kept, &[program, environment::online_retail()]) {
            let text = python(&environment, "expectation.py", &[], TIMEOUT).await?;
            std::fs::write(&kept, text).with_context(|| kept.display().to_string())?;
        }
        let text = std::fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
        serde_json::from_str(&text).with_context(|| kept.display().to_string())
    }

    /// The windows of one size, `day` or `hour`.
    pub fn windows(&self, size: &str) -> Result<&Windows> {
        let windows = self.windows.get(size);
        windows.with_context(|| format!("the expectation has no windows of size {size}"))
    }
}

fn is_newer(kept: &Path, sources: &[PathBuf]) -> bool {
    let Some(made) = modified(kept) else {
        return false;
    };
    let mut sources = sources.iter().map(|source| modified(source));
    sources.all(|source| source.is_some_and(|source| source < made))
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}
