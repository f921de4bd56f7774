//! The conventions of a file: the order of day and month, and the form of ids. They are determined from all
//! rows before anything is sent, because each row alone looks right: 1/12 is a date in either order, and
//! `17850.0` is a valid id.

use crate::local_time::{self, DateOrder, PossibleOrders};
use serde::Serialize;
use std::{borrow::Cow, fmt};

/// Maximum number of rows that an error shows per convention.
const SHOWN_MAX: usize = 3;
/// Maximum number of characters that an error shows of a field.
const SHOWN_CHARS_MAX: usize = 40;

/// A column of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdColumn {
    /// `InvoiceNo`
    Invoice,
    /// `StockCode`
    StockCode,
    /// `CustomerID`
    Customer,
}

/// The forms in which a file's rows write dates and ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Conventions {
    /// The order of day and month.
    pub dates: DateOrder,
    /// Columns whose whole numbers are written as decimals, as in `17850.0`; they are read without the decimals.
    pub decimal_ids: Vec<IdColumn>,
    /// Whether cancellations are written as `c536379`; they are read as `C536379`.
    pub lower_case_cancellations: bool,
}

/// Some rows, and the number of all rows like them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    count: u64,
    /// Line and field of the first rows.
    shown: Vec<(u64, String)>,
}

/// Reasons why a file has no conventions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Rows follow different conventions.
    #[error(
        "the file contradicts itself: {one} {one_rows}, but {other} {other_rows}; correct the file"
    )]
    Contradiction {
        /// One convention.
        one: String,
        /// The rows that follow it.
        one_rows: Rows,
        /// Another convention.
        other: String,
        /// The rows that follow the other convention.
        other_rows: Rows,
    },
    /// No date shows which part is the day.
    #[error(
        "every date can be read with the month or with the day first: {rows}; choose with --dates month-first or --dates day-first"
    )]
    AmbiguousDates {
        /// The rows with such dates.
        rows: Rows,
    },
    /// Some dates don't exist in the requested order.
    #[error("--dates {order} does not fit the dates {rows}")]
    OtherDates {
        /// The requested order.
        order: DateOrder,
        /// The rows with other dates.
        rows: Rows,
    },
    /// A spreadsheet has shortened numbers.
    #[error(
        "the {column} is in scientific notation {rows}, so digits are lost; export the file again"
    )]
    Scientific {
        /// The column.
        column: IdColumn,
        /// The rows.
        rows: Rows,
    },
}

/// The form of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdForm {
    /// `17850`
    Integer,
    /// `17850.0`
    WholeDecimal,
    /// `1.785E+04`
    Scientific,
    /// Anything else.
    Text,
}

/// Gathers evidence row by row.
#[derive(Debug, Default)]
pub struct Survey {
    month_first: Rows,
    day_first: Rows,
    either: Rows,
    /// In the order of [`IdColumn::ALL`].
    ids: [IdRows; IdColumn::ALL.len()],
    upper_case: Rows,
    lower_case: Rows,
}

#[derive(Debug, Default)]
struct IdRows {
    integers: Rows,
    decimals: Rows,
    scientific: Rows,
}

/// The fields of a row that have conventions.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// `InvoiceNo`
    pub invoice: &'a str,
    /// `StockCode`
    pub stock_code: &'a str,
    /// `InvoiceDate`
    pub date: &'a str,
    /// `CustomerID`
    pub customer: &'a str,
}

impl Survey {
    /// Records a row.
    pub fn add(&mut self, line: u64, fields: Fields<'_>) {
        match local_time::possible_orders(fields.date) {
            Some(PossibleOrders::MonthFirst) => self.month_first.add(line, fields.date),
            Some(PossibleOrders::DayFirst) => self.day_first.add(line, fields.date),
            Some(PossibleOrders::Either) => self.either.add(line, fields.date),
            Some(PossibleOrders::SameDay) | None => {}
        }
        let ids = [fields.invoice, fields.stock_code, fields.customer];
        for (rows, id) in self.ids.iter_mut().zip(ids) {
            match IdForm::of(id) {
                IdForm::Integer => rows.integers.add(line, id),
                IdForm::WholeDecimal => rows.decimals.add(line, id),
                IdForm::Scientific => rows.scientific.add(line, id),
                IdForm::Text => {}
            }
        }
        if is_cancellation(fields.invoice, 'C') {
            self.upper_case.add(line, fields.invoice);
        } else if is_cancellation(fields.invoice, 'c') {
            self.lower_case.add(line, fields.invoice);
        }
    }

    /// The file's conventions. `dates` is the order that the user requested.
    pub fn judge(self, dates: Option<DateOrder>) -> Result<Conventions, Error> {
        let mut decimal_ids = Vec::new();
        for (column, rows) in IdColumn::ALL.into_iter().zip(self.ids) {
            if rows.scientific.count > 0 {
                let rows = rows.scientific;
                return Err(Error::Scientific { column, rows });
            }
            let is_decimal = choose(
                (format!("the {column} is a whole number"), rows.integers),
                ("a decimal".into(), rows.decimals),
            )?;
            if is_decimal == Some(true) {
                decimal_ids.push(column);
            }
        }
        let lower_case = choose(
            ("cancellations begin with C".into(), self.upper_case),
            ("with c".into(), self.lower_case),
        )?;
        Ok(Conventions {
            dates: determine_date_order(self.month_first, self.day_first, self.either, dates)?,
            decimal_ids,
            lower_case_cancellations: lower_case == Some(true),
        })
    }
}

fn determine_date_order(
    month_first: Rows,
    day_first: Rows,
    either: Rows,
    wanted: Option<DateOrder>,
) -> Result<DateOrder, Error> {
    let others = match wanted {
        Some(DateOrder::MonthFirst) => Some(day_first.clone()),
        Some(DateOrder::DayFirst) => Some(month_first.clone()),
        None => None,
    };
    let is_day_first = choose(
        ("dates have the month first".into(), month_first),
        ("the day first".into(), day_first),
    )?;
    match (wanted, others.filter(|rows| rows.count > 0)) {
        (Some(order), Some(rows)) => Err(Error::OtherDates { order, rows }),
        (Some(order), None) => Ok(order),
        (None, _) => match is_day_first {
            Some(true) => Ok(DateOrder::DayFirst),
            Some(false) => Ok(DateOrder::MonthFirst),
            None if either.count > 0 => Err(Error::AmbiguousDates { rows: either }),
            None => Ok(DateOrder::default()),
        },
    }
}

/// Whether the file follows the second of two conventions; `None` if no row follows either.
fn choose(one: (String, Rows), other: (String, Rows)) -> Result<Option<bool>, Error> {
    match (one.1.count, other.1.count) {
        (0, 0) => Ok(None),
        (_, 0) => Ok(Some(false)),
        (0, _) => Ok(Some(true)),
        _ => Err(Error::Contradiction {
            one: one.0,
            one_rows: one.1,
            other: other.0,
            other_rows: other.1,
        }),
    }
}

impl Conventions {
    /// An id in its normal form, such as `17850` for `17850.0`.
    pub fn id<'a>(&self, column: IdColumn, id: &'a str) -> &'a str {
        match id.split_once('.') {
            Some((whole, _))
                if self.decimal_ids.contains(&column) && IdForm::of(id) == IdForm::WholeDecimal =>
            {
                whole
            }
            _ => id,
        }
    }

    /// An invoice number in its normal form, such as `C536379` for `c536379`.
    pub fn invoice<'a>(&self, number: &'a str) -> Cow<'a, str> {
        let number = self.id(IdColumn::Invoice, number);
        match self.lower_case_cancellations && is_cancellation(number, 'c') {
            true => Cow::Owned(number.to_ascii_uppercase()),
            false => Cow::Borrowed(number),
        }
    }
}

impl IdColumn {
    /// Every column of ids.
    const ALL: [Self; 3] = [Self::Invoice, Self::StockCode, Self::Customer];
}

impl IdForm {
    fn of(id: &str) -> Self {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_digits(id) {
            return Self::Integer;
        }
        if let Some((whole, fraction)) = id.split_once('.')
            && is_digits(whole)
            && !fraction.is_empty()
            && fraction.bytes().all(|byte| byte == b'0')
        {
            return Self::WholeDecimal;
        }
        // Spreadsheets write a sign; other ids with an E rarely have one.
        if let Some((mantissa, exponent)) = id.split_once(['E', 'e'])
            && mantissa.split('.').count() <= 2
            && mantissa.split('.').all(is_digits)
            && exponent.strip_prefix('+').is_some_and(is_digits)
        {
            return Self::Scientific;
        }
        Self::Text
    }
}

/// Whether an invoice number is a cancellation's, which begins with the letter and a digit.
fn is_cancellation(number: &str, letter: char) -> bool {
    let rest = number.strip_prefix(letter);
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

impl Rows {
    fn add(&mut self, line: u64, field: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            let field = field.chars().take(SHOWN_CHARS_MAX).collect();
            self.shown.push((line, field));
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.count == 1 { "row" } else { "rows" };
        write!(f, "in {} {rows} (", self.count)?;
        for (index, (line, field)) in self.shown.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}line {line}: {field}")?;
        }
        let and_more = self.count > self.shown.len() as u64;
        f.write_str(if and_more { ", ...)" } else { ")" })
    }
}

impl fmt::Display for IdColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invoice => "invoice number",
            Self::StockCode => "stock code",
            Self::Customer => "customer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Fields<'static> = Fields {
        invoice: "536365",
        stock_code: "85123A",
        date: "12/13/2010 8:26",
        customer: "17850",
    };

    fn judge(rows: &[Fields<'_>], dates: Option<DateOrder>) -> Result<Conventions, Error> {
        let mut survey = Survey::default();
        for (line, row) in (2..).zip(rows) {
            survey.add(line, *row);
        }
        survey.judge(dates)
    }

    fn dated(date: &'static str) -> Fields<'static> {
        Fields { date, ..ROW }
    }

    #[test]
    fn one_date_decides_the_order_of_all_dates() {
        for (dates, order) in [
            (["12/1/2010 8:26", "12/13/2010 8:26"], DateOrder::MonthFirst),
            (["1/12/2010 8:26", "13/12/2010 8:26"], DateOrder::DayFirst),
            // Neither date shows an order, and no order is needed.
            (
                ["12/12/2010 8:26", "99/99/2010 8:26"],
                DateOrder::MonthFirst,
            ),
        ] {
            let judged = judge(&dates.map(dated), None).unwrap();
            assert_eq!(judged.dates, order, "{dates:?}");
        }
    }

    #[test]
    fn dates_in_both_orders_are_an_error_that_shows_them() {
        let rows = ["12/13/2010 8:26", "12/1/2010 8:26", "13/12/2010 8:26"].map(dated);
        for wanted in [None, Some(DateOrder::DayFirst)] {
            assert_eq!(
                judge(&rows, wanted).unwrap_err().to_string(),
                "the file contradicts itself: dates have the month first in 1 row \
                 (line 2: 12/13/2010 8:26), but the day first in 1 row (line 4: 13/12/2010 8:26); \
                 correct the file"
            );
        }
    }

    #[test]
    fn dates_that_show_no_order_need_the_option() {
        let rows = [
            "12/1/2010 8:26",
            "12/2/2010 8:26",
            "12/3/2010 8:26",
            "12/4/2010 8:26",
        ];
        let rows = rows.map(dated);
        assert_eq!(
            judge(&rows, None).unwrap_err().to_string(),
            "every date can be read with the month or with the day first: in 4 rows \
             (line 2: 12/1/2010 8:26, line 3: 12/2/2010 8:26, line 4: 12/3/2010 8:26, ...); \
             choose with --dates month-first or --dates day-first"
        );
        for order in [DateOrder::MonthFirst, DateOrder::DayFirst] {
            assert_eq!(judge(&rows, Some(order)).unwrap().dates, order);
        }
    }

    #[test]
    fn a_requested_order_that_does_not_fit_the_dates_is_an_error() {
        let rows = [dated("13/12/2010 8:26")];
        assert_eq!(
            judge(&rows, Some(DateOrder::MonthFirst))
                .unwrap_err()
                .to_string(),
            "--dates month-first does not fit the dates in 1 row (line 2: 13/12/2010 8:26)"
        );
    }

    #[test]
    fn ids_written_as_decimals_are_read_as_whole_numbers() {
        let customer = "17850.0";
        let rows = [
            Fields { customer, ..ROW },
            Fields {
                customer: "",
                ..ROW
            },
        ];
        let conventions = judge(&rows, None).unwrap();
        assert_eq!(conventions.decimal_ids, [IdColumn::Customer]);
        assert_eq!(conventions.id(IdColumn::Customer, customer), "17850");
        assert_eq!(conventions.id(IdColumn::Customer, "A.0"), "A.0");
        assert_eq!(conventions.id(IdColumn::StockCode, "22423.0"), "22423.0");
        let invoice = "536365.00";
        let conventions = judge(&[Fields { invoice, ..ROW }], None).unwrap();
        assert_eq!(conventions.invoice(invoice), "536365");
    }

    #[test]
    fn whole_numbers_beside_decimals_are_an_error() {
        let decimal = |column| match column {
            IdColumn::Invoice => Fields {
                invoice: "536365.0",
                ..ROW
            },
            IdColumn::StockCode => Fields {
                stock_code: "22423.0",
                ..ROW
            },
            IdColumn::Customer => Fields {
                customer: "17850.0",
                ..ROW
            },
        };
        let plain = Fields {
            stock_code: "22423",
            ..ROW
        };
        for column in IdColumn::ALL {
            let error = judge(&[plain, decimal(column)], None)
                .unwrap_err()
                .to_string();
            let expected = format!("the file contradicts itself: the {column} is a whole number");
            assert!(
                error.starts_with(&expected),
                "no {expected:?} at the start of: {error}"
            );
            assert!(
                error.contains("but a decimal in 1 row (line 3: "),
                "no \"but a decimal in 1 row (line 3: \" in: {error}"
            );
        }
    }

    #[test]
    fn ids_in_scientific_notation_are_an_error() {
        for customer in ["1.785E+04", "2E+4", "1.7e+04"] {
            let error = judge(&[Fields { customer, ..ROW }], None)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("the customer is in scientific notation in 1 row (line 2: "),
                "no \"the customer is in scientific notation in 1 row (line 2: \" at the start of: {error}"
            );
        }
        for customer in ["12E4", "E+4", "1.2.3E+4", "A1E+4"] {
            let error = judge(&[Fields { customer, ..ROW }], None).err();
            assert!(error.is_none(), "an error from {customer}: {error:?}");
        }
    }

    #[test]
    fn a_lower_case_c_is_a_cancellation_unless_others_are_upper_case() {
        let lower = Fields {
            invoice: "c836379",
            ..ROW
        };
        let conventions = judge(&[ROW, lower], None).unwrap();
        assert!(conventions.lower_case_cancellations);
        assert_eq!(conventions.invoice("c836379"), "C836379");
        assert_eq!(conventions.invoice("coupon"), "coupon");
        let upper = Fields {
            invoice: "C536379",
            ..ROW
        };
        assert_eq!(
            judge(&[upper, lower], None).unwrap_err().to_string(),
            "the file contradicts itself: cancellations begin with C in 1 row (line 2: C536379), \
             but with c in 1 row (line 3: c836379); correct the file"
        );
    }
}
