//! Golden files of the copy format: `golden/copy/v<n>/copy.jsonl` is a copy in version n of the format.
//!
//! Each is read, verified, and exported again byte for byte, so the test fails if the format changes. The files
//! do not follow later schemas: copies are kept for years, and every version stays readable.
//! `UPDATE_GOLDEN=1 cargo test -p audit` writes the newest version if it is absent, and never changes one.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use audit::{
    copy::{CopyReader, CopyWriter, Line, PartitionEnd, Read},
    model::{Entry, Model, Verdict},
};
use std::{fs, path::PathBuf, sync::LazyLock};
use support::{Journal, PARTITION_COUNT, copy, problems, text, verify};

/// The newest version of the format. Raise it together with the format.
const NEWEST: u32 = 1;
/// End offset of the partition with records in the golden copies.
const END_OFFSET: i64 = 16;

fn path(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/copy/v{version}/copy.jsonl"))
}

/// The newest golden file. With `UPDATE_GOLDEN`, it is written first if it is absent.
static NEWEST_COPY: LazyLock<String> = LazyLock::new(|| {
    let path = path(NEWEST);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, new_copy()).unwrap();
    }
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
});

/// Every kind of line, with null and empty keys and values.
fn new_copy() -> String {
    let mut journal = Journal::with_every_kind();
    for (key, value) in [
        (None, Some(&b"value without a key"[..])),
        (Some(&b"order_1"[..]), None),
        (Some(b""), Some(b"")),
    ] {
        journal.push_entry(|offset| Entry {
            offset,
            timestamp_ms: -1,
            key,
            value,
        });
    }
    String::from_utf8(copy(&journal.records)).unwrap()
}

fn lines(copy: &str) -> Result<Vec<Line>, String> {
    let reader = CopyReader::new(copy.as_bytes());
    let (mut reader, header) = reader.map_err(|error| error.to_string())?;
    let mut lines = vec![Line::Header(header)];
    while let Some(read) = reader.next_line().map_err(|error| error.to_string())? {
        match read {
            Read::Line(line) => lines.push(line),
            Read::Unreadable(reason) => return Err(format!("line {}: {reason}", reader.line())),
        }
    }
    Ok(lines)
}

/// Exports the records and schemas of a copy a second time. Header, checks and end lines are computed.
fn exported_again(lines: &[Line]) -> String {
    let Some(Line::Header(header)) = lines.first() else {
        panic!("{:?} instead of a header", lines.first());
    };
    let mut writer = CopyWriter::new(Vec::new(), header.topics.clone()).unwrap();
    let mut partition_end = None;
    for line in &lines[1..] {
        match line {
            Line::Schema(schema) => {
                let text = Some(schema.schema.as_str());
                writer.schema(schema.schema_id, text).unwrap();
            }
            Line::Record(record) => {
                let end = partition_end.get_or_insert_with(|| {
                    PartitionEnd::new(&record.topic, record.partition, END_OFFSET)
                });
                writer.record(end.add(record.entry()).0).unwrap();
            }
            Line::End(end) => {
                let empty = || PartitionEnd::new(&end.topic, end.partition, end.end_offset);
                writer
                    .end(&partition_end.take().unwrap_or_else(empty))
                    .unwrap();
            }
            Line::Header(_) => panic!("a second header: {line:?}"),
        }
    }
    String::from_utf8(writer.into_inner()).unwrap()
}

#[test]
fn the_newest_copy_is_read_and_exported_again_byte_for_byte() {
    assert_eq!(
        exported_again(&lines(&NEWEST_COPY).unwrap()),
        *NEWEST_COPY,
        "the copy format has changed: raise its version and NEWEST"
    );
}

#[test]
fn every_version_is_read_and_verified() {
    for version in 1..=NEWEST {
        let report = match version {
            NEWEST => verify(NEWEST_COPY.as_bytes()),
            version => verify(&fs::read(path(version)).unwrap()),
        };
        assert_eq!(problems(&report), Vec::<&str>::new(), "{}", text(&report));
        assert_eq!(
            report.summary(),
            format!("verified 7 commits in {PARTITION_COUNT} partitions, 0 findings"),
            "version {version}"
        );
    }
}

#[test]
fn the_newest_copy_has_every_kind_of_line_and_verdict() {
    let lines = lines(&NEWEST_COPY).unwrap();
    let count = |is_kind: fn(&Line) -> bool| lines.iter().filter(|line| is_kind(line)).count();
    assert_eq!(count(|line| matches!(line, Line::Header(_))), 1);
    assert_eq!(count(|line| matches!(line, Line::Schema(_))), 1);
    assert_eq!(
        count(|line| matches!(line, Line::End(_))),
        usize::try_from(PARTITION_COUNT).unwrap()
    );
    let mut model = Model::new(support::TOPIC, support::PARTITION);
    let (mut valid, mut void) = (0, 0);
    for line in &lines {
        let Line::Record(record) = line else { continue };
        match model.judge(record.entry()).unwrap() {
            Verdict::Valid(_) => valid += 1,
            Verdict::Void(_) => void += 1,
        }
    }
    assert_eq!((valid, void), (10, 6));
}
