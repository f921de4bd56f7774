//! The headers: positions of a request, and the lag of an answer.

use crate::problem::Problem;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use std::collections::BTreeMap;

/// Request header: the positions to wait for.
pub const DAYBOOK_POSITION: HeaderName = HeaderName::from_static("daybook-position");
/// Response header: `true` if the view has not applied every position of the request.
pub const DAYBOOK_STALE: HeaderName = HeaderName::from_static("daybook-stale");
/// Response header of a stale answer: how far the view is behind.
pub const DAYBOOK_LAG: HeaderName = HeaderName::from_static("daybook-lag");

/// Maximum number of positions of one request: a client that passes on all that it has seen needs one per partition.
const POSITIONS_MAX: usize = 1_024;

/// The greatest offset of each partition in a request, by topic and partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(pub BTreeMap<(String, i32), i64>);

impl Positions {
    /// Reads the headers of a request, each with one or several positions separated by commas. If two positions
    /// are in one partition, the one with the greater offset counts, because it includes the earlier position.
    ///
    /// # Errors
    /// 400: a malformed position, or too many.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        let mut count = 0;
        for value in headers.get_all(DAYBOOK_POSITION) {
            let text = value.to_str().map_err(|_| malformed("bytes"))?;
            for part in text.split(',').map(str::trim) {
                // A list in an HTTP header may have empty elements.
                if part.is_empty() {
                    continue;
                }
                count += 1;
                if count > POSITIONS_MAX {
                    return Err(invalid(format!(
                        "Daybook-Position: send at most {POSITIONS_MAX} positions, one per partition"
                    )));
                }
                let (topic, partition, offset) = parse(part).ok_or_else(|| malformed(part))?;
                let latest = found.entry((topic.to_owned(), partition)).or_insert(offset);
                *latest = offset.max(*latest);
            }
        }
        Ok(Self(found))
    }
}

/// Parses `<topic>/<partition>@<offset>`, with both numbers in their shortest form.
fn parse(text: &str) -> Option<(&str, i32, i64)> {
    let (place, offset) = text.split_once('@')?;
    let (topic, partition) = place.split_once('/')?;
    let is_short = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number && (digits == "0" || !digits.starts_with('0'))
    };
    if topic.is_empty() || !is_short(partition) || !is_short(offset) {
        return None;
    }
    let offset: i64 = offset.parse().ok()?;
    // The offset after it must be a number, too.
    (offset < i64::MAX).then_some((topic, partition.parse().ok()?, offset))
}

fn malformed(part: &str) -> Problem {
    invalid(format!(
        "Daybook-Position: {part:?} is not a position; send the Daybook-Position of a command's answer unchanged, such \
         as journal.orders/3@1234, or several separated by commas"
    ))
}

/// The problem for positions that the service can't wait for.
pub(super) fn invalid(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "POSITION_INVALID", detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    /// A partition of a topic, and the offset in it.
    type Position = ((String, i32), i64);

    fn read(lines: &[&str]) -> Result<Vec<Position>, Problem> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(DAYBOOK_POSITION, HeaderValue::from_str(line).unwrap());
        }
        Ok(Positions::of(&headers)?.0.into_iter().collect())
    }

    #[test]
    fn the_latest_position_of_each_partition_counts() {
        let found = read(&[
            "journal.orders/3@12, journal.catalog/0@0",
            "journal.orders/3@7,,journal.orders/10@99,",
        ]);
        let expected = [
            (("journal.catalog".to_owned(), 0), 0),
            (("journal.orders".to_owned(), 3), 12),
            (("journal.orders".to_owned(), 10), 99),
        ];
        assert_eq!(found, Ok(expected.to_vec()));
        assert_eq!(read(&[]), Ok(Vec::new()));
    }

    #[test]
    fn a_malformed_position_is_refused_with_an_example() {
        let beyond = format!("journal.orders/0@{}", i64::MAX);
        for bad in [
            "3",
            "journal.orders",
            "journal.orders/3",
            "journal.orders@3",
            "/3@1",
            "journal.orders/@1",
            "journal.orders/3@",
            "journal.orders/-1@1",
            "journal.orders/3@-1",
            "journal.orders/+3@1",
            "journal.orders/03@1",
            "journal.orders/3@01",
            "journal.orders/3@1#0",
            "journal.orders/3 @1",
            "journal.orders/99999999999@1",
            "journal.orders/3@1 journal.orders/2@1",
            &beyond,
        ] {
            let problem = read(&[bad]).unwrap_err();
            assert_eq!(
                (problem.status.as_u16(), problem.code),
                (400, "POSITION_INVALID"),
                "{bad}"
            );
            assert!(
                problem.detail.contains("journal.orders/3@1234"),
                "{bad}: no \"journal.orders/3@1234\" in: {}",
                problem.detail
            );
        }
    }

    #[test]
    fn too_many_positions_are_refused() {
        let line = |count: usize| vec!["journal.orders/0@1"; count].join(",");
        read(&[&line(POSITIONS_MAX)]).unwrap();
        let problem = read(&[&line(POSITIONS_MAX), "journal.orders/0@1"]).unwrap_err();
        assert_eq!(problem.code, "POSITION_INVALID");
    }
}
