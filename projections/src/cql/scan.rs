//! The rows of one build, looked up in another, and the rows that differ between the two.

/// The rows of one build, looked up in another.
pub(super) struct Scan<Row> {
    /// Number of rows.
    pub rows: u64,
    /// Number of rows that the other build lacks, or has with other values.
    different: u64,
    /// Number of rows that the other build lacks.
    missing: u64,
    /// The first different rows, with the other build's row.
    pairs: Vec<(Row, Option<Row>)>,
}

/// The rows that differ between two builds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined<Row> {
    /// Their number, including those beyond the limit.
    pub different: u64,
    /// The first different rows of the first build.
    pub left: Vec<Row>,
    /// The first different rows of the other build.
    pub right: Vec<Row>,
}

impl<Row: PartialEq> Scan<Row> {
    /// A scan before its first row.
    pub fn new() -> Self {
        Self {
            rows: 0,
            different: 0,
            missing: 0,
            pairs: Vec::new(),
        }
    }

    /// Adds a row, with the other build's row. Keeps the first `limit` different ones.
    pub fn add(&mut self, row: Row, found: Option<Row>, limit: usize) {
        self.rows += 1;
        if found.as_ref() == Some(&row) {
            return;
        }
        self.different += 1;
        self.missing += u64::from(found.is_none());
        if self.pairs.len() < limit {
            self.pairs.push((row, found));
        }
    }

    /// Joins the scan of the first build with that of the other one. A row that both builds have with different values
    /// is in both scans, and counts once.
    pub fn join(self, of_other: Self) -> Joined<Row> {
        let different = self.different + of_other.missing;
        let only_in_other = of_other.pairs.into_iter();
        let only_in_other = only_in_other.filter_map(|(row, found)| found.is_none().then_some(row));
        let (left, found): (Vec<_>, Vec<_>) = self.pairs.into_iter().unzip();
        Joined {
            different,
            left,
            right: found.into_iter().flatten().chain(only_in_other).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key and a value.
    type Row = (&'static str, i64);

    /// The scans of two builds: each row of one build, with the row of the other one.
    fn joined(limit: usize) -> Joined<Row> {
        let mut of_first = Scan::<Row>::new();
        let mut of_other = Scan::<Row>::new();
        for (scan, rows) in [
            (
                &mut of_first,
                [
                    (("A", 1), Some(("A", 1))),
                    (("B", 1), Some(("B", 2))),
                    (("C", 1), None),
                ],
            ),
            (
                &mut of_other,
                [
                    (("D", 1), None),
                    (("B", 2), Some(("B", 1))),
                    (("A", 1), Some(("A", 1))),
                ],
            ),
        ] {
            for (row, found) in rows {
                scan.add(row, found, limit);
            }
            assert_eq!(scan.rows, 3);
        }
        of_first.join(of_other)
    }

    #[test]
    fn a_row_that_both_builds_have_counts_once_and_a_row_of_either_build_is_found() {
        let expected = Joined {
            different: 3,
            left: vec![("B", 1), ("C", 1)],
            right: vec![("B", 2), ("D", 1)],
        };
        assert_eq!(joined(10), expected);
    }

    #[test]
    fn different_rows_beyond_the_limit_are_counted_but_not_kept() {
        let expected = Joined {
            different: 3,
            left: vec![("B", 1)],
            right: vec![("B", 2), ("D", 1)],
        };
        assert_eq!(joined(1), expected);
    }
}
