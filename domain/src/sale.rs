//! Sales from another system, priced line by line.

use crate::decider::{Rejection, RejectionKind};
use schemas::{
    Currency, Quantity, Sku, Timestamp, UnitPrice, money::line_amount, orders::SaleLine,
};

/// Largest absolute amount of a line and of a total, in minor units: 100 billion pounds. A stream job can't
/// continue past a sum that does not fit in 64 bits. With this bound, more than 900,000 sales in one window are
/// needed for such a sum.
pub const TOTAL_MAX: i64 = 10_000_000_000_000;

/// A sale or a credit note, as in the other system.
#[derive(Debug, Clone, PartialEq)]
pub struct Sale {
    /// The other system's invoice number.
    pub invoice: String,
    /// The customer's opaque id; `None` if the source names no customer.
    pub customer: Option<String>,
    /// The country's name, as in the source.
    pub country: String,
    /// Time of the sale.
    pub at: Timestamp,
    /// The currency of all its prices.
    pub currency: Currency,
    /// Products sold or taken back.
    pub lines: Vec<Line>,
}

/// One line of a [`Sale`].
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The product sold.
    pub sku: Sku,
    /// The product's description, as in the source.
    pub description: Option<String>,
    /// Number of pieces; negative if they were taken back.
    pub quantity: Quantity,
    /// Price of one piece, in millionths of the major unit; may be negative.
    pub unit_price: UnitPrice,
}

/// Reasons why a sale can't be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaleRejection {
    /// The sale has no lines.
    #[error("invoice {invoice} has no lines; send at least one")]
    NoLines {
        /// The invoice's number.
        invoice: String,
    },
    /// A line's amount, or the total up to it, is beyond [`TOTAL_MAX`].
    #[error(
        "invoice {invoice}, line {line}: the amount of the line, and the total up to it, must be between -{TOTAL_MAX} \
         and {TOTAL_MAX} minor units"
    )]
    AmountTooLarge {
        /// The invoice's number.
        invoice: String,
        /// The first such line, from 1.
        line: usize,
    },
    /// The sale exists with other content: its key was used for that content, and the answer to that command
    /// has expired.
    #[error(
        "invoice {invoice} exists under this idempotency key with other content; send a new key"
    )]
    Exists {
        /// The invoice's number in the new sale.
        invoice: String,
    },
}

impl Rejection for SaleRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::NoLines { .. } => "SALE_WITHOUT_LINES",
            Self::AmountTooLarge { .. } => "AMOUNT_TOO_LARGE",
            Self::Exists { .. } => "SALE_EXISTS",
        }
    }

    fn kind(&self) -> RejectionKind {
        match self {
            Self::NoLines { .. } | Self::AmountTooLarge { .. } => RejectionKind::Invalid,
            Self::Exists { .. } => RejectionKind::Conflict,
        }
    }
}

impl Sale {
    /// The lines with their amounts, and the total. Zero and negative quantities and prices are
    /// imported unchanged, because the sale has already happened.
    pub(crate) fn priced(&self) -> Result<(Vec<SaleLine>, i64), SaleRejection> {
        if self.lines.is_empty() {
            return Err(SaleRejection::NoLines {
                invoice: self.invoice.clone(),
            });
        }
        let mut total = 0_i64;
        let mut lines = Vec::with_capacity(self.lines.len());
        for (index, line) in self.lines.iter().enumerate() {
            let amount = line_amount(line.quantity, line.unit_price, self.currency)
                .ok()
                .filter(is_within_bound)
                .ok_or_else(|| self.too_large(index))?;
            total = Some(total + amount)
                .filter(is_within_bound)
                .ok_or_else(|| self.too_large(index))?;
            lines.push(SaleLine {
                sku: line.sku.clone(),
                description: line.description.clone(),
                quantity: line.quantity,
                unit_price: line.unit_price,
                amount,
            });
        }
        Ok((lines, total))
    }

    fn too_large(&self, index: usize) -> SaleRejection {
        SaleRejection::AmountTooLarge {
            invoice: self.invoice.clone(),
            line: index + 1,
        }
    }
}

fn is_within_bound(amount: &i64) -> bool {
    (-TOTAL_MAX..=TOTAL_MAX).contains(amount)
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;
    use proptest::prelude::*;

    /// A sale with one line of the given quantity and price in millionths.
    pub fn sale(lines: &[(i64, i64)]) -> Sale {
        let line = |&(quantity, unit_price): &(i64, i64)| Line {
            sku: Sku::parse("85123A").unwrap(),
            description: None,
            quantity: Quantity(quantity),
            unit_price: UnitPrice(unit_price),
        };
        Sale {
            invoice: "536365".into(),
            customer: Some("17850".into()),
            country: "United Kingdom".into(),
            at: Timestamp(1_291_191_960_000_000),
            currency: Currency::GBP,
            lines: lines.iter().map(line).collect(),
        }
    }

    /// Copies of `sale`, each with another value in one field.
    pub fn other_contents(sale: &Sale) -> Vec<Sale> {
        let other = |change: fn(&mut Sale)| {
            let mut other = sale.clone();
            change(&mut other);
            other
        };
        vec![
            other(|sale| sale.invoice.push('1')),
            other(|sale| sale.customer = None),
            other(|sale| sale.country = "EIRE".into()),
            other(|sale| sale.at.0 += 1),
            other(|sale| sale.currency = Currency::parse("EUR").unwrap()),
            other(|sale| sale.lines[0].sku = Sku::parse("85123B").unwrap()),
            other(|sale| sale.lines[0].description = Some("A LAMP".into())),
            other(|sale| sale.lines[0].quantity.0 += 1),
            other(|sale| sale.lines[0].unit_price.0 += 1),
            other(|sale| sale.lines.push(sale.lines[0].clone())),
        ]
    }

    /// Any sale, including impossible ones.
    pub fn any_sale() -> impl Strategy<Value = Sale> {
        proptest::collection::vec((any::<i64>(), any::<i64>()), 0..4).prop_map(|lines| sale(&lines))
    }

    #[test]
    fn a_total_is_the_sum_of_rounded_lines() {
        let (lines, total) = sale(&[(1, 5_000), (3, 5_000), (-2, 2_550_000)])
            .priced()
            .unwrap();
        assert_eq!(
            lines.iter().map(|line| line.amount).collect::<Vec<_>>(),
            [0, 2, -510]
        );
        assert_eq!(total, -508);
    }

    /// The price of one piece, in millionths, that makes a line of the given pence.
    fn pence(amount: i64) -> (i64, i64) {
        (1, amount * 10_000)
    }

    #[test]
    fn an_amount_at_the_bound_is_taken() {
        for sign in [1, -1] {
            let (lines, total) = sale(&[pence(sign * (TOTAL_MAX - 1)), pence(sign)])
                .priced()
                .unwrap();
            assert_eq!(lines[0].amount, sign * (TOTAL_MAX - 1));
            assert_eq!(total, sign * TOTAL_MAX);
        }
    }

    #[test]
    fn a_rejection_has_a_stable_code() {
        let code_of = |sale: Sale| sale.priced().unwrap_err().code();
        assert_eq!(code_of(sale(&[])), "SALE_WITHOUT_LINES");
        assert_eq!(code_of(sale(&[pence(TOTAL_MAX + 1)])), "AMOUNT_TOO_LARGE");
    }

    #[test]
    fn names_the_line_that_is_too_large() {
        let rejection = Err(SaleRejection::AmountTooLarge {
            invoice: "536365".into(),
            line: 2,
        });
        for lines in [
            // The amount of the second line does not fit in 64 bits.
            vec![(1, 1), (i64::MAX, i64::MAX)],
            vec![pence(-TOTAL_MAX), pence(TOTAL_MAX + 1)],
            vec![pence(TOTAL_MAX), pence(-TOTAL_MAX - 1)],
            // Each line fits, but the sum of the first two does not, although the third would reduce it again.
            vec![pence(TOTAL_MAX), pence(1), pence(-1)],
            vec![pence(-TOTAL_MAX), pence(-1), pence(1)],
        ] {
            assert_eq!(sale(&lines).priced(), rejection, "{lines:?}");
        }
    }
}
