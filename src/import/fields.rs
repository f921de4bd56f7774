//! One row of CSV (RFC 4180) as its fields.
//!
//! The `csv` crate reads on into the next lines when a quote is left open. Here that is an error
//! of the one row, see [`crate::import::source`]; the tests hold this to what that crate writes.

use std::borrow::Cow;

/// Most fields that are split off; a row with more has at least one too many for any header.
pub const FIELDS_MAX: usize = 64;

/// Why a row can't be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field began with a quote that nothing ends.
    #[error("a quoted field is not closed on its line")]
    QuoteOpen,
    /// A quoted field ended before its comma.
    #[error("text after a closing quote")]
    TextAfterQuote,
    /// More than [`FIELDS_MAX`].
    #[error("more than {FIELDS_MAX} fields")]
    TooMany,
}

/// Splits a row at its commas. A field may stand in double quotes, a quote inside of it is doubled;
/// in a field that doesn't begin with a quote, quotes stand for themselves.
pub fn split(row: &str) -> Result<Vec<Cow<'_, str>>, Error> {
    let mut fields = Vec::with_capacity(8);
    let mut rest = Some(row);
    while let Some(text) = rest {
        if fields.len() == FIELDS_MAX {
            return Err(Error::TooMany);
        }
        let (field, behind) = match text.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => match text.split_once(',') {
                Some((field, behind)) => (Cow::Borrowed(field), Some(behind)),
                None => (Cow::Borrowed(text), None),
            },
        };
        fields.push(field);
        rest = behind;
    }
    Ok(fields)
}

/// The field whose opening quote stands before `text`, and what follows its comma, if one does.
fn take_quoted(text: &str) -> Result<(Cow<'_, str>, Option<&str>), Error> {
    let mut end = 0;
    let mut doubled = false;
    loop {
        end += text[end..].find('"').ok_or(Error::QuoteOpen)?;
        if !text[end + 1..].starts_with('"') {
            break;
        }
        doubled = true;
        end += 2;
    }
    let field = if doubled {
        Cow::Owned(text[..end].replace("\"\"", "\""))
    } else {
        Cow::Borrowed(&text[..end])
    };
    match &text[end + 1..] {
        "" => Ok((field, None)),
        behind => match behind.strip_prefix(',') {
            Some(behind) => Ok((field, Some(behind))),
            None => Err(Error::TextAfterQuote),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splits_plain_and_quoted_fields() {
        assert_eq!(split("").unwrap(), [""]);
        assert_eq!(split("a,,b,").unwrap(), ["a", "", "b", ""]);
        assert_eq!(
            split(r#"1,"RECORD FRAME 7"" SINGLE",48"#).unwrap(),
            ["1", "RECORD FRAME 7\" SINGLE", "48"]
        );
        assert_eq!(
            split("7\" plate,\"a,b\",\"\"\"\"").unwrap(),
            ["7\" plate", "a,b", "\""]
        );
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(split(r#"a,"b"#), Err(Error::QuoteOpen));
        assert_eq!(split(r#""a"b,c"#), Err(Error::TextAfterQuote));
        assert_eq!(split(&",".repeat(FIELDS_MAX)), Err(Error::TooMany));
        assert_eq!(
            split(&",".repeat(FIELDS_MAX - 1)).unwrap().len(),
            FIELDS_MAX
        );
    }

    proptest! {
        #[test]
        fn reads_what_the_csv_crate_writes(
            fields in proptest::collection::vec("[^\r\n]*", 1..FIELDS_MAX)
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&fields).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(split(written.trim_end_matches('\n')).unwrap(), fields);
        }

        #[test]
        fn any_text_gives_fields_or_an_error(text in r#"[ab",é]{0,40}"#) {
            if let Ok(fields) = split(&text) {
                prop_assert!(fields.len() <= FIELDS_MAX);
            }
        }
    }
}
