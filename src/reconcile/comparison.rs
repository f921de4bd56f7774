//! Compares the totals of the sources, and prints them as a table.

use schemas::{Currency, Money, Totals, TotalsAt, TotalsByCurrency};
use std::{collections::BTreeSet, fmt};

/// Sources whose totals must be equal; each is compared with the first one.
#[derive(Debug)]
struct Group {
    /// Names and totals.
    sources: Vec<(String, TotalsByCurrency)>,
}

/// All totals, in groups that must be equal.
#[derive(Debug, Default)]
pub struct Comparison {
    groups: Vec<Group>,
    warnings: Vec<String>,
}

/// The totals of a source other than the journal.
#[derive(Debug)]
pub struct SourceTotals {
    /// The source's name.
    pub name: String,
    /// Its totals, and the position up to which it has read the journal.
    pub at: TotalsAt,
}

impl Comparison {
    /// Adds two totals that must be equal.
    pub fn add_pair(&mut self, one: (String, TotalsByCurrency), other: (String, TotalsByCurrency)) {
        self.groups.push(Group {
            sources: vec![one, other],
        });
    }

    /// Adds sources, each of which must have the journal's totals at its position. `journal` has those
    /// totals, in the order of `sources`.
    pub fn add_sources(
        &mut self,
        name: &str,
        journal: Vec<TotalsByCurrency>,
        sources: Vec<SourceTotals>,
    ) {
        let mut positions = Vec::new();
        let first = self.groups.len();
        for (expected, source) in journal.into_iter().zip(sources) {
            let SourceTotals { name: source, at } = source;
            let known = positions.iter().position(|known| *known == at.position);
            let index = known.unwrap_or(positions.len());
            if known.is_none() {
                positions.push(at.position);
                self.groups.push(Group {
                    sources: vec![(name.to_owned(), expected)],
                });
            }
            self.groups[first + index].sources.push((source, at.totals));
        }
    }

    /// Adds an observation that is not a difference.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The observations that are not differences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The first two sources that differ.
    pub fn difference(&self) -> Option<String> {
        self.groups.iter().find_map(|group| {
            let (first, others) = group.sources.split_first()?;
            let (source, _) = others.iter().find(|(_, totals)| *totals != first.1)?;
            Some(format!("{source} differs from {}", first.0))
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<30}{:>10}{:>10}{:>14}{:>10}{:>22}",
            "", "invoices", "sales", "credit notes", "lines", "total"
        )?;
        for group in &self.groups {
            let of_all = group.sources.iter().flat_map(|(_, totals)| totals.iter());
            let mut currencies: BTreeSet<Currency> = of_all.map(|(currency, _)| currency).collect();
            if currencies.is_empty() {
                currencies.insert(Currency::GBP);
            }
            for (source, totals) in &group.sources {
                for &currency in &currencies {
                    write_row(f, source, currency, &totals.of(currency))?;
                }
            }
        }
        Ok(())
    }
}

fn write_row(
    f: &mut fmt::Formatter<'_>,
    source: &str,
    currency: Currency,
    totals: &Totals,
) -> fmt::Result {
    let total = Money {
        amount: totals.total_minor,
        currency,
    };
    writeln!(
        f,
        "{source:<30}{:>10}{:>10}{:>14}{:>10}{:>22}",
        totals.invoices,
        totals.sales,
        totals.credit_notes,
        totals.lines,
        total.to_string()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pounds(total: i64) -> TotalsByCurrency {
        let mut totals = TotalsByCurrency::default();
        totals.add(Currency::GBP, Totals::sale(1, total)).unwrap();
        totals
    }

    fn source(name: &str, end: i64, totals: TotalsByCurrency) -> SourceTotals {
        SourceTotals {
            name: name.to_owned(),
            at: TotalsAt {
                position: BTreeMap::from([(0, end)]),
                totals,
            },
        }
    }

    fn compared(sources: Vec<(TotalsByCurrency, SourceTotals)>) -> Comparison {
        let mut comparison = Comparison::default();
        comparison.add_pair(
            ("file".into(), pounds(3)),
            ("journal of it".into(), pounds(3)),
        );
        let (journal, sources) = sources.into_iter().unzip();
        comparison.add_sources("journal", journal, sources);
        comparison
    }

    #[test]
    fn sources_are_compared_with_the_journal_at_their_own_positions() {
        let comparison = compared(vec![
            (pounds(100), source("a", 5, pounds(100))),
            (pounds(130), source("b", 6, pounds(130))),
            (pounds(100), source("c", 5, pounds(100))),
        ]);
        assert_eq!(comparison.difference(), None);
        let table = comparison.to_string();
        let names: Vec<&str> = table.lines().skip(1).map(|row| row[..30].trim()).collect();
        assert_eq!(
            names,
            ["file", "journal of it", "journal", "a", "c", "journal", "b"]
        );
        for row in table.lines() {
            assert_eq!(row.len(), 96, "{row}");
        }
    }

    #[test]
    fn a_source_that_differs_at_its_position_is_named() {
        let comparison = compared(vec![
            (pounds(100), source("a", 5, pounds(100))),
            (pounds(130), source("b", 6, pounds(100))),
        ]);
        assert_eq!(comparison.difference().unwrap(), "b differs from journal");
    }

    #[test]
    fn each_currency_has_a_row_and_must_be_equal() {
        let mut both = pounds(100);
        let euro = Currency::parse("EUR").unwrap();
        both.add(euro, Totals::sale(1, 7)).unwrap();
        let equal = compared(vec![(both.clone(), source("a", 5, both.clone()))]);
        assert_eq!(equal.difference(), None);
        let table = equal.to_string();
        assert_eq!(table.matches("EUR 0.07").count(), 2, "{table}");
        let without = compared(vec![(both, source("a", 5, pounds(100)))]);
        assert_eq!(without.difference().unwrap(), "a differs from journal");
        assert!(
            without.to_string().contains("EUR 0.00"),
            "no \"EUR 0.00\" in: {without}"
        );
    }
}
