//! Splits a CSV row (RFC 4180) into its fields.
//!
//! An open quote must be an error of its own row (see [`crate::source`]). The `csv` crate continues the
//! field on the next lines, and neither it nor `csv-core` reports an open quote, so the splitting is done
//! here. The tests compare it with the rows that the `csv` crate writes.

use std::borrow::Cow;

/// Maximum number of fields; a row with more fits no header.
pub const FIELDS_MAX: usize = 64;

/// Reasons why a row can't be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field begins with a quote and has no closing quote.
    #[error("a quoted field is not closed on its line")]
    QuoteOpen,
    /// A closing quote is followed by a character other than a comma.
    #[error("a closing quote is not followed by a comma")]
    TextAfterQuote,
    /// The row has more than [`FIELDS_MAX`] fields.
    #[error("the row has more than {FIELDS_MAX} fields")]
    TooMany,
}

/// Splits a row at its commas. A field may be enclosed in double quotes, within which a quote is doubled; a
/// field that does not begin with a quote contains its quotes literally.
///
/// # Errors
/// [`Error`]: a quote is not closed, text follows a closing quote, or the row has too many fields.
pub fn split(row: &str) -> Result<Vec<Cow<'_, str>>, Error> {
    let mut fields = Vec::with_capacity(8);
    split_into(&mut fields, row)?;
    Ok(fields)
}

/// The fields before the first one that can't be split off; all fields of a row without an error.
pub fn before_error(row: &str) -> Vec<Cow<'_, str>> {
    let mut fields = Vec::new();
    // The fields before the error were found.
    let _ = split_into(&mut fields, row);
    fields
}

fn split_into<'a>(fields: &mut Vec<Cow<'a, str>>, row: &'a str) -> Result<(), Error> {
    let mut rest = Some(row);
    while let Some(text) = rest {
        if fields.len() == FIELDS_MAX {
            return Err(Error::TooMany);
        }
        let (field, rest_of_row) = match text.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => match text.split_once(',') {
                Some((field, rest_of_row)) => (Cow::Borrowed(field), Some(rest_of_row)),
                None => (Cow::Borrowed(text), None),
            },
        };
        fields.push(field);
        rest = rest_of_row;
    }
    Ok(())
}

/// The field whose opening quote precedes `text`, and the rest of the row after the field's comma, if there
/// is one.
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
        rest_of_row => match rest_of_row.strip_prefix(',') {
            Some(rest_of_row) => Ok((field, Some(rest_of_row))),
            None => Err(Error::TextAfterQuote),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_and_quoted_fields_are_split() {
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
    fn malformed_rows_are_errors() {
        assert_eq!(split(r#"a,"b"#), Err(Error::QuoteOpen));
        assert_eq!(split(r#""a"b,c"#), Err(Error::TextAfterQuote));
        assert_eq!(before_error(r#"a,"b""#), ["a", "b"]);
        assert_eq!(before_error(r#"a,"b"#), ["a"]);
        assert_eq!(before_error(r#""a"b,c"#), [] as [&str; 0]);
        assert_eq!(split(&",".repeat(FIELDS_MAX)), Err(Error::TooMany));
        assert_eq!(
            split(&",".repeat(FIELDS_MAX - 1)).unwrap().len(),
            FIELDS_MAX
        );
    }

    proptest! {
        #[test]
        fn rows_written_by_the_csv_crate_are_read_back(
            fields in proptest::collection::vec("[^\r\n]*", 1..FIELDS_MAX)
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&fields).unwrap();
            let written = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(split(written.trim_end_matches('\n')).unwrap(), fields);
        }

        #[test]
        fn any_text_is_split_or_an_error(text in r#"[ab",é]{0,40}"#) {
            if let Ok(fields) = split(&text) {
                let count = fields.len();
                prop_assert!(count <= FIELDS_MAX, "{count} fields instead of at most {FIELDS_MAX}");
            }
        }
    }
}
