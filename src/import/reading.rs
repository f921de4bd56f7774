//! From the file to the book: every row is either in it or among the rejects.

use crate::import::{
    book::{self, Book, BookBuilder},
    london::Clock,
    rejects::{self, Rejects},
    row::{Header, HeaderError, RowError},
    source::{self, ROW_BYTES_MAX, Row, Rows},
    traps::RowText,
};

/// Why the file as a whole can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It's something else.
    #[error("the file is not Online Retail")]
    Header(#[from] HeaderError),
    /// It's larger than we take.
    #[error("at line {line}: {source}")]
    TooLarge {
        /// The first row that is too much.
        line: u64,
        /// The limit.
        source: book::Error,
    },
    /// What is wrong with it can't be written down.
    #[error(transparent)]
    Rejects(#[from] rejects::Error),
}

/// Why one row is left out.
#[derive(Debug, thiserror::Error)]
enum RejectReason {
    #[error("the row is longer than {ROW_BYTES_MAX} bytes; only its beginning is kept here")]
    TooLong,
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Book(#[from] book::Error),
}

/// Reads all rows into a book.
pub fn read(mut rows: Rows, rejects: &mut Rejects) -> Result<Book, Error> {
    let header = match rows.next_row()? {
        Some(row) => Header::parse(&row.text().text)?,
        None => return Err(Error::Empty),
    };
    let clock = Clock::new();
    let mut builder = BookBuilder::default();
    while let Some(row) = rows.next_row()? {
        let line = row.line;
        match add(&mut builder, &header, &clock, &row) {
            Ok(()) => {}
            Err(RejectReason::Book(source @ book::Error::TooManyLines)) => {
                return Err(Error::TooLarge { line, source });
            }
            Err(reason) => rejects.add_row(line, &reason.to_string(), row.bytes)?,
        }
    }
    rejects.flush()?;
    Ok(builder.finish())
}

fn add(
    builder: &mut BookBuilder,
    header: &Header,
    clock: &Clock,
    row: &Row<'_>,
) -> Result<(), RejectReason> {
    if row.cut {
        return Err(RejectReason::TooLong);
    }
    let read = row.text();
    let text = RowText {
        is_ascii: read.text.is_ascii(),
        is_windows_1252: read.is_windows_1252,
    };
    let fields = header.split(&read.text)?;
    let entry = header.read(&fields, clock)?;
    builder.add(row.line, &entry, text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{book::Kind, traps::Traps};
    use proptest::prelude::*;
    use std::{io::Cursor, path::Path};

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    /// The book and the rejects file of a CSV.
    fn read_bytes(bytes: Vec<u8>) -> (Result<Book, Error>, u64, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.csv");
        let mut rejects = Rejects::create(&path).unwrap();
        let result = read(Rows::new(Cursor::new(bytes)).unwrap(), &mut rejects);
        rejects.flush().unwrap();
        (result, rejects.rows(), std::fs::read(&path).unwrap())
    }

    #[test]
    fn takes_good_rows_and_lists_bad_ones() {
        let rows: &[&[u8]] = &[
            b"1,A,gift \xa310,1,12/1/2010 8:26,1.00,7,France",
            b"1,A,\"open,1,12/1/2010 8:26,1.00,7,France",
            b"2,A,,many,12/1/2010 8:26,1.00,7,France",
            b"1,A,,1,12/1/2010 8:26,1.00,8,France",
            b"3,B,\xc2\xa3,1,12/1/2010 8:26,1.00,7,France",
        ];
        let (book, rejected, written) =
            read_bytes([HEADER.as_bytes(), &rows.join(&b'\n')].concat());
        let book = book.unwrap();
        assert_eq!((book.invoices.len(), book.lines, rejected), (2, 2, 3));
        assert_eq!(book.products[0].description.as_deref(), Some("gift £10"));
        assert_eq!(book.traps.lines_beyond_ascii, 2);
        assert_eq!(book.traps.lines_read_as_windows_1252, 1);
        let listed: Vec<_> = csv::Reader::from_reader(&*written)
            .deserialize::<(u64, String, String, String)>()
            .map(|record| record.map(|(line, _, reason, _)| (line, reason)).unwrap())
            .collect();
        assert_eq!(
            listed,
            [
                (3, "a quoted field is not closed on its line"),
                (4, "the quantity is not a whole number, or out of range"),
                (5, "the customer is not that of the invoice's first line"),
            ]
            .map(|(line, reason)| (line, reason.to_owned()))
        );
    }

    #[test]
    fn says_what_is_no_online_retail() {
        assert!(matches!(read_bytes(vec![]).0, Err(Error::Empty)));
        assert!(matches!(
            read_bytes(b"a,b\n1,2\n".to_vec()).0,
            Err(Error::Header(HeaderError::MissingColumn { .. }))
        ));
        let (book, rejected, _) = read_bytes(HEADER.as_bytes().to_vec());
        assert_eq!((book.unwrap().lines, rejected), (0, 0));
    }

    #[test]
    fn lists_a_row_that_is_too_long() {
        let row = format!(
            "1,A,{},1,12/1/2010 8:26,1.00,7,France\n",
            "x".repeat(ROW_BYTES_MAX)
        );
        let (book, rejected, written) = read_bytes(format!("{HEADER}{row}").into_bytes());
        assert_eq!((book.unwrap().lines, rejected), (0, 1));
        assert!(written.len() < ROW_BYTES_MAX + 500);
    }

    fn shipped() -> Rows {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/online-retail.csv.gz");
        Rows::open(&path).unwrap()
    }

    fn assert_is_online_retail(rows: Rows, lines_read_as_windows_1252: u64) {
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = Rejects::create(&folder.path().join("rejects.csv")).unwrap();
        let book = read(rows, &mut rejects).unwrap();
        assert_eq!(rejects.rows(), 0);
        assert_eq!(book.invoices.len(), 25_900);
        assert_eq!(book.count(Kind::Sale), 22_064);
        assert_eq!(book.count(Kind::CreditNote), 3_836);
        assert_eq!((book.lines, book.total_minor), (541_909, 974_774_793));
        assert_eq!(book.products.len(), 4_070);
        let expected = Traps {
            lines_without_customer: 135_080,
            lines_without_description: 1_454,
            negative_quantities_outside_credit_notes: 1_336,
            zero_prices: 2_515,
            negative_prices: 2,
            prices_below_a_penny: 4,
            prices_finer_than_a_penny: 4,
            exact_duplicate_lines: 5_268,
            invoices_with_several_timestamps: 43,
            invoices_not_together: 1,
            invoices_starting_with_a: 3,
            stock_codes_differing_in_case_only: 224,
            stock_codes_with_blanks: 1,
            stock_codes_without_description: 112,
            descriptions_trimmed: 113_452,
            lines_beyond_ascii: 32,
            lines_read_as_windows_1252,
            times_skipped_or_repeated: 0,
        };
        assert_eq!(book.traps, expected);
    }

    #[test]
    fn comes_to_what_the_shipped_file_is_known_to_hold() {
        assert_is_online_retail(shipped(), 0);
    }

    #[test]
    fn the_copy_in_latin_1_comes_to_the_same() {
        let mut rows = shipped();
        let mut copy = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            let characters = row.text().text.into_owned();
            copy.extend(
                characters
                    .chars()
                    .map(|c| u8::try_from(u32::from(c)).unwrap()),
            );
            copy.extend(b"\r\n");
        }
        assert_is_online_retail(Rows::new(Cursor::new(copy)).unwrap(), 32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_row_is_taken_or_listed(rows in proptest::collection::vec(
            prop_oneof![
                "[0-9C]{0,2},[A-Za-z ]{0,2},[^\r\n]{0,3},-?[0-9]{0,2},1/1/2011 1:00,[0-9.]{0,3},,UK"
                    .prop_map(String::into_bytes),
                proptest::collection::vec(
                    any::<u8>().prop_filter("no line end", |byte| !b"\r\n".contains(byte)),
                    1..40,
                ),
            ],
            0..20,
        )) {
            let (book, rejected, _) = read_bytes([HEADER.as_bytes(), &rows.join(&b'\n')].concat());
            prop_assert_eq!(book.unwrap().lines + rejected, rows.len() as u64);
        }

        #[test]
        fn any_bytes_give_a_book_or_an_error(has_header: bool, bytes: Vec<u8>) {
            let header = if has_header { HEADER } else { "" };
            let (book, ..) = read_bytes([header.as_bytes(), &bytes].concat());
            prop_assert!(book.is_ok() || !has_header);
        }
    }
}
