//! Reads the file into a dataset: every row is either part of it or listed as rejected.
//!
//! The conventions that all rows show decide how each row is read, so the file is read twice. An invoice is
//! imported as a whole or not at all: if one of its rows is rejected, its other rows are held back, wherever
//! they are. A file with rejected rows is therefore read a third time.

use crate::{
    conventions::{self, Conventions, Survey},
    data_quality::RowEncoding,
    dataset::{self, Dataset, DatasetBuilder},
    local_time::{DateOrder, Zone},
    rejects::{self, Rejects},
    row::{Header, HeaderError, RowError},
    source::{self, ROW_BYTES_MAX, Row, Rows},
};
use std::collections::{BTreeMap, HashMap};

/// Maximum number of rejected rows; a file with more of them is probably not Online Retail.
pub const REJECTED_ROWS_MAX: usize = 100_000;

/// Reasons why the whole file can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The first row is not a header of Online Retail.
    #[error("the file is not Online Retail")]
    Header(#[from] HeaderError),
    /// The file's rows follow no common conventions.
    #[error(transparent)]
    Conventions(#[from] conventions::Error),
    /// The file exceeds a limit.
    #[error("at line {line}: {source}")]
    TooLarge {
        /// The first row beyond the limit.
        line: u64,
        /// The limit.
        source: dataset::Error,
    },
    /// The file has more than [`REJECTED_ROWS_MAX`] rejected rows.
    #[error(
        "at line {line}: more than {REJECTED_ROWS_MAX} rows are rejected; the reason for this row: {reason}"
    )]
    TooManyRejected {
        /// The first row beyond the limit.
        line: u64,
        /// The reason for its rejection.
        reason: String,
    },
    /// A malformed row of an unknown invoice: that invoice would be imported without the row.
    #[error(
        "at line {line}: {source}, in or before the invoice number; correct this row and import again"
    )]
    InvoiceUnknown {
        /// The row.
        line: u64,
        /// The reason why it can't be split.
        source: RowError,
    },
    /// The rejects file can't be written.
    #[error(transparent)]
    Rejects(#[from] rejects::Error),
}

/// Reasons why a row is not imported.
#[derive(Debug, thiserror::Error)]
enum RejectReason {
    #[error("the row is longer than {ROW_BYTES_MAX} bytes; only its beginning is listed")]
    TooLong,
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    #[error("held back because line {line} of the same invoice is rejected")]
    HeldBack { line: u64 },
}

/// The rejected rows of a file.
#[derive(Default)]
struct Rejected {
    /// The reason by line.
    reasons: BTreeMap<u64, String>,
    /// Invoices with a rejected row, and the first such line of each.
    invoices: HashMap<String, u64>,
}

/// Reads all rows twice: first for the file's conventions, then into a dataset. `dates` is the order of day
/// and month that the user requested. `reopen` yields the same rows again.
///
/// # Errors
/// [`Error`]: the whole file can't be imported. A row that can't be imported alone is not an error: it is listed as
/// rejected.
pub fn read(
    mut rows: Rows,
    reopen: impl Fn() -> Result<Rows, source::Error>,
    dates: Option<DateOrder>,
    rejects: &mut Rejects,
) -> Result<Dataset, Error> {
    let conventions = survey(&mut rows)?.judge(dates)?;
    let (dataset, rejected) = read_all(&mut reopen()?, conventions.clone())?;
    if rejected.reasons.is_empty() {
        return Ok(dataset);
    }
    // Frees its memory before the second dataset is built.
    drop(dataset);
    let dataset = read_without(&rejected, &mut reopen()?, conventions, rejects)?;
    rejects.flush()?;
    Ok(dataset)
}

/// Gathers the evidence of the file's conventions. Rows that can't be split are rejected later.
fn survey(rows: &mut Rows) -> Result<Survey, Error> {
    let header = read_header(rows)?;
    let mut survey = Survey::default();
    while let Some(row) = rows.next_row()? {
        if let Ok(fields) = header.split(&row.text().text) {
            survey.add(row.line, header.conventional(&fields));
        }
    }
    Ok(survey)
}

/// Reads every valid row, and records the reasons why rows are rejected.
fn read_all(rows: &mut Rows, conventions: Conventions) -> Result<(Dataset, Rejected), Error> {
    let header = read_header(rows)?;
    let (zone, mut builder) = (Zone::of_dataset(), DatasetBuilder::new(conventions));
    let mut rejected = Rejected::default();
    while let Some(row) = rows.next_row()? {
        let line = row.line;
        match add(&mut builder, &header, &zone, &row) {
            Ok(()) => {}
            Err(RejectReason::Dataset(source @ dataset::Error::TooManyLines)) => {
                return Err(Error::TooLarge { line, source });
            }
            Err(reason) if rejected.reasons.len() == REJECTED_ROWS_MAX => {
                let reason = reason.to_string();
                return Err(Error::TooManyRejected { line, reason });
            }
            Err(reason) => {
                if let Some(invoice) = invoice_of(&header, &builder, &row)? {
                    rejected.invoices.entry(invoice).or_insert(line);
                }
                rejected.reasons.insert(line, reason.to_string());
            }
        }
    }
    Ok((builder.finish(), rejected))
}

/// Reads the rows of invoices without a rejected row, and lists all other rows.
fn read_without(
    rejected: &Rejected,
    rows: &mut Rows,
    conventions: Conventions,
    rejects: &mut Rejects,
) -> Result<Dataset, Error> {
    let header = read_header(rows)?;
    let (zone, mut builder) = (Zone::of_dataset(), DatasetBuilder::new(conventions));
    while let Some(row) = rows.next_row()? {
        let reason = match rejected.reasons.get(&row.line) {
            Some(reason) => Some(reason.clone()),
            None => {
                let invoice = invoice_of(&header, &builder, &row)?;
                match invoice.and_then(|invoice| rejected.invoices.get(&invoice)) {
                    Some(&line) => Some(RejectReason::HeldBack { line }.to_string()),
                    // This fails only if the file has changed since the first reading.
                    None => add(&mut builder, &header, &zone, &row)
                        .err()
                        .map(|reason| reason.to_string()),
                }
            }
        };
        if let Some(reason) = reason {
            rejects.add_row(row.line, &reason, row.bytes)?;
        }
    }
    Ok(builder.finish())
}

/// The invoice number of a row that may be malformed, in the dataset's form.
fn invoice_of(
    header: &Header,
    builder: &DatasetBuilder,
    row: &Row<'_>,
) -> Result<Option<String>, Error> {
    let invoice = header.invoice_of(&row.text().text);
    let invoice = invoice.map_err(|source| Error::InvoiceUnknown {
        line: row.line,
        source,
    })?;
    Ok(invoice.map(|invoice| builder.conventions().invoice(&invoice).into_owned()))
}

fn read_header(rows: &mut Rows) -> Result<Header, Error> {
    match rows.next_row()? {
        Some(row) => Ok(Header::parse(&row.text().text)?),
        None => Err(Error::Empty),
    }
}

fn add(
    builder: &mut DatasetBuilder,
    header: &Header,
    zone: &Zone,
    row: &Row<'_>,
) -> Result<(), RejectReason> {
    if row.truncated {
        return Err(RejectReason::TooLong);
    }
    let decoded = row.text();
    let encoding = RowEncoding {
        is_ascii: decoded.text.is_ascii(),
        is_windows_1252: decoded.is_windows_1252,
    };
    let fields = header.split(&decoded.text)?;
    let entry = header.read(&fields, zone, builder.conventions())?;
    builder.add(row.line, &entry, encoding)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data_quality::DataQuality, invoices::Kind};
    use proptest::prelude::*;
    use std::{io::Cursor, path::Path};

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    /// The dataset of a CSV file, the number of rejected rows, and the rejects file.
    fn read_bytes(bytes: Vec<u8>) -> (Result<Dataset, Error>, u64, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.csv");
        let mut rejects = Rejects::create(&path).unwrap();
        let rows = || Rows::new(Cursor::new(bytes.clone())).unwrap();
        let dates = Some(DateOrder::MonthFirst);
        let result = read(rows(), || Ok(rows()), dates, &mut rejects);
        rejects.flush().unwrap();
        (result, rejects.rows(), std::fs::read(&path).unwrap())
    }

    #[test]
    fn invoices_with_a_rejected_row_are_listed_as_a_whole() {
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
        let (dataset, rejected, written) =
            read_bytes([HEADER.as_bytes(), &rows.join(&b'\n')].concat());
        let dataset = dataset.unwrap();
        let imported: Vec<&str> = dataset.invoices.iter().map(|i| &*i.number).collect();
        assert_eq!(imported, ["3", "C5"]);
        assert_eq!((dataset.lines, rejected), (2, 6));
        let products: Vec<&str> = dataset.products.iter().map(|p| &*p.sku).collect();
        assert_eq!(products, ["B"]);
        assert_eq!(dataset.data_quality.lines_beyond_ascii, 2);
        assert_eq!(dataset.data_quality.lines_read_as_windows_1252, 1);
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
                    "held back because line 3 of the same invoice is rejected"
                ),
                (3, "a quoted field is not closed on its line"),
                (4, "the quantity is not a whole number, or out of range"),
                (
                    5,
                    "held back because line 8 of the same invoice is rejected"
                ),
                (
                    8,
                    "the customer differs from that of the invoice's first line"
                ),
                (
                    9,
                    "held back because line 3 of the same invoice is rejected"
                ),
            ]
            .map(|(line, reason)| (line, reason.to_owned()))
        );
    }

    #[test]
    fn a_file_that_contradicts_itself_is_not_read() {
        for rows in [
            "1,A,,1,12/13/2010 8:26,1,7,France\n2,A,,1,13/12/2010 8:26,1,7,France\n",
            "1,A,,1,12/1/2010 8:26,1,7,France\n2,A,,1,12/1/2010 8:26,1,7.0,France\n",
            "1,A,,1,12/1/2010 8:26,1,7,France\n2.0,A,,1,12/1/2010 8:26,1,7,France\n",
            "C1,A,,-1,12/1/2010 8:26,1,7,France\nc2,A,,-1,12/1/2010 8:26,1,7,France\n",
        ] {
            let (result, rejected, _) = read_bytes([HEADER, rows].concat().into_bytes());
            let error = result.unwrap_err().to_string();
            for part in ["line 2", "line 3"] {
                assert!(error.contains(part), "no {part:?} in: {error}");
            }
            assert_eq!(rejected, 0);
        }
    }

    #[test]
    fn ids_are_read_as_other_files_write_them() {
        let rows = "536365.0,A,,1,12/1/2010 8:26,1,17850.0,France\n\
            536365.0,B,,x,12/1/2010 8:26,1,17850.0,France\n\
            c536379,A,,-1,12/1/2010 8:26,1,,France\n\
            7.0,A,,1,12/1/2010 8:26,1,17850.0,France\n";
        let (dataset, rejected, _) = read_bytes([HEADER, rows].concat().into_bytes());
        let invoices = dataset.unwrap().invoices;
        let outline: Vec<_> = invoices
            .iter()
            .map(|invoice| (&*invoice.number, invoice.kind, invoice.customer.as_deref()))
            .collect();
        assert_eq!(
            outline,
            [
                ("C536379", Kind::CreditNote, None),
                ("7", Kind::Sale, Some("17850"))
            ]
        );
        assert_eq!(rejected, 2);
    }

    #[test]
    fn a_malformed_row_of_an_unknown_invoice_ends_the_import() {
        let header = format!("Note,{HEADER}");
        let valid = "a note,1,A,,1,12/1/2010 8:26,1.00,7,France\n";
        let (dataset, ..) = read_bytes(format!("{header}{valid}").into_bytes());
        assert_eq!(dataset.unwrap().lines, 1);
        // The first of these notes is malformed, so `2` could be taken for the invoice number of the second row.
        for malformed in ["\"see 2,1,A,,1", "see,2,1,B,,1"] {
            let row = format!("{malformed},12/1/2010 8:26,1.00,7,France\n");
            let (result, ..) = read_bytes(format!("{header}{valid}{row}").into_bytes());
            assert!(
                matches!(result, Err(Error::InvoiceUnknown { line: 3, .. })),
                "{malformed}: {result:?} instead of Err(Error::InvoiceUnknown {{ line: 3, .. }})"
            );
        }
    }

    #[test]
    fn a_file_without_the_header_is_an_error() {
        let result = read_bytes(vec![]).0;
        assert!(
            matches!(result, Err(Error::Empty)),
            "{result:?} instead of Err(Error::Empty)"
        );
        let result = read_bytes(b"a,b\n1,2\n".to_vec()).0;
        assert!(
            matches!(
                result,
                Err(Error::Header(HeaderError::MissingColumn { .. }))
            ),
            "{result:?} instead of Err(Error::Header(HeaderError::MissingColumn))"
        );
        let (dataset, rejected, _) = read_bytes(HEADER.as_bytes().to_vec());
        assert_eq!((dataset.unwrap().lines, rejected), (0, 0));
    }

    #[test]
    fn the_beginning_of_a_row_that_is_too_long_is_listed() {
        let row = format!(
            "1,A,{},1,12/1/2010 8:26,1.00,7,France\n",
            "x".repeat(ROW_BYTES_MAX)
        );
        let (dataset, rejected, written) = read_bytes(format!("{HEADER}{row}").into_bytes());
        assert_eq!((dataset.unwrap().lines, rejected), (0, 1));
        let length = written.len();
        let bound = ROW_BYTES_MAX + 500;
        assert!(
            length < bound,
            "{length} bytes instead of less than {bound}"
        );
    }

    fn shipped() -> Rows {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/online-retail.csv.gz");
        Rows::open(&path).unwrap()
    }

    fn assert_is_online_retail(open: impl Fn() -> Rows, lines_read_as_windows_1252: u64) {
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = Rejects::create(&folder.path().join("rejects.csv")).unwrap();
        let dataset = read(open(), || Ok(open()), None, &mut rejects).unwrap();
        assert_eq!(dataset.conventions, Conventions::default());
        assert_eq!(rejects.rows(), 0);
        assert_eq!(dataset.invoices.len(), 25_900);
        assert_eq!(dataset.count(Kind::Sale), 22_064);
        assert_eq!(dataset.count(Kind::CreditNote), 3_836);
        assert_eq!((dataset.lines, dataset.total_minor), (541_909, 974_774_793));
        assert_eq!(dataset.products.len(), 4_070);
        let expected = DataQuality {
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
        assert_eq!(dataset.data_quality, expected);
    }

    #[test]
    fn the_shipped_file_has_the_documented_counts() {
        assert_is_online_retail(shipped, 0);
    }

    #[test]
    fn a_latin_1_copy_of_the_shipped_file_has_the_same_counts() {
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
        assert_is_online_retail(|| Rows::new(Cursor::new(copy.clone())).unwrap(), 32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_row_is_imported_or_listed(rows in proptest::collection::vec(
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
            let (dataset, rejected, _) = read_bytes([HEADER.as_bytes(), &rows.join(&b'\n')].concat());
            match dataset {
                Ok(dataset) => prop_assert_eq!(dataset.lines + rejected, rows.len() as u64),
                // The invoice number is the first column, so the fault is in it.
                Err(Error::InvoiceUnknown { line, .. }) => {
                    let row = &rows[usize::try_from(line).unwrap() - 2];
                    prop_assert!(row.starts_with(b"\""), "no quote at the start of {row:?}");
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn any_bytes_are_a_dataset_or_an_error(has_header: bool, bytes: Vec<u8>) {
            let header = if has_header { HEADER } else { "" };
            let (dataset, ..) = read_bytes([header.as_bytes(), &bytes].concat());
            let is_read = matches!(dataset, Ok(_) | Err(Error::InvoiceUnknown { .. }));
            prop_assert!(is_read || !has_header, "{dataset:?} of a file with a header");
        }
    }
}
