//! The conformance suite of a [`Log`]: the promises on which readers and an owner's proof rely.
//!
//! The suite needs a healthy log and a partition to which no other program writes. The partition may already
//! have records.

use crate::log::{Log, PartitionAppender, RecordStream};
use kafka::{ConsumerError, Record, Report};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

/// Longest time for one report or one batch of records.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A check that no record arrives waits for this time.
const SILENCE: Duration = Duration::from_millis(200);
/// Number of records that each check appends.
const RECORDS: u64 = 20;
/// Maximum number of unreported records of a check.
const IN_FLIGHT_MAX: usize = 64;

/// A partition of a log.
struct Partition<'a, L> {
    log: &'a L,
    topic: &'a str,
    number: i32,
}

/// Runs every check on one partition of a log.
///
/// # Panics
/// The log breaks its contract.
pub async fn check<L: Log>(log: &L, topic: &str, partition: i32) {
    let partition = Partition {
        log,
        topic,
        number: partition,
    };
    partition.reports_name_consecutive_offsets().await;
    partition
        .a_stream_gives_the_records_from_its_start_on()
        .await;
    partition.a_stream_waits_for_records_and_loses_none().await;
    partition.two_appenders_never_share_an_offset().await;
    partition
        .recovering_a_healthy_appender_changes_nothing()
        .await;
}

impl<L: Log> Partition<'_, L> {
    async fn end(&self) -> i64 {
        let end = self.log.end(self.topic, self.number).await;
        end.expect("a healthy log has an end")
    }

    fn open(&self) -> (L::Appender, mpsc::Receiver<Report>) {
        self.log.appender(self.topic, self.number, IN_FLIGHT_MAX)
    }

    fn read_from(&self, offset: i64) -> L::Records {
        let stream = self
            .log
            .records("conformance", self.topic, &[(self.number, offset)]);
        stream.expect("a healthy log can be read")
    }

    /// Appends a record whose value is `text`.
    fn append(appender: &L::Appender, text: &str, number: u64) {
        let headers: [(&str, &[u8]); 1] = [("name", b"value")];
        let appended = appender.append(b"key", text.as_bytes(), &headers, number);
        appended.expect("a healthy log takes records");
    }

    async fn reports_name_consecutive_offsets(&self) {
        let before = self.end().await;
        let (appender, mut reports) = self.open();
        for number in 0..RECORDS {
            Self::append(&appender, &format!("record {number}"), number);
        }
        for (number, offset) in (0..RECORDS).zip(before..) {
            let report = next_report(&mut reports).await;
            assert_eq!(
                report.number, number,
                "reports come in the order of appends"
            );
            let reported = report.result.expect("a healthy log keeps records");
            assert_eq!(
                reported, offset,
                "record {number} follows the one before it"
            );
        }
        let appended = i64::try_from(RECORDS).expect("a few records");
        assert_eq!(self.end().await, before + appended);
    }

    async fn a_stream_gives_the_records_from_its_start_on(&self) {
        let end = self.end().await;
        let appended = i64::try_from(RECORDS).expect("a few records");
        for start in [end - appended, end - appended / 2, end - 1] {
            let mut stream = self.read_from(start);
            let mut expected = start;
            while expected < end {
                for record in next_records(&mut stream).await {
                    assert_eq!(record.partition, self.number);
                    assert_eq!(record.offset, expected, "offsets have no gap");
                    let text = format!("record {}", expected - (end - appended));
                    assert_eq!(record.value.as_deref(), Some(text.as_bytes()));
                    assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
                    let time = record.timestamp_ms;
                    assert!(time > 0, "the timestamp is {time} instead of above 0");
                    expected += 1;
                }
            }
            assert_eq!(expected, end, "the end has no record after it");
        }
    }

    async fn a_stream_waits_for_records_and_loses_none(&self) {
        let end = self.end().await;
        let mut stream = self.read_from(end);
        let (appender, mut reports) = self.open();
        for number in 0..3 {
            // A cancelled wait must not lose later records.
            let early = timeout(SILENCE, stream.next()).await;
            assert!(
                !matches!(early, Ok(Ok(_))),
                "{early:?}, although no record was appended yet"
            );
            Self::append(&appender, "later", number);
            let report = next_report(&mut reports).await;
            let offset = report.result.expect("a healthy log keeps records");
            let records = next_records(&mut stream).await;
            let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
            assert_eq!(offsets, [offset]);
        }
    }

    async fn two_appenders_never_share_an_offset(&self) {
        let before = self.end().await;
        let (one, mut reports_of_one) = self.open();
        let (other, mut reports_of_other) = self.open();
        for number in 0..RECORDS {
            Self::append(&one, "one", number);
            Self::append(&other, "other", number);
        }
        let mut offsets = Vec::new();
        for reports in [&mut reports_of_one, &mut reports_of_other] {
            let mut last = before - 1;
            for number in 0..RECORDS {
                let report = next_report(reports).await;
                assert_eq!(report.number, number, "an appender gets its own reports");
                let offset = report.result.expect("a healthy log keeps records");
                assert!(
                    offset > last,
                    "{offset} after {last}: one appender's records keep their order"
                );
                last = offset;
                offsets.push(offset);
            }
        }
        offsets.sort_unstable();
        let expected: Vec<i64> = (before..self.end().await).collect();
        assert_eq!(offsets, expected);
    }

    async fn recovering_a_healthy_appender_changes_nothing(&self) {
        let before = self.end().await;
        let (appender, mut reports) = self.open();
        Self::append(&appender, "before", 1);
        appender.recover().expect("a healthy appender recovers");
        Self::append(&appender, "after", 2);
        for (number, offset) in (1..=2).zip(before..) {
            let report = next_report(&mut reports).await;
            let reported = report.result.expect("a healthy log keeps records");
            assert_eq!((report.number, reported), (number, offset));
        }
    }
}

async fn next_report(reports: &mut mpsc::Receiver<Report>) -> Report {
    let report = timeout(TIMEOUT, reports.recv()).await;
    let report = report.expect("every append is reported in time");
    report.expect("the channel of reports stays open")
}

/// The next records, after any number of transient errors.
async fn next_records(stream: &mut impl RecordStream) -> Vec<Record> {
    let records = async {
        loop {
            match stream.next().await {
                Ok(fetched) => {
                    let ends = &fetched.ends;
                    assert!(
                        ends.is_empty(),
                        "{ends:?}, although every offset has a record"
                    );
                    return fetched.records;
                }
                Err(error) if error.is_transient() => {}
                Err(error) => fail(&error),
            }
        }
    };
    let records = timeout(TIMEOUT, records).await;
    let records = records.expect("records that exist are read in time");
    assert!(!records.is_empty(), "a stream gives at least one record");
    records
}

fn fail(error: &ConsumerError) -> ! {
    panic!("a healthy log has no permanent error: {error}")
}
