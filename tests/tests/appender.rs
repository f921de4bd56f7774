//! The appender and the publisher on a real broker. Each append is reported once, a reported record is at the
//! reported offset, and a fatal producer error affects only the appends in flight.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use kafka::{
    Admin, Appender, BoundedReader, KafkaSettings, Publisher, Report, appender::AppendError,
};
use schemas::topics::{Partitions, Retention, TopicSpec};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use system_tests::create_topics;
use tokio::{sync::mpsc::Receiver, time::timeout};

const TOPIC: TopicSpec = TopicSpec {
    name: "test.appender",
    key: "a number",
    partitions: Partitions::Fixed(1),
    retention: Retention::Unlimited,
    schema: None,
};
const PUBLISHED: TopicSpec = TopicSpec {
    name: "test.publisher",
    key: "a letter",
    ..TOPIC
};
/// Longest wait for one step.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Appends before the fatal error, and after it.
const APPENDS: usize = 500;
/// The number of the append to a failed producer.
const REFUSED: u64 = 1_000;
/// The number of the first append after it.
const AFTER: u64 = 1_001;

/// The outcomes of `count` appends, by number; fails if one is reported twice.
async fn outcomes(
    reports: &mut Receiver<Report>,
    count: usize,
) -> BTreeMap<u64, Result<i64, AppendError>> {
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < count {
        let report = timeout(TIMEOUT, reports.recv()).await.unwrap().unwrap();
        let number = report.number;
        let twice = outcomes.insert(number, report.result);
        assert!(twice.is_none(), "{number} is reported twice: {twice:?}");
    }
    outcomes
}

fn settings() -> KafkaSettings {
    KafkaSettings {
        brokers: std::env::var("DAYBOOK_KAFKA_BROKERS").unwrap(),
        ..KafkaSettings::default()
    }
}

#[tokio::test]
async fn a_producer_with_a_fatal_error_is_replaced_and_every_report_is_right() {
    let settings = settings();
    let admin = Admin::new(&settings).unwrap();
    create_topics(&admin, &[TOPIC]).await.unwrap();
    let appender = Appender::new(&settings).unwrap();
    let (producer, mut reports) = appender.partition_producer(TOPIC.name, 0, 4 * APPENDS);
    let append = |number: u64| producer.append(b"key", &number.to_be_bytes(), &[], number);

    for number in (0..).take(APPENDS) {
        append(number).unwrap();
    }
    appender.fail_fatally();
    let refused = append(REFUSED);
    assert!(
        matches!(refused, Err(AppendError::Unknown { .. })),
        "{refused:?} instead of Err(AppendError::Unknown)"
    );
    // The appends in flight are reported nevertheless, as delivered or unknown.
    let mut reported = outcomes(&mut reports, APPENDS).await;

    producer.heal().unwrap();
    for number in (AFTER..).take(APPENDS) {
        append(number).unwrap();
    }
    let after = outcomes(&mut reports, APPENDS).await;
    assert!(
        after.values().all(Result::is_ok),
        "an error among the reports: {after:?}"
    );
    // A healthy producer is not replaced.
    producer.heal().unwrap();
    reported.extend(after);

    let mut log = BTreeMap::new();
    let reader = BoundedReader::open(&settings, &admin, "test", TOPIC.name);
    let mut reader = reader.await.unwrap();
    while let Some(records) = reader.next().await.unwrap() {
        for record in records {
            let number = u64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
            log.insert(record.offset, number);
        }
    }
    for (number, outcome) in reported {
        if let Ok(offset) = outcome {
            assert_eq!(log.get(&offset), Some(&number), "at {offset}");
        }
    }
    let once: BTreeSet<_> = log.values().collect();
    assert_eq!(once.len(), log.len(), "a record is in the log twice");
    admin.delete(&[TOPIC.name]).await.unwrap();
}

#[tokio::test]
async fn a_publisher_continues_after_a_fatal_error_of_its_producer() {
    let settings = settings();
    let admin = Admin::new(&settings).unwrap();
    create_topics(&admin, &[PUBLISHED]).await.unwrap();
    let begin = admin.watermarks(PUBLISHED.name, 0).await.unwrap().high;
    let publisher = Publisher::new(&settings, "test").unwrap();
    let publish = async |publisher: &Publisher, key: &str| {
        let records = [(key.to_owned(), b"value".to_vec())];
        let published = publisher.publish(PUBLISHED.name, &records);
        timeout(TIMEOUT, published).await.unwrap().unwrap();
    };
    publish(&publisher, "a").await;
    let copy = publisher.clone();
    publisher.fail_fatally();
    for publisher in [&copy, &publisher] {
        publish(publisher, "b").await;
    }
    let end = admin.watermarks(PUBLISHED.name, 0).await.unwrap().high;
    assert_eq!(end - begin, 3);
    admin.delete(&[PUBLISHED.name]).await.unwrap();
}
