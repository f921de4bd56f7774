//! Sums over sales and credit notes, by currency. Every source that holds the orders can compute them, and
//! `daybook reconcile` compares them.

use crate::money::Currency;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sums over the sales and credit notes in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Sales.
    pub sales: i64,
    /// Credit notes.
    pub credit_notes: i64,
    /// Lines of sales and credit notes.
    pub lines: i64,
    /// Sales plus credit notes, which are negative, in minor units.
    pub total_minor: i64,
}

/// [`Totals`] of each currency that occurs. Amounts of different currencies are never added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TotalsByCurrency(BTreeMap<Currency, Totals>);

/// For each partition of the journal of orders, the offset before which everything is included.
pub type Position = BTreeMap<i32, i64>;

/// The totals of a source, and the position in the journal of orders that they belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TotalsAt {
    /// The position.
    pub position: Position,
    /// The totals.
    pub totals: TotalsByCurrency,
}

/// A sum does not fit in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a total overflows 64 bits")]
pub struct Overflow;

impl Totals {
    /// One sale.
    pub fn sale(lines: i64, total_minor: i64) -> Self {
        Self {
            invoices: 1,
            sales: 1,
            credit_notes: 0,
            lines,
            total_minor,
        }
    }

    /// One credit note.
    pub fn credit_note(lines: i64, total_minor: i64) -> Self {
        Self {
            invoices: 1,
            sales: 0,
            credit_notes: 1,
            lines,
            total_minor,
        }
    }

    /// The sum, if every part of it fits in 64 bits.
    pub fn checked_add(self, other: Self) -> Result<Self, Overflow> {
        let add = |one: i64, other: i64| one.checked_add(other).ok_or(Overflow);
        Ok(Self {
            invoices: add(self.invoices, other.invoices)?,
            sales: add(self.sales, other.sales)?,
            credit_notes: add(self.credit_notes, other.credit_notes)?,
            lines: add(self.lines, other.lines)?,
            total_minor: add(self.total_minor, other.total_minor)?,
        })
    }
}

impl TotalsByCurrency {
    /// Adds totals in a currency. After an error nothing has changed.
    pub fn add(&mut self, currency: Currency, totals: Totals) -> Result<(), Overflow> {
        let sum = self.of(currency).checked_add(totals)?;
        self.0.insert(currency, sum);
        Ok(())
    }

    /// Adds the totals of every currency.
    ///
    /// # Errors
    /// [`Overflow`]: a sum does not fit in 64 bits. The totals of some currencies may already be added.
    pub fn add_all(&mut self, others: &Self) -> Result<(), Overflow> {
        others
            .iter()
            .try_for_each(|(currency, totals)| self.add(currency, totals))
    }

    /// The totals in a currency, which are zero if it does not occur.
    pub fn of(&self, currency: Currency) -> Totals {
        self.0.get(&currency).copied().unwrap_or_default()
    }

    /// Every currency with its totals, by code.
    pub fn iter(&self) -> impl Iterator<Item = (Currency, Totals)> {
        self.0.iter().map(|(currency, totals)| (*currency, *totals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_currency_has_totals_of_its_own() {
        let euro = Currency::parse("EUR").unwrap();
        let mut totals = TotalsByCurrency::default();
        totals.add(Currency::GBP, Totals::sale(3, 500)).unwrap();
        totals.add(euro, Totals::sale(1, 7)).unwrap();
        totals
            .add(Currency::GBP, Totals::credit_note(1, -120))
            .unwrap();
        let pounds = Totals {
            invoices: 2,
            sales: 1,
            credit_notes: 1,
            lines: 4,
            total_minor: 380,
        };
        let expected = [(euro, Totals::sale(1, 7)), (Currency::GBP, pounds)];
        assert_eq!(totals.iter().collect::<Vec<_>>(), expected);
        let json = serde_json::to_string(&totals).unwrap();
        assert!(
            json.starts_with(r#"{"EUR":{"invoices":1"#),
            "no {{\"EUR\":{{\"invoices\":1 at the start of: {json}"
        );
        assert_eq!(
            serde_json::from_str::<TotalsByCurrency>(&json).unwrap(),
            totals
        );
    }

    #[test]
    fn a_sum_beyond_64_bits_is_an_error_that_changes_nothing() {
        let mut totals = TotalsByCurrency::default();
        totals
            .add(Currency::GBP, Totals::sale(1, i64::MAX))
            .unwrap();
        let before = totals.clone();
        assert_eq!(totals.add(Currency::GBP, Totals::sale(1, 1)), Err(Overflow));
        assert_eq!(totals, before);
    }
}
