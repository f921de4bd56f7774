//! From the file to the book: every row is either in it or among the rejects.
//!
//! An invoice is taken whole or not at all: where one of its rows can't be taken, the others are held
//! back, wherever they stand. So a file with faults is read twice.

use crate::import::{
    book::{self, Book, BookBuilder},
    london::Clock,
    rejects::{self, Rejects},
    row::{Header, HeaderError, RowError},
    source::{self, ROW_BYTES_MAX, Row, Rows},
    traps::RowText,
};
use std::collections::{BTreeMap, HashMap};

/// Most rows with faults; a file with more of them is something else.
pub const FAULTS_MAX: usize = 100_000;

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
    /// It's hardly what it should be.
    #[error(
        "at line {line}: more than {FAULTS_MAX} rows cannot be taken, this one because {reason}"
    )]
    TooManyFaults {
        /// The first row that is too much.
        line: u64,
        /// What is wrong with it.
        reason: String,
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
    #[error("held back, for line {line} of the same invoice cannot be taken")]
    HeldBack { line: u64 },
}

/// What is wrong with a file.
#[derive(Default)]
struct Faults {
    /// By line, the reason.
    reasons: BTreeMap<u64, String>,
    /// The invoices that they spoil, each with the first line that does.
    spoilt: HashMap<String, u64>,
}

/// Reads all rows into a book. `again` gives the same rows once more, if there are faults.
pub fn read(
    mut rows: Rows,
    again: impl FnOnce() -> Result<Rows, source::Error>,
    rejects: &mut Rejects,
) -> Result<Book, Error> {
    let (book, faults) = read_all(&mut rows)?;
    if faults.reasons.is_empty() {
        return Ok(book);
    }
    // Half of its memory would be in the way of the other one.
    drop(book);
    let book = read_but(&faults, &mut again()?, rejects)?;
    rejects.flush()?;
    Ok(book)
}

/// Takes every row that can be taken, and notes the others.
fn read_all(rows: &mut Rows) -> Result<(Book, Faults), Error> {
    let header = read_header(rows)?;
    let (clock, mut builder, mut faults) =
        (Clock::new(), BookBuilder::default(), Faults::default());
    while let Some(row) = rows.next_row()? {
        let line = row.line;
        match add(&mut builder, &header, &clock, &row) {
            Ok(()) => {}
            Err(RejectReason::Book(source @ book::Error::TooManyLines)) => {
                return Err(Error::TooLarge { line, source });
            }
            Err(reason) if faults.reasons.len() == FAULTS_MAX => {
                let reason = reason.to_string();
                return Err(Error::TooManyFaults { line, reason });
            }
            Err(reason) => {
                if let Some(invoice) = header.invoice_of(&row.text().text) {
                    faults.spoilt.entry(invoice).or_insert(line);
                }
                faults.reasons.insert(line, reason.to_string());
            }
        }
    }
    Ok((builder.finish(), faults))
}

/// Takes the rows of invoices without a fault, and lists all the others.
fn read_but(faults: &Faults, rows: &mut Rows, rejects: &mut Rejects) -> Result<Book, Error> {
    let header = read_header(rows)?;
    let (clock, mut builder) = (Clock::new(), BookBuilder::default());
    while let Some(row) = rows.next_row()? {
        let reason = match faults.reasons.get(&row.line) {
            Some(reason) => Some(reason.clone()),
            None => match header.invoice_of(&row.text().text) {
                Some(invoice) if faults.spoilt.contains_key(&invoice) => {
                    let line = faults.spoilt[&invoice];
                    Some(RejectReason::HeldBack { line }.to_string())
                }
                // Whoever changes the file meanwhile may bring a fault in.
                Some(_) | None => add(&mut builder, &header, &clock, &row)
                    .err()
                    .map(|reason| reason.to_string()),
            },
        };
        if let Some(reason) = reason {
            rejects.add_row(row.line, &reason, row.bytes)?;
        }
    }
    Ok(builder.finish())
}

fn read_header(rows: &mut Rows) -> Result<Header, Error> {
    match rows.next_row()? {
        Some(row) => Ok(Header::parse(&row.text().text)?),
        None => Err(Error::Empty),
    }
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
        let rows = || Rows::new(Cursor::new(bytes.clone())).unwrap();
        let result = read(rows(), || Ok(rows()), &mut rejects);
        rejects.flush().unwrap();
        (result, rejects.rows(), std::fs::read(&path).unwrap())
    }

    #[test]
    fn takes_whole_invoices_and_lists_every_row_of_the_others() {
        let rows: &[&[u8]] = &[
            b"1,A,gift \xa310,1,12/1/2010 8:26,1.00,7,France",
            b"1,A,\"open,1,12/1/2010 8:26,1.00,7,France",
            b"2,A,,many,12/1/2010 8:26,1.00,7,France",
            b"4,A,,1,12/1/2010 8:26,1.00,8,France",
            b"3,B,\xc2\xa3,1,12/1/2010 8:26,1.00,7,France",
            b"C5,B,gift \xa310,1,12/1/2010 8:26,1.00,7,France",
            b"4,A,,1,12/1/2010 8:26,1.00,9,France",
            b"1,A,,1,12/1/2010 8:26,1.00,7,France",
        ];
        let (book, rejected, written) =
            read_bytes([HEADER.as_bytes(), &rows.join(&b'\n')].concat());
        let book = book.unwrap();
        let taken: Vec<&str> = book.invoices.iter().map(|i| &*i.number).collect();
        assert_eq!((&taken[..], book.lines, rejected), (&["3", "C5"][..], 2, 6));
        let products: Vec<&str> = book.products.iter().map(|p| &*p.sku).collect();
        assert_eq!(products, ["B"]);
        assert_eq!(book.traps.lines_beyond_ascii, 2);
        assert_eq!(book.traps.lines_read_as_windows_1252, 1);
        let listed: Vec<_> = csv::Reader::from_reader(&*written)
            .byte_records()
            .map(|record| {
                let record = record.unwrap();
                let text = |index: usize| str::from_utf8(&record[index]).unwrap().to_owned();
                (text(0).parse().unwrap(), text(2))
            })
            .collect();
        assert_eq!(
            listed,
            [
                (
                    2,
                    "held back, for line 3 of the same invoice cannot be taken"
                ),
                (3, "a quoted field is not closed on its line"),
                (4, "the quantity is not a whole number, or out of range"),
                (
                    5,
                    "held back, for line 8 of the same invoice cannot be taken"
                ),
                (8, "the customer is not that of the invoice's first line"),
                (
                    9,
                    "held back, for line 3 of the same invoice cannot be taken"
                ),
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
        let again = || panic!("a file without faults is read once");
        let book = read(rows, again, &mut rejects).unwrap();
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
