//! The log's conformance suite over Kafka. The simulated log passes the same suite.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use journal::{Checkpoint, Kafka, Reader, Source, conformance, log::ReadLog};
use kafka::{Admin, Appender, KafkaSettings, Registry, RegistrySettings};
use schemas::{
    orders,
    topics::{Partitions, Retention, TOPICS, TopicSpec},
};
use std::{path::PathBuf, time::Duration};
use system_tests::{
    create_topics,
    transaction::{End, OpenTransaction},
};
use tokio::time::timeout;

/// Longest time for one batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Only this test writes to it.
const TOPIC: TopicSpec = TopicSpec {
    name: "test.journal_log",
    key: "any",
    partitions: Partitions::Fixed(1),
    retention: Retention::Unlimited,
    schema: None,
};

#[tokio::test]
async fn the_log_of_kafka_conforms() {
    let kafka = KafkaSettings {
        brokers: std::env::var("DAYBOOK_KAFKA_BROKERS").unwrap(),
        ..KafkaSettings::default()
    };
    let admin = Admin::new(&kafka).unwrap();
    create_topics(&admin, &[TOPIC]).await.unwrap();
    let log = Kafka {
        appender: Appender::new(&kafka).unwrap(),
        source: Source {
            admin,
            // The suite needs no schema.
            registry: Registry::new(&RegistrySettings::default()).unwrap(),
            kafka,
        },
    };
    conformance::log::check(&log, TOPIC.name, 0).await;
}

#[tokio::test]
async fn a_reader_reaches_the_end_of_a_log_that_ends_with_control_records() {
    let journal = "journal.orders";
    let kafka = KafkaSettings {
        brokers: std::env::var("DAYBOOK_KAFKA_BROKERS").unwrap(),
        topic_prefix: format!("test-{}-reader.", std::process::id()),
        partitions: 1,
        ..KafkaSettings::default()
    };
    let python = PathBuf::from(std::env::var("DEV_PYTHON").unwrap());
    let source = Source {
        admin: Admin::new(&kafka).unwrap(),
        // Void records need no schema.
        registry: Registry::new(&RegistrySettings::default()).unwrap(),
        kafka,
    };
    let spec = TOPICS.into_iter().find(|topic| topic.name == journal);
    create_topics(&source.admin, &[spec.unwrap()])
        .await
        .unwrap();
    let start = Checkpoint::start(journal, 0);
    let mut reader: Reader<orders::Event> =
        Reader::open(&source, "test", vec![start]).await.unwrap();
    let mut read_to = 0;
    for end in [End::Commit, End::Abort] {
        let begun = OpenTransaction::begin(&python, &source.kafka, journal, 0, end).await;
        begun.unwrap().end().await.unwrap();
        let log_end = source.end(journal, 0).await.unwrap();
        assert_eq!(log_end, read_to + 2, "{end:?}");
        let mut void = 0;
        while read_to < log_end {
            let batch = timeout(BATCH_TIMEOUT, reader.next())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(batch.from, read_to, "{end:?}");
            assert_eq!(batch.commits.len(), 0, "{end:?}");
            void += batch.void;
            read_to = batch.checkpoint.next_offset;
        }
        assert_eq!((void, read_to), (1, log_end), "{end:?}");
    }
    source.admin.delete(&[journal]).await.unwrap();
}
