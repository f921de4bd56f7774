//! The appender and the publisher on a real broker: each append is reported once, what is reported
//! stands where the report says, and a producer's end for good costs no more than what it had under way.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use kafka::{
    Admin, Appender, BatchConsumer, KafkaSettings, Publisher, Report, appender::AppendError,
};
use schemas::topics::{Retention, TopicSpec};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::mpsc::Receiver, time::timeout};

const TOPIC: TopicSpec = TopicSpec {
    name: "test.appender",
    key: "a number",
    partitions: 1,
    retention: Retention::Unlimited,
    subject: None,
};
const PUBLISHED: TopicSpec = TopicSpec {
    name: "test.publisher",
    key: "a letter",
    ..TOPIC
};
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Appended before the fatal error, and again after.
const APPENDS: usize = 500;
/// What is appended to a producer that ended bears this number.
const REFUSED: u64 = 1_000;
/// The first number after it.
const AFTER: u64 = 1_001;

/// The outcomes of so many appends, by number; fails if one is told twice.
async fn outcomes(
    reports: &mut Receiver<Report>,
    count: usize,
) -> BTreeMap<u64, Result<i64, AppendError>> {
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < count {
        let report = timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();
        let number = report.number;
        let twice = outcomes.insert(number, report.result);
        assert!(twice.is_none(), "{number} is told twice");
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
async fn a_producer_that_ended_for_good_is_replaced_and_nothing_is_said_that_is_not_so() {
    let settings = settings();
    let admin = Admin::new(&settings).unwrap();
    admin.ensure(&[TOPIC]).await.unwrap();
    let appender = Appender::new(&settings).unwrap();
    let (line, mut reports) = appender.line(TOPIC.name, 0, 4 * APPENDS);
    let append = |number: u64| line.append(b"key", &number.to_be_bytes(), &[], number);

    for number in (0..).take(APPENDS) {
        append(number).unwrap();
    }
    appender.fail_fatally();
    let refused = append(REFUSED);
    assert!(
        matches!(refused, Err(AppendError::Unknown { .. })),
        "{refused:?}"
    );
    // What was under way is reported all the same, delivered or unknown.
    let mut told = outcomes(&mut reports, APPENDS).await;

    line.mend().unwrap();
    for number in (AFTER..).take(APPENDS) {
        append(number).unwrap();
    }
    let after = outcomes(&mut reports, APPENDS).await;
    assert!(after.values().all(Result::is_ok), "{after:?}");
    // A producer that is well stays.
    line.mend().unwrap();
    told.extend(after);

    let end = admin.watermarks(TOPIC.name, 0).await.unwrap().high;
    let mut log = BTreeMap::new();
    let mut consumer = BatchConsumer::start(&settings, "test", TOPIC.name, &[(0, 0)]).unwrap();
    while log.last_key_value().is_none_or(|(last, _)| last + 1 < end) {
        for record in timeout(PATIENCE, consumer.next()).await.unwrap().unwrap() {
            let number = u64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap());
            log.insert(record.offset, number);
        }
    }
    for (number, outcome) in told {
        if let Ok(offset) = outcome {
            assert_eq!(log.get(&offset), Some(&number), "at {offset}");
        }
    }
    let once: BTreeSet<_> = log.values().collect();
    assert_eq!(once.len(), log.len(), "a record stands twice");
    admin.delete(&[TOPIC.name]).await.unwrap();
}

#[tokio::test]
async fn a_publisher_goes_on_after_its_producer_ended_for_good() {
    let settings = settings();
    let admin = Admin::new(&settings).unwrap();
    admin.ensure(&[PUBLISHED]).await.unwrap();
    let begin = admin.watermarks(PUBLISHED.name, 0).await.unwrap().high;
    let publisher = Publisher::new(&settings, "test").unwrap();
    let publish = async |publisher: &Publisher, key: &str| {
        let records = [(key.to_owned(), b"value".to_vec())];
        let published = publisher.publish(PUBLISHED.name, &records);
        timeout(PATIENCE, published).await.unwrap().unwrap();
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
