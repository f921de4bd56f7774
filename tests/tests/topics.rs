//! Topics on a real broker: with a prefix they are read and written by their logical names, and they keep the
//! number of partitions that they were created with.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use kafka::{
    Admin, Appender, BatchConsumer, BoundedReader, Fetch, Fetched, Hint, KafkaSettings, Membership,
    Publisher, Registry, RegistrySettings, Span, Subjects, Watchdog, admin::AdminError,
};
use schemas::topics::{OWNERS, Partitions, TOPICS, TopicSpec};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use system_tests::{
    create_topics,
    environment::Environment,
    python::python,
    transaction::{End, OpenTransaction},
};
use tokio::time::timeout;

/// Longest time for one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time that the tasks of a member may stall.
const STALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The settings of a deployment that only this run uses.
fn settings(test: &str) -> KafkaSettings {
    KafkaSettings {
        brokers: std::env::var("DAYBOOK_KAFKA_BROKERS").unwrap(),
        topic_prefix: format!("test-{}-{test}.", std::process::id()),
        ..KafkaSettings::default()
    }
}

/// The settings of a client without a prefix on the same cluster.
fn without_prefix(settings: &KafkaSettings) -> KafkaSettings {
    KafkaSettings {
        topic_prefix: String::new(),
        ..settings.clone()
    }
}

async fn within<T>(step: impl Future<Output = T>) -> T {
    timeout(STEP_TIMEOUT, step).await.unwrap()
}

/// Creates missing topics; returns their names.
async fn create(admin: &Admin, topics: &[TopicSpec]) -> Vec<&'static str> {
    create_topics(admin, topics).await.unwrap()
}

/// Holds a transaction with one record open on partition 0.
async fn begin(settings: &KafkaSettings, topic: &str, end: End) -> OpenTransaction {
    let python = PathBuf::from(std::env::var("DEV_PYTHON").unwrap());
    OpenTransaction::begin(&python, settings, topic, 0, end)
        .await
        .unwrap()
}

async fn read_all(settings: &KafkaSettings, admin: &Admin, topic: &str) -> Vec<(i32, Vec<u8>)> {
    let mut reader = BoundedReader::open(settings, admin, "test", topic)
        .await
        .unwrap();
    let mut values = Vec::new();
    while let Some(records) = within(reader.next()).await.unwrap() {
        let records = records.into_iter();
        values.extend(records.map(|record| (record.partition, record.value.unwrap().to_vec())));
    }
    values
}

#[tokio::test]
async fn a_topic_under_a_prefix_is_written_and_read_by_its_logical_name() {
    let settings = settings("names");
    let admin = Admin::new(&settings).unwrap();
    let journal = &TOPICS[0];
    create(&admin, &[*journal, OWNERS]).await;

    let appender = Appender::new(&settings).unwrap();
    let (producer, mut reports) = appender.partition_producer(journal.name, 1, 1);
    producer.append(b"key", b"appended", &[], 7).unwrap();
    let report = within(reports.recv()).await.unwrap();
    assert_eq!((report.number, report.result), (7, Ok(0)));
    let publisher = Publisher::new(&settings, "test").unwrap();
    let record = [("key".to_owned(), b"published".to_vec())];
    within(publisher.publish(OWNERS.name, &record))
        .await
        .unwrap();

    for (topic, expected) in [
        (journal.name, (1, b"appended".to_vec())),
        (OWNERS.name, (0, b"published".to_vec())),
    ] {
        assert_eq!(
            read_all(&settings, &admin, topic).await,
            std::slice::from_ref(&expected)
        );
        // The broker's name of the topic has the prefix.
        let bare = without_prefix(&settings);
        let bare_admin = Admin::new(&bare).unwrap();
        let prefixed = format!("{}{topic}", settings.topic_prefix);
        assert_eq!(read_all(&bare, &bare_admin, &prefixed).await, [expected]);
    }
    // Errors name the topic as the caller does.
    let missing = admin.partitions("journal.missing").await.unwrap_err();
    let AdminError::NotSettled { topic, .. } = &missing else {
        panic!("{missing}");
    };
    assert_eq!(topic, "journal.missing");
    admin.delete(&[journal.name, OWNERS.name]).await.unwrap();
}

#[tokio::test]
async fn the_ends_of_several_partitions_are_measured_at_once() {
    let settings = settings("ends");
    let admin = Admin::new(&settings).unwrap();
    let journal = &TOPICS[0];
    create(&admin, &[*journal, OWNERS]).await;
    let appender = Appender::new(&settings).unwrap();
    let (producer, mut reports) = appender.partition_producer(journal.name, 1, 1);
    producer.append(b"key", b"appended", &[], 7).unwrap();
    within(reports.recv()).await.unwrap().result.unwrap();
    let transaction = begin(&settings, OWNERS.name, End::Abort).await;

    let expected = [
        ((journal.name.to_owned(), 0), 0),
        ((journal.name.to_owned(), 1), 1),
        // The record of the open transaction.
        ((OWNERS.name.to_owned(), 0), 1),
    ];
    let expected = BTreeMap::from(expected);
    let ends = within(admin.ends(expected.keys().cloned().collect())).await;
    assert_eq!(ends.unwrap(), expected);
    transaction.end().await.unwrap();
    admin.delete(&[journal.name, OWNERS.name]).await.unwrap();
}

#[tokio::test]
async fn a_group_under_a_prefix_assigns_partitions_by_logical_names() {
    let settings = settings("group");
    let admin = Admin::new(&settings).unwrap();
    let journal = &TOPICS[0];
    create(&admin, &[*journal]).await;
    let watchdog = Watchdog::new(Duration::from_secs(60));
    let joined = Membership::join(&settings, "test", "a", &[journal.name], watchdog);
    let (membership, mut hints) = joined.unwrap();
    let assigned = hints.wait_for(|hint| hint.is_current && !hint.assignment.is_empty());
    let assigned = within(assigned).await.unwrap().assignment.clone();
    let all = (0..settings.partitions).map(|partition| (journal.name.to_owned(), partition));
    assert_eq!(assigned, all.collect());
    within(membership.leave()).await;
    admin.delete(&[journal.name]).await.unwrap();
}

/// The client's heartbeats continue while the runtime is blocked.
#[test]
fn a_member_whose_runtime_is_blocked_leaves_its_partitions_to_other_members() {
    let settings = settings("blocked");
    let topic = TOPICS[0].name;
    let join = |member: &str, watchdog| {
        Membership::join(&settings, "blocked", member, &[topic], watchdog).unwrap()
    };
    let all = usize::try_from(settings.partitions).unwrap();
    let has = |hint: &Hint, count| hint.is_current && hint.assignment.len() == count;
    let blocked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let other = tokio::runtime::Runtime::new().unwrap();
    let (admin, watchdog) = (Admin::new(&settings).unwrap(), Watchdog::new(STALL_TIMEOUT));
    blocked.block_on(create(&admin, &[TOPICS[0]]));
    let (membership, mut hints) = join("blocked", watchdog.clone());
    blocked.block_on(async {
        tokio::spawn(async move {
            loop {
                watchdog.feed();
                tokio::time::sleep(STALL_TIMEOUT / 8).await;
            }
        });
        within(hints.wait_for(|hint| has(hint, all))).await.unwrap();
        let (successor, mut successors) = join("successor", Watchdog::new(STEP_TIMEOUT));
        // This blocks the runtime, so nothing feeds the watchdog.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                other.block_on(async {
                    within(successors.wait_for(|hint| has(hint, all)))
                        .await
                        .unwrap();
                });
            });
            waiting.join().unwrap();
        });
        let hint = hints.borrow_and_update().clone();
        assert_eq!(hint.assignment.len(), 0, "{hint:?}");
        let error = hint.error.unwrap();
        assert!(error.contains("stalled"), "no \"stalled\" in: {error}");
        // The member continues, and gets partitions again.
        within(hints.wait_for(|hint| has(hint, all / 2)))
            .await
            .unwrap();
        within(successor.leave()).await;
        within(membership.leave()).await;
    });
    blocked.block_on(admin.delete(&[topic])).unwrap();
}

#[tokio::test]
async fn a_subject_has_the_prefix_of_its_topic() {
    let settings = settings("subject");
    let url = std::env::var("DAYBOOK_REGISTRY_URL").unwrap();
    let registry = Registry::new(&RegistrySettings {
        url: url.clone(),
        ..RegistrySettings::default()
    });
    let registry = registry.unwrap();
    let subjects = Subjects::new(registry.clone(), &settings);
    let topic = &TOPICS[0];
    let (subject, schema) = topic.subject().zip(topic.schema()).unwrap();
    let id = within(subjects.ensure(&subject, &schema)).await.unwrap();
    within(registry.schema(id)).await.unwrap();

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let prefixed = format!("{}{}-value", settings.topic_prefix, topic.name);
    let address = format!("{url}/subjects/{prefixed}");
    let versions = http.get(format!("{address}/versions")).send();
    let versions = within(versions).await.unwrap();
    assert_eq!(versions.text().await.unwrap(), "[1]", "{address}");
    for address in [address.clone(), format!("{address}?permanent=true")] {
        let deleted = within(http.delete(&address).send()).await.unwrap();
        let status = deleted.status();
        assert!(
            status.is_success(),
            "{address}: {status} instead of a success"
        );
    }
}

#[tokio::test]
async fn topics_have_the_partitions_that_they_were_created_with() {
    let own = [("journal.catalog".to_owned(), 3)];
    let settings = KafkaSettings {
        partitions: 6,
        partitions_by_topic: BTreeMap::from(own),
        ..settings("partitions")
    };
    let admin = Admin::new(&settings).unwrap();
    create(&admin, &TOPICS).await;
    let expected = |topic: &TopicSpec| match (topic.partitions, topic.name) {
        (Partitions::Fixed(partitions), _) => partitions,
        (Partitions::Setting, "journal.catalog") => 3,
        (Partitions::Setting, _) => 6,
    };
    let check = async |admin: &Admin| {
        let counts = admin.partition_counts(&TOPICS).await.unwrap();
        for topic in &TOPICS {
            assert_eq!(counts.of(topic.name), expected(topic), "{}", topic.name);
        }
    };
    check(&admin).await;

    // Another setting changes nothing about topics that exist.
    let other = KafkaSettings {
        partitions: 9,
        partitions_by_topic: BTreeMap::new(),
        ..settings
    };
    let admin = Admin::new(&other).unwrap();
    assert_eq!(create(&admin, &TOPICS).await, Vec::<&str>::new());
    check(&admin).await;
    // A number that differs from the number at start is a mismatch.
    let orders = TOPICS.iter().find(|topic| topic.name == "journal.orders");
    let mismatch = admin.check(orders.unwrap(), 9).await.unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "topic journal.orders has partitions = 6, it must be 9"
    );
    admin.delete(&TOPICS.map(|topic| topic.name)).await.unwrap();
}

#[tokio::test]
async fn a_foreign_client_finds_the_configuration_that_each_topic_was_created_with() {
    let settings = settings("configuration");
    let admin = Admin::new(&settings).unwrap();
    create(&admin, &TOPICS).await;
    for topic in &TOPICS {
        let found = configuration(&settings, topic.name).await;
        for (name, expected) in topic.config() {
            assert_eq!(found[name], expected, "{}: {name}", topic.name);
        }
        // The topic has one replica. With 2 here, as for topics with several replicas, it would accept no record.
        let replicas = &found["min.insync.replicas"];
        assert_eq!(replicas, "1", "{}: min.insync.replicas", topic.name);
    }
    admin.delete(&TOPICS.map(|topic| topic.name)).await.unwrap();
}

/// A topic's configuration by Kafka's names, as a client that is not ours reads it.
async fn configuration(settings: &KafkaSettings, topic: &str) -> BTreeMap<String, String> {
    let environment = Environment::read().unwrap();
    let name = format!("{}{topic}", settings.topic_prefix);
    let arguments = [settings.brokers.as_str(), &name];
    let described = python(&environment, "describe_topic.py", &arguments, STEP_TIMEOUT).await;
    serde_json::from_str(&described.unwrap()).unwrap()
}

#[tokio::test]
async fn a_bounded_read_ends_where_the_topic_did_at_its_start() {
    let settings = settings("bounded");
    let admin = Admin::new(&settings).unwrap();
    create(&admin, &[OWNERS]).await;
    let read = read_all(&settings, &admin, OWNERS.name).await;
    assert_eq!(read, Vec::<(i32, Vec<u8>)>::new());

    let publisher = Publisher::new(&settings, "test").unwrap();
    let record = |value: &str| [("key".to_owned(), value.as_bytes().to_vec())];
    for value in ["a", "b"] {
        within(publisher.publish(OWNERS.name, &record(value)))
            .await
            .unwrap();
    }
    let span = Span::measure(&admin, OWNERS.name, 0).await.unwrap();
    within(publisher.publish(OWNERS.name, &record("c")))
        .await
        .unwrap();
    let reader = BoundedReader::start(&settings, "test", OWNERS.name, &[span], Fetch::Small);
    let mut reader = reader.unwrap();
    let mut values = Vec::new();
    while let Some(records) = within(reader.next()).await.unwrap() {
        values.extend(records.into_iter().map(|record| record.value.unwrap()));
    }
    assert_eq!(values, ["a", "b"]);
    assert_eq!(reader.position(0), Some(span.end));
    admin.delete(&[OWNERS.name]).await.unwrap();
}

#[tokio::test]
async fn a_bounded_read_ends_after_a_control_record() {
    let settings = settings("control");
    let admin = Admin::new(&settings).unwrap();
    create(&admin, &[OWNERS]).await;
    let transaction = begin(&settings, OWNERS.name, End::Commit).await;
    transaction.end().await.unwrap();

    let reader = BoundedReader::open(&settings, &admin, "test", OWNERS.name);
    let mut reader = reader.await.unwrap();
    let records = within(reader.next()).await.unwrap().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].offset, 0);
    assert_eq!(within(reader.next()).await.unwrap(), None);
    // The control record has offset 1, and no consumer receives it.
    assert_eq!(reader.position(0), Some(2));
    admin.delete(&[OWNERS.name]).await.unwrap();
}

#[tokio::test]
async fn a_topic_is_measured_and_read_to_its_end_while_a_transaction_is_open_and_after_it() {
    for end in [End::Commit, End::Abort] {
        let settings = settings(&format!("open-{end:?}"));
        let admin = Admin::new(&settings).unwrap();
        create(&admin, &[OWNERS]).await;
        let publisher = Publisher::new(&settings, "test").unwrap();
        let record = |value: &str| [("key".to_owned(), value.as_bytes().to_vec())];
        let log_end = async || Span::measure(&admin, OWNERS.name, 0).await.unwrap().end;
        within(publisher.publish(OWNERS.name, &record("a")))
            .await
            .unwrap();
        let transaction = begin(&settings, OWNERS.name, end).await;
        within(publisher.publish(OWNERS.name, &record("b")))
            .await
            .unwrap();

        assert_eq!(log_end().await, 3, "{end:?}");
        let values = |read: Vec<(i32, Vec<u8>)>| -> Vec<String> {
            let values = read.into_iter().map(|(_, value)| value);
            values
                .map(|value| String::from_utf8(value).unwrap())
                .collect()
        };
        let all = ["a", "foreign", "b"];
        let read = read_all(&settings, &admin, OWNERS.name).await;
        assert_eq!(values(read), all, "{end:?}");

        // A reader that follows the log learns the end after the control record, but gets no record for it.
        let mut follower = BatchConsumer::start(&settings, "test", OWNERS.name, &[(0, 0)]).unwrap();
        let mut followed = 0;
        while followed < all.len() {
            followed += within(follower.next()).await.unwrap().len();
        }
        transaction.end().await.unwrap();
        assert_eq!(log_end().await, 4, "{end:?}");
        let Fetched { records, ends } = within(follower.next_fetched()).await.unwrap();
        assert!(records.is_empty(), "{records:?} instead of no records");
        let positions: Vec<_> = ends
            .iter()
            .map(|end| (end.partition, end.position))
            .collect();
        assert_eq!(positions, [(0, Some(4))], "{end:?}");
        let read = read_all(&settings, &admin, OWNERS.name).await;
        assert_eq!(values(read), all, "{end:?}");
        admin.delete(&[OWNERS.name]).await.unwrap();
    }
}
