//! Reads the file's prices exactly, without floating point.

use schemas::UnitPrice;

/// Maximum number of digits after the point: a unit price is stored in millionths.
pub const DECIMALS_MAX: usize = 6;

/// Reasons why a text is not a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a decimal number such as `2.55`, `-11062.06` or `165`.
    #[error("the price is not a decimal number")]
    NotDecimal,
    /// The price is finer than a millionth.
    #[error("the price has more than {DECIMALS_MAX} decimals")]
    TooFine,
    /// The price exceeds 64 bits of millionths.
    #[error("the price is out of range")]
    OutOfRange,
}

/// Reads a price in the major unit such as `2.55`, `-11062.06` or `165`.
///
/// # Errors
/// [`Error`]: the text is not a decimal number, has too many decimals, or exceeds 64 bits of millionths.
pub fn parse(text: &str) -> Result<UnitPrice, Error> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let (whole, decimals) = match digits.split_once('.') {
        Some((whole, decimals)) if is_digits(decimals) => (whole, decimals),
        Some(_) => return Err(Error::NotDecimal),
        None => (digits, ""),
    };
    if !is_digits(whole) {
        return Err(Error::NotDecimal);
    }
    if decimals.len() > DECIMALS_MAX {
        return Err(Error::TooFine);
    }
    let millionths = format!("{sign}{whole}{decimals:0<DECIMALS_MAX$}");
    let millionths = millionths.parse().map_err(|_| Error::OutOfRange)?;
    Ok(UnitPrice(millionths))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_prices_are_read_exactly() {
        for (text, millionths) in [
            ("2.55", 2_550_000),
            ("-11062.06", -11_062_060_000),
            ("165", 165_000_000),
            ("0.001", 1_000),
            ("0", 0),
            ("0.000001", 1),
            ("-9223372036854.775808", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(UnitPrice(millionths)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_errors() {
        for text in [
            "", "-", ".", ".5", "5.", "+1", "1e3", "1,5", " 1", "1 ", "--1", "1.2.3", "٣", "NaN",
        ] {
            assert_eq!(parse(text), Err(Error::NotDecimal), "{text:?}");
        }
        assert_eq!(parse("0.0000010"), Err(Error::TooFine));
        assert_eq!(parse("9223372036854.775808"), Err(Error::OutOfRange));
        assert_eq!(parse(&"9".repeat(400)), Err(Error::OutOfRange));
    }

    proptest! {
        #[test]
        fn a_price_survives_writing_and_reading(millionths: i64) {
            let sign = if millionths < 0 { "-" } else { "" };
            let (whole, rest) = (
                millionths.unsigned_abs() / 1_000_000,
                millionths.unsigned_abs() % 1_000_000,
            );
            prop_assert_eq!(parse(&format!("{sign}{whole}.{rest:06}")), Ok(UnitPrice(millionths)));
        }

        #[test]
        fn any_text_is_a_price_or_an_error(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
