//! Pages of lists: their limit, and the cursor of the next page.

use crate::recorded::is_in_calendar;
use axum::http::StatusCode;
use schemas::{ContentHash, Timestamp, text::normalised};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service::problem::Problem;

/// Rows of a page if the query has no `limit`.
pub const LIMIT_DEFAULT: u16 = 20;
/// Maximum number of rows of a page.
pub const LIMIT_MAX: u16 = 100;
/// Longest text in a filter, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// First byte of a cursor: its layout's version. The list's name and the sort key follow as postcard, and the
/// whole cursor is encoded as hex.
const LAYOUT: u8 = 2;
/// Longest cursor, in characters.
const CURSOR_LENGTH_MAX: usize = 1_024;
/// Bytes of the hash of a list's filters.
const FILTER_BYTES: usize = 8;
/// Longest id in a cursor, in bytes; a TypeID has at most 90.
const ID_BYTES_MAX: usize = 90;

/// The sort key of a list. A cursor holds the key of its page's last row.
pub trait SortKey: Serialize + DeserializeOwned {
    /// Whether the list's query accepts the key. A client may alter a cursor.
    fn is_valid(&self) -> bool;
}

/// The sort key of lists with the newest order first; orders with the same time are sorted by id, greatest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestFirst {
    /// Microseconds since 1970.
    pub ordered_at: Timestamp,
    /// The order's id.
    pub order_id: String,
}

impl SortKey for NewestFirst {
    fn is_valid(&self) -> bool {
        is_in_calendar(self.ordered_at)
            && (1..=ID_BYTES_MAX).contains(&self.order_id.len())
            && self.order_id.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// The reason why a text is not a cursor of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The text is not a cursor that an answer contained.
    #[error("invalid cursor: pass the `next_cursor` of the previous page unchanged")]
    Invalid,
    /// The cursor comes from another list, or from another version of this list.
    #[error(
        "cursor of another list: pass the `next_cursor` of the previous page with the same filters"
    )]
    OtherList,
}

/// The name of a list: its view and a hash of its filters. A cursor is valid only in its own list, because it would
/// skip rows in any other list.
pub fn list(view: &str, filters: &impl Serialize) -> String {
    let hash = ContentHash::of(filters);
    format!("{view}/{}", hex::encode(&hash.as_bytes()[..FILTER_BYTES]))
}

/// The cursor of the page after a row. Opaque to clients.
pub fn encode<Key: SortKey>(list: &str, last: &Key) -> String {
    let bytes = postcard::to_extend(&(list, last), vec![LAYOUT])
        .expect("numbers and texts can always be serialized to memory");
    hex::encode(bytes)
}

/// Decodes a cursor.
///
/// # Errors
/// [`CursorError`] for a text that [`encode`] never returns for this list.
pub fn decode<Key: SortKey>(list: &str, text: &str) -> Result<Key, CursorError> {
    if text.len() > CURSOR_LENGTH_MAX {
        return Err(CursorError::Invalid);
    }
    let bytes = hex::decode(text).map_err(|_| CursorError::Invalid)?;
    let Some((&LAYOUT, rest)) = bytes.split_first() else {
        return Err(CursorError::Invalid);
    };
    let (found, rest): (&str, _) =
        postcard::take_from_bytes(rest).map_err(|_| CursorError::Invalid)?;
    if found != list {
        return Err(CursorError::OtherList);
    }
    let key: Key = postcard::from_bytes(rest).map_err(|_| CursorError::Invalid)?;
    // postcard also decodes encodings that it never writes, such as a longer encoding of a number.
    match key.is_valid() && encode(list, &key) == text {
        true => Ok(key),
        false => Err(CursorError::Invalid),
    }
}

/// Reads a query's cursor.
///
/// # Errors
/// A 400 with the code INVALID_CURSOR.
pub fn cursor<Key: SortKey>(list: &str, text: Option<&str>) -> Result<Option<Key>, Problem> {
    let refuse = |error: CursorError| {
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_CURSOR", error.to_string())
    };
    text.map(|text| decode(list, text).map_err(refuse))
        .transpose()
}

/// Reads a query's limit.
///
/// # Errors
/// A 400 with the code INVALID_LIMIT for 0, or for a number above [`LIMIT_MAX`].
pub fn limit(asked: Option<u16>) -> Result<u16, Problem> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        limit => {
            let detail = format!("limit is {limit}; pass a number from 1 to {LIMIT_MAX}");
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "INVALID_LIMIT",
                detail,
            ))
        }
    }
}

/// Normalises the text of a filter in the same way as texts in rows.
///
/// # Errors
/// A 400 for a text that no row can contain: Postgres can't store a NUL, and texts in rows are short.
pub fn text(name: &str, text: &str) -> Result<String, Problem> {
    if text.len() <= TEXT_BYTES_MAX && !text.contains('\0') {
        return Ok(normalised(text));
    }
    let detail = format!("{name}: pass at most {TEXT_BYTES_MAX} bytes, without U+0000");
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "INVALID_TEXT",
        detail,
    ))
}

/// Parses a timestamp.
///
/// # Errors
/// A 400 with the code INVALID_TIME for a text that is not RFC 3339.
pub fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|error| {
        let detail = format!("{name}: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "INVALID_TIME", detail)
    })
}

/// Cuts up to `limit` + 1 rows down to a page. Also returns the cursor of the next page if more rows exist.
pub fn cut<Row, Key: SortKey>(
    list: &str,
    mut rows: Vec<Row>,
    limit: u16,
    key: impl Fn(&Row) -> Key,
) -> (Vec<Row>, Option<String>) {
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let last = rows.last().filter(|_| more);
    let next = last.map(|row| encode(list, &key(row)));
    (rows, next)
}

/// Compares a list's cursor with its golden file, and decodes it again.
#[cfg(test)]
#[track_caller]
pub fn check_golden<Key: SortKey + PartialEq + std::fmt::Debug>(list: &str, key: &Key) {
    let text = encode(list, key);
    crate::golden::check_file(&format!("cursors/v{LAYOUT}/{list}.hex"), &text);
    assert_eq!(decode::<Key>(list, &text).as_ref(), Ok(key));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(micros: i64, order_id: &str) -> NewestFirst {
        NewestFirst {
            ordered_at: Timestamp(micros),
            order_id: order_id.into(),
        }
    }

    #[test]
    fn a_page_has_the_cursor_of_the_next_one_unless_it_is_the_last() {
        let key = |id: &char| key(1, &id.to_string());
        let (page, next) = cut("list", vec!['a', 'b', 'c'], 2, key);
        assert_eq!(page, ['a', 'b']);
        assert_eq!(next, Some(encode("list", &key(&'b'))));
        assert_eq!(cut("list", vec!['a', 'b'], 2, key), (vec!['a', 'b'], None));
        assert_eq!(cut("list", vec![], 2, key), (vec![], None));
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
    fn text_is_normalised_and_refused_if_no_row_can_hold_it() {
        assert_eq!(text("customer", " 17850"), Ok("17850".into()));
        assert_eq!(
            text("country", "Re\u{301}union"),
            text("country", "R\u{e9}union")
        );
        for refused in ["a\0b", &"a".repeat(1_025)] {
            assert_eq!(text("customer", refused).unwrap_err().code, "INVALID_TEXT");
        }
        assert_eq!(time("from", "today").unwrap_err().code, "INVALID_TIME");
    }

    #[test]
    fn a_list_is_named_after_its_view_and_filters() {
        let of = |view, country: Option<&str>| list(view, &(country, None::<&str>));
        assert_eq!(of("orders_v2", Some("EIRE")), of("orders_v2", Some("EIRE")));
        assert_ne!(of("orders_v2", Some("EIRE")), of("orders_v2", None));
        assert_ne!(of("orders_v2", None), of("orders_by_customer_v2", None));
        let other_field = list("orders_v2", &(None::<&str>, Some("EIRE")));
        assert_ne!(of("orders_v2", Some("EIRE")), other_field);
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let text = encode("orders_v2", &key(1, "order_1"));
        let decoded = decode::<NewestFirst>("orders_by_customer_v2", &text);
        assert_eq!(decoded, Err(CursorError::OtherList));
    }

    #[test]
    fn a_cursor_with_a_time_beyond_the_calendar_is_refused() {
        let text = encode("list", &key(i64::MAX, "order_1"));
        assert_eq!(
            decode::<NewestFirst>("list", &text),
            Err(CursorError::Invalid)
        );
    }

    #[test]
    fn a_cursor_of_an_earlier_layout_is_refused() {
        let text = encode("list", &key(1, "order_1"));
        let earlier = text.replacen("02", "01", 1);
        assert_eq!(
            decode::<NewestFirst>("list", &earlier),
            Err(CursorError::Invalid)
        );
    }

    proptest! {
        #[test]
        fn a_cursor_decodes_to_its_key(
            micros in 0..4_000_000_000_000_000_i64, id in "[!-~]{1,90}", list in "[a-z_0-9]{1,48}",
        ) {
            let key = key(micros, &id);
            prop_assert_eq!(decode(&list, &encode(&list, &key)), Ok(key));
        }

        #[test]
        fn any_text_decodes_or_is_refused(text in ".*") {
            let _ = decode::<NewestFirst>("list", &text);
        }

        #[test]
        fn only_bytes_that_encode_returns_can_be_decoded(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            // Begins like a valid cursor; otherwise the decoder would rarely reach the key.
            let beginning = encode("list", &key(0, "o"));
            let text = format!("{}{}", &beginning[..12], hex::encode(bytes));
            if let Ok(key) = decode::<NewestFirst>("list", &text) {
                prop_assert_eq!(encode("list", &key), text);
            }
        }
    }
}
