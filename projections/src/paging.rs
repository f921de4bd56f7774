//! Pages: how long one is, and the cursor that says where the next begins.

use crate::order;
use axum::http::StatusCode;
use schemas::Timestamp;
use service::problem::Problem;

/// Rows of a page when nothing is asked for.
pub const LIMIT_DEFAULT: u16 = 20;
/// Most rows of a page.
pub const LIMIT_MAX: u16 = 100;
/// Longest text that a query may compare with, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// First byte of a cursor's bytes: their layout.
const LAYOUT: u8 = 1;
/// Longest id in a cursor, in bytes; a TypeID has at most 90.
const ID_BYTES_MAX: usize = 90;

/// The last row of a page; the next one begins after it. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The row's first sort key, newest first.
    pub ordered_at: Timestamp,
    /// Its second, greatest first.
    pub id: String,
}

impl Cursor {
    /// The text that a client hands back.
    pub fn encode(&self) -> String {
        let mut bytes = vec![LAYOUT];
        bytes.extend(self.ordered_at.0.to_be_bytes());
        bytes.extend(self.id.as_bytes());
        hex::encode(bytes)
    }

    /// Reads any text; `None` for what [`Cursor::encode`] never gives.
    pub fn decode(text: &str) -> Option<Self> {
        let length_max = 2 * (1 + size_of::<i64>() + ID_BYTES_MAX);
        if text.len() > length_max {
            return None;
        }
        let bytes = hex::decode(text).ok()?;
        let (layout, rest) = bytes.split_first()?;
        let (ordered_at, id) = rest.split_first_chunk()?;
        let ordered_at = Timestamp(i64::from_be_bytes(*ordered_at));
        let id = std::str::from_utf8(id).ok()?.to_owned();
        let known = *layout == LAYOUT
            && order::is_in_calendar(ordered_at)
            && !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        known.then_some(Self { ordered_at, id })
    }
}

/// Reads a query's cursor.
pub fn cursor(text: Option<&str>) -> Result<Option<Cursor>, Problem> {
    text.map(|text| {
        Cursor::decode(text).ok_or_else(|| {
            let detail = "the cursor is none that an earlier page gave";
            Problem::new(StatusCode::BAD_REQUEST, "INVALID_CURSOR", detail)
        })
    })
    .transpose()
}

/// Reads a query's limit.
pub fn limit(asked: Option<u16>) -> Result<u16, Problem> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        limit => {
            let detail = format!("limit is {limit}; it must be 1 to {LIMIT_MAX}");
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "INVALID_LIMIT",
                detail,
            ))
        }
    }
}

/// Refuses text that no row can hold: Postgres has no NUL, and keys are short.
pub fn text<'a>(name: &str, text: &'a str) -> Result<&'a str, Problem> {
    if text.len() <= TEXT_BYTES_MAX && !text.contains('\0') {
        return Ok(text);
    }
    let detail = format!("{name} must have at most {TEXT_BYTES_MAX} bytes, none of them zero");
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "INVALID_TEXT",
        detail,
    ))
}

/// Reads a point in time.
pub fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|error| {
        let detail = format!("{name}: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_TIME", detail)
    })
}

/// Cuts rows that were read one beyond `limit` down to a page, and says where the next one begins.
pub fn cut<Row>(
    mut rows: Vec<Row>,
    limit: u16,
    place: impl Fn(&Row) -> Cursor,
) -> (Vec<Row>, Option<String>) {
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let next = rows.last().filter(|_| more).map(|row| place(row).encode());
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_says_where_the_next_begins_unless_it_is_the_last() {
        let place = |id: &char| Cursor {
            ordered_at: Timestamp(1),
            id: id.to_string(),
        };
        let (page, next) = cut(vec!['a', 'b', 'c'], 2, place);
        assert_eq!((page, next), (vec!['a', 'b'], Some(place(&'b').encode())));
        assert_eq!(cut(vec!['a', 'b'], 2, place), (vec!['a', 'b'], None));
        assert_eq!(cut(vec![], 2, place), (vec![], None));
    }

    #[test]
    fn limits_are_1_to_100() {
        assert_eq!(limit(None), Ok(20));
        assert_eq!(limit(Some(100)), Ok(100));
        for refused in [0, 101] {
            assert_eq!(limit(Some(refused)).unwrap_err().code, "INVALID_LIMIT");
        }
    }

    #[test]
    fn refuses_what_no_row_can_hold() {
        assert_eq!(text("customer", "17850"), Ok("17850"));
        for refused in ["a\0b", &"a".repeat(1_025)] {
            assert_eq!(text("customer", refused).unwrap_err().code, "INVALID_TEXT");
        }
        assert_eq!(time("from", "today").unwrap_err().code, "INVALID_TIME");
    }

    #[test]
    fn times_beyond_the_database_are_no_cursor() {
        let cursor = Cursor {
            ordered_at: Timestamp(i64::MAX),
            id: "order_1".into(),
        };
        assert_eq!(Cursor::decode(&cursor.encode()), None);
    }

    proptest! {
        #[test]
        fn cursors_come_back(micros in 0..4_000_000_000_000_000_i64, id in "[!-~]{1,90}") {
            let cursor = Cursor { ordered_at: Timestamp(micros), id };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in ".*") {
            let _ = Cursor::decode(&text);
        }

        #[test]
        fn any_bytes_are_a_cursor_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let text = hex::encode(bytes);
            if let Some(cursor) = Cursor::decode(&text) {
                prop_assert_eq!(cursor.encode(), text);
            }
        }
    }
}
