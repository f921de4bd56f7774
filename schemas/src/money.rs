//! Money: whole minor units with a currency, and exact arithmetic.

use crate::product::Quantity;
use serde::{Deserialize, Serialize, de::Error as _};

/// A currency of ISO 4217.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

/// A price of one piece in millionths of the major unit (2.55 GBP = 2,550,000); signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitPrice(pub i64);

/// An amount in minor units (pence, cents) of a currency; signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
}

/// Why an amount of money can't be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The text is not a code of ISO 4217 with minor units.
    #[error("unknown currency {code:?}; send a code of ISO 4217, such as GBP")]
    UnknownCurrency {
        /// The text, cut after 16 characters.
        code: String,
    },
    /// The amount does not fit in 64 bits.
    #[error("the amount is too large")]
    Overflow,
    /// Amounts of different currencies can't be added.
    #[error("cannot add {right} to {left}")]
    CurrenciesDiffer {
        /// The currency of the first amount.
        left: Currency,
        /// The currency of the second amount.
        right: Currency,
    },
}

impl Currency {
    /// Pound sterling.
    pub const GBP: Self = Self(iso_currency::Currency::GBP);
    /// The first of all currencies by code: the start of a range over them.
    pub const FIRST: Self = Self(iso_currency::Currency::AED);

    /// Parses an upper-case code such as `GBP`. Codes without a minor unit (gold, test codes) are refused.
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`]
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        iso_currency::Currency::from_code(code)
            .filter(|currency| currency.exponent().is_some_and(|exponent| exponent <= 6))
            .map(Self)
            .ok_or_else(|| MoneyError::UnknownCurrency {
                code: code.chars().take(16).collect(),
            })
    }

    /// The three letters.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// The number of decimal digits of the minor unit: 2 for GBP, 0 for JPY.
    pub fn exponent(self) -> u32 {
        u32::from(self.0.exponent().unwrap_or(0))
    }
}

impl Ord for Currency {
    /// By code.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.code().cmp(other.code())
    }
}

impl PartialOrd for Currency {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Money {
    /// The sum, if both amounts have the same currency and the sum fits in 64 bits.
    ///
    /// # Errors
    /// [`MoneyError::CurrenciesDiffer`] or [`MoneyError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrenciesDiffer {
                left: self.currency,
                right: other.currency,
            });
        }
        let amount = self
            .amount
            .checked_add(other.amount)
            .ok_or(MoneyError::Overflow)?;
        Ok(Self {
            amount,
            currency: self.currency,
        })
    }
}

/// The amount of a line in minor units: quantity x unit price, rounded half to even.
///
/// # Errors
/// [`MoneyError::Overflow`]: the amount does not fit in 64 bits.
pub fn line_amount(
    quantity: Quantity,
    unit_price: UnitPrice,
    currency: Currency,
) -> Result<i64, MoneyError> {
    let millionths = i128::from(quantity.0) * i128::from(unit_price.0);
    let divisor = 10_i128.pow(6 - currency.exponent());
    i64::try_from(divide_half_even(millionths, divisor)).map_err(|_| MoneyError::Overflow)
}

/// `dividend / divisor` (`divisor` > 0), rounded to the nearest whole number, with ties to the even one.
fn divide_half_even(dividend: i128, divisor: i128) -> i128 {
    let (floor, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    match (2 * rest).cmp(&divisor) {
        std::cmp::Ordering::Less => floor,
        std::cmp::Ordering::Greater => floor + 1,
        std::cmp::Ordering::Equal => floor + floor.rem_euclid(2),
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::fmt::Display for Money {
    /// For people: `GBP -1,234.05`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.amount < 0 { "-" } else { "" };
        let unit = 10_u64.pow(self.currency.exponent());
        let digits = (self.amount.unsigned_abs() / unit).to_string();
        let minor = self.amount.unsigned_abs() % unit;
        write!(f, "{} {sign}", self.currency)?;
        for (index, digit) in digits.char_indices() {
            let separator = if index > 0 && (digits.len() - index).is_multiple_of(3) {
                ","
            } else {
                ""
            };
            write!(f, "{separator}{digit}")?;
        }
        match self.currency.exponent() as usize {
            0 => Ok(()),
            width => write!(f, ".{minor:0width$}"),
        }
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&code).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pence(quantity: i64, unit_price: i64) -> Result<i64, MoneyError> {
        line_amount(Quantity(quantity), UnitPrice(unit_price), Currency::GBP)
    }

    #[test]
    fn line_amounts_are_rounded_half_to_even() {
        assert_eq!(pence(6, 2_550_000), Ok(1530));
        assert_eq!(pence(1, 5_000), Ok(0));
        assert_eq!(pence(3, 5_000), Ok(2));
        assert_eq!(pence(5, 5_000), Ok(2));
        assert_eq!(pence(-1, 5_000), Ok(0));
        assert_eq!(pence(-3, 5_000), Ok(-2));
        assert_eq!(pence(1, 5_001), Ok(1));
        assert_eq!(pence(i64::MAX, i64::MAX), Err(MoneyError::Overflow));
    }

    #[test]
    fn currencies_have_their_minor_units() {
        let yen = Currency::parse("JPY").unwrap();
        assert_eq!(line_amount(Quantity(2), UnitPrice(1_500_000), yen), Ok(3));
        let total = Money {
            amount: 974_774_793,
            currency: Currency::GBP,
        };
        assert_eq!(total.to_string(), "GBP 9,747,747.93");
        Currency::parse("gbp").unwrap_err();
        Currency::parse("XXX").unwrap_err();
        assert_eq!(
            Money {
                amount: -5,
                currency: Currency::GBP
            }
            .to_string(),
            "GBP -0.05"
        );
        assert_eq!(
            Money {
                amount: 1234,
                currency: yen
            }
            .to_string(),
            "JPY 1,234"
        );
    }

    #[test]
    fn the_first_currency_is_the_least_by_code() {
        let letters = || 'A'..='Z';
        let codes = letters().flat_map(|a| {
            letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c])))
        });
        let least = codes.filter_map(|code| Currency::parse(&code).ok()).min();
        assert_eq!(least, Some(Currency::FIRST));
    }

    #[test]
    fn amounts_of_different_currencies_are_not_added() {
        let pound = Money {
            amount: 1,
            currency: Currency::GBP,
        };
        let yen = Money {
            amount: 1,
            currency: Currency::parse("JPY").unwrap(),
        };
        assert_eq!(
            pound.checked_add(yen),
            Err(MoneyError::CurrenciesDiffer {
                left: pound.currency,
                right: yen.currency
            })
        );
        let most = Money {
            amount: i64::MAX,
            currency: Currency::GBP,
        };
        assert_eq!(most.checked_add(pound), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn rounding_is_odd_and_within_half(dividend in -10_i128.pow(24)..10_i128.pow(24)) {
            let rounded = divide_half_even(dividend, 10_000);
            let error = (rounded * 10_000 - dividend).abs();
            prop_assert!(error <= 5_000, "an error of {error} instead of at most 5,000");
            prop_assert_eq!(divide_half_even(-dividend, 10_000), -rounded);
        }
    }
}
