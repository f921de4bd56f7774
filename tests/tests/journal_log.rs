//! The log's conformance suite over Kafka: the promises that the simulated log keeps too.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use journal::{Kafka, Source, conformance};
use kafka::{Admin, Appender, KafkaSettings, Registry, RegistrySettings};
use schemas::topics::{Partitions, Retention, TopicSpec};

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
    admin.ensure(&[TOPIC]).await.unwrap();
    let log = Kafka {
        appender: Appender::new(&kafka).unwrap(),
        source: Source {
            admin,
            // The suite asks for no schema.
            registry: Registry::new(&RegistrySettings::default()).unwrap(),
            kafka,
        },
    };
    conformance::log::check(&log, TOPIC.name, 0).await;
}
