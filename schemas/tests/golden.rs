//! The contract's golden files: `golden/<topic>/v<n>/` holds the schema as it was registered and
//! records written with it. A change of a schema or of its encoding is a visible diff there; every
//! version stays readable and complete. `UPDATE_GOLDEN=1 cargo test -p schemas` writes the files that the
//! newest version lacks, and never changes one.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod example;
mod narrowing;
mod versions;

use example::{EVENTS, Example, example, from_example};
use narrowing::narrow;
use schemas::{
    Announcement, Body, BodyRef, Commit, CommitRef, ContextEvent, Currency, Decision, DecisionRef,
    Money, NoOp, Origin, Outcome, OutcomeKind, Quantity, Sku, Timestamp, UnitPrice,
    aggregates::{REVENUE_BY_COUNTRY_AVSC, RevenueByCountry},
    catalog, orders,
    topics::{TOPICS, ValueSchema},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::ser::SerializerConfig;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::PathBuf,
    sync::Once,
};
use versions::{check, folder, newest, schema_of, schema_text, updating};

/// Compares the record's encoding by the newest schema with its golden file. Then reads the golden files of all
/// versions from `since` on: the newest as this record, an older one as this record without the fields that it
/// lacks.
#[track_caller]
fn check_record<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    topic: &str,
    since: usize,
    name: &str,
    record: &T,
) {
    let newest = newest(topic);
    let schema = schema_of(topic, newest);
    let mut config = SerializerConfig::new(&schema);
    let written = serde_avro_fast::to_datum_vec(record, &mut config).unwrap();
    check(
        folder(topic, newest).join(format!("{name}.hex")),
        &format!("{}\n", hex::encode(&written)),
    );
    for version in since..=newest {
        let path = folder(topic, version).join(format!("{name}.hex"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let schema = schema_of(topic, version);
        let bytes = hex::decode(text.trim()).unwrap();
        let read: T = serde_avro_fast::from_datum_slice(&bytes, &schema).unwrap();
        if version == newest {
            assert_eq!(&read, record, "{topic} v{version} {name}");
            continue;
        }
        let newest_text = schema_text(topic, newest);
        let narrowed = narrow(&written, &newest_text, &schema_text(topic, version));
        let expected: T = serde_avro_fast::from_datum_slice(&narrowed, &schema).unwrap();
        assert_eq!(read, expected, "{topic} v{version} {name}");
    }
}

fn commit<E>(seq: i64, body: Body<E>) -> Commit<E> {
    let prev = if seq == 0 { [0; 32] } else { [0xa5; 32] };
    let recorded_at = Timestamp(1_291_191_960_000_000);
    Commit {
        prev,
        term: *b"term of 16 bytes",
        epoch: 3,
        seq,
        recorded_at,
        body,
    }
}

/// A decision about an aggregate of the events' type; without events, of the context's first type.
fn decision<E: ContextEvent>(events: Vec<E>, outcome: Option<Outcome>) -> Body<E> {
    let aggregate_type = events.first().map(ContextEvent::aggregate_type);
    Body::Decision(Decision {
        aggregate_type: aggregate_type.unwrap_or(E::AGGREGATE_TYPES[0]).into(),
        version: 7,
        command_id: [1; 16],
        command_hash: [2; 16],
        origin: Origin::Keyed,
        actor: "service:import".into(),
        correlation_id: [3; 16],
        causation_id: Some("cause".into()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        outcome,
        events,
    })
}

fn line() -> orders::SaleLine {
    orders::SaleLine {
        sku: Sku::parse("85123A").unwrap(),
        description: Some("CREAM CUPID \u{a3}1".into()),
        quantity: Quantity(-6),
        unit_price: UnitPrice(2_550_000),
        amount: -1530,
    }
}

/// Only one test writes the schemas, because another one could read an incomplete file.
static SCHEMAS: Once = Once::new();

#[test]
fn schemas_match_their_golden_files() {
    SCHEMAS.call_once_force(|_| check_schemas());
}

fn check_schemas() {
    for topic in TOPICS {
        let Some(schema) = topic.schema() else {
            continue;
        };
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        for version in 1..newest(topic.name) {
            schema_text(topic.name, version);
        }
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        check(
            folder(topic.name, newest(topic.name)).join("schema.avsc"),
            &text,
        );
    }
}

#[test]
fn frames_match_their_golden_files() {
    schemas_match_their_golden_files();
    let announcement = Body::<orders::Event>::Announcement(Announcement {
        rule_version: 1,
        partitions: 4,
        owner_url: "http://127.0.0.1:8080".into(),
    });
    check_record(
        "journal.orders",
        1,
        "announcement",
        &commit(0, announcement),
    );
    check_record(
        "journal.orders",
        1,
        "no_op",
        &commit(1, Body::<orders::Event>::NoOp(NoOp {})),
    );
    let refusal = Outcome {
        kind: OutcomeKind::Conflict,
        code: "NO".into(),
        detail: b"{\"available\":0}".to_vec(),
    };
    check_record(
        "journal.orders",
        1,
        "refusal",
        &commit(2, decision::<orders::Event>(vec![], Some(refusal))),
    );
}

/// An owner writes the bytes of the golden files.
#[test]
fn a_borrowed_commit_has_the_bytes_of_an_owned_one() {
    let schema = schema_of("journal.catalog", newest("journal.catalog"));
    let refusal = Outcome {
        kind: OutcomeKind::Conflict,
        code: "NO".into(),
        detail: b"{}".to_vec(),
    };
    let created = catalog::Event::Product(catalog::ProductEvent::ProductCreated(
        catalog::ProductCreated {
            sku: Sku::parse("A").unwrap(),
            description: String::new(),
        },
    ));
    for body in [
        decision(vec![created], None),
        decision(vec![], Some(refusal)),
        Body::NoOp(NoOp {}),
        Body::Announcement(Announcement {
            rule_version: 1,
            partitions: 4,
            owner_url: "http://here".into(),
        }),
    ] {
        let owned = commit(1, body);
        let borrowed = CommitRef {
            prev: owned.prev,
            term: owned.term,
            epoch: owned.epoch,
            seq: owned.seq,
            recorded_at: owned.recorded_at,
            body: borrowed(&owned.body),
        };
        let bytes = |record: &dyn Fn(&mut _) -> _| record(&mut SerializerConfig::new(&schema));
        assert_eq!(
            bytes(&|config| serde_avro_fast::to_datum_vec(&borrowed, config).unwrap()),
            bytes(&|config| serde_avro_fast::to_datum_vec(&owned, config).unwrap()),
        );
    }
}

fn borrowed<E>(body: &Body<E>) -> BodyRef<'_, E> {
    let decision = match body {
        Body::Announcement(announcement) => return BodyRef::Announcement(announcement),
        Body::NoOp(no_op) => return BodyRef::NoOp(no_op.clone()),
        Body::Decision(decision) => decision,
    };
    BodyRef::Decision(DecisionRef {
        aggregate_type: &decision.aggregate_type,
        version: decision.version,
        command_id: decision.command_id,
        command_hash: decision.command_hash,
        origin: decision.origin,
        actor: &decision.actor,
        correlation_id: decision.correlation_id,
        causation_id: decision.causation_id.as_deref(),
        traceparent: decision.traceparent.as_deref(),
        outcome: decision.outcome.as_ref(),
        events: &decision.events,
    })
}

#[test]
fn prev_and_term_have_fixed_positions() {
    schemas_match_their_golden_files();
    let schema = schema_of("journal.orders", newest("journal.orders"));
    let mut config = serde_avro_fast::ser::SerializerConfig::new(&schema);
    let no_op = commit(1, Body::<orders::Event>::NoOp(NoOp {}));
    let bytes = serde_avro_fast::to_datum_vec(&no_op, &mut config).unwrap();
    // The wire header of 5 bytes comes first, so `prev` begins at byte 5 of a record's value.
    assert_eq!(
        (&bytes[..32], &bytes[32..48]),
        (&no_op.prev[..], &no_op.term[..])
    );
    assert_eq!(&bytes[48..50], [6, 2], "epoch 3 and seq 1, zigzag");
}

#[test]
fn events_match_their_golden_files() {
    schemas_match_their_golden_files();
    let sale = orders::Event::Order(orders::OrderEvent::SaleImported(orders::SaleImported {
        invoice: "536365".into(),
        customer: None,
        country: "EIRE".into(),
        ordered_at: Timestamp(1_291_191_960_000_000),
        currency: Currency::GBP,
        lines: vec![
            line(),
            orders::SaleLine {
                description: None,
                ..line()
            },
        ],
        total: -3060,
    }));
    check_record(
        "journal.orders",
        1,
        "sale_imported",
        &commit(4, decision(vec![sale], None)),
    );
    let note = orders::Event::CreditNote(orders::CreditNoteEvent::CreditNoteIssued(
        orders::CreditNoteIssued {
            invoice: "C536365".into(),
            order_id: None,
            customer: Some("17850".into()),
            country: "EIRE".into(),
            issued_at: Timestamp(1_291_191_960_000_000),
            currency: Currency::GBP,
            lines: vec![line()],
            total: -1530,
        },
    ));
    check_record(
        "journal.orders",
        1,
        "credit_note_issued",
        &commit(5, decision(vec![note], None)),
    );
    let price = Money {
        amount: 1999,
        currency: Currency::GBP,
    };
    let created = catalog::ProductCreated {
        sku: Sku::parse("BANK CHARGES").unwrap(),
        description: String::new(),
    };
    let product: Vec<catalog::Event> = vec![
        catalog::ProductEvent::ProductCreated(created).into(),
        catalog::ProductEvent::ProductPriceChanged(catalog::ProductPriceChanged {
            old: None,
            new: price,
        })
        .into(),
        catalog::ProductEvent::ProductPriceChanged(catalog::ProductPriceChanged {
            old: Some(price),
            new: price,
        })
        .into(),
    ];
    check_record(
        "journal.catalog",
        1,
        "product",
        &commit(6, decision(product, None)),
    );
}

#[test]
fn results_match_their_golden_files() {
    schemas_match_their_golden_files();
    let result = RevenueByCountry {
        window_start: Timestamp(1_291_190_400_000_000),
        window_end: Timestamp(1_291_194_000_000_000),
        country: "United Kingdom".into(),
        currency: Currency::GBP,
        orders: 2,
        credit_notes: 1,
        lines: 14,
        revenue: -5,
    };
    assert_eq!(result.key(), "2010-12-01T08:00:00Z/United Kingdom/GBP");
    for topic in TOPICS {
        match topic.schema {
            Some(ValueSchema::Record(REVENUE_BY_COUNTRY_AVSC)) => {
                check_record(topic.name, 1, "result", &result);
            }
            Some(ValueSchema::Record(_)) => panic!("no golden record of {} is known", topic.name),
            Some(ValueSchema::Journal(_)) | None => {}
        }
    }
}

/// A topic that is added needs golden files, whether its records have a schema or not.
#[test]
fn every_topic_has_an_example_in_its_newest_version() {
    if updating() {
        return; // The other tests write the files at the same time.
    }
    for topic in TOPICS {
        let folder = folder(topic.name, newest(topic.name));
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let names = entries.map(|entry| entry.unwrap().file_name());
        let examples = names.filter(|name| name != "schema.avsc").count();
        assert_ne!(examples, 0, "{folder:?} has no example");
    }
}

#[test]
fn every_version_stays_readable_by_the_newest() {
    use apache_avro::{Schema, schema_compatibility::SchemaCompatibility};
    schemas_match_their_golden_files();
    for topic in TOPICS {
        let Some(newest) = topic.schema() else {
            continue;
        };
        let newest = Schema::parse_str(&newest).unwrap();
        for version in 1..=self::newest(topic.name) {
            let older = Schema::parse_str(&schema_text(topic.name, version)).unwrap();
            SchemaCompatibility::can_read(&older, &newest).unwrap();
        }
    }
}

/// Every event of every context has a golden record, made from the context's file alone: so a context that
/// is added is covered without a change here.
#[test]
fn every_event_has_a_golden_record() {
    macro_rules! check_events {
        ($event:ty) => {
            check_events_of::<$event>()
        };
    }
    schemas_match_their_golden_files();
    schemas::for_each_context!(check_events);
}

fn check_events_of<E: ContextEvent + PartialEq + Debug>() {
    let context = E::CONTEXT;
    assert_eq!(schemas::Context::of_topic(context.topic), Some(context));
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("avro")
        .join(format!("{}.avsc", context.name));
    let events: Vec<serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let names: BTreeSet<&str> = events
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        E::NAMES.iter().copied().collect(),
        "{}",
        context.name
    );
    let mut definitions = BTreeMap::new();
    for event in &events {
        let name = event["name"].as_str().unwrap();
        let fields = example(event, event, &mut definitions);
        let name = *E::NAMES.iter().find(|known| **known == name).unwrap();
        let event: E = from_example(context, Example { name, fields });
        assert_eq!(event.name(), name);
        let body = decision(vec![event], None);
        check_record(
            context.topic,
            first_with(context, name),
            name,
            &commit(1, body),
        );
    }
}

/// The first version whose schema has the event.
fn first_with(context: &schemas::Context, event: &str) -> usize {
    let has_event = |version: &usize| {
        let schema = schema_text(context.topic, *version);
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        let events = schema.pointer(EVENTS).unwrap();
        let mut events = events.as_array().unwrap().iter();
        events.any(|known| known["name"] == event)
    };
    let mut versions = 1..=newest(context.topic);
    versions.find(has_event).unwrap()
}

/// The entries of `journal.owners` are JSON, so that forwarding never waits for the registry.
#[test]
fn owner_entries_match_their_golden_files() {
    use schemas::{
        owners::{Entry, ProvedRecord, key, parse_key},
        topics::TopicPartition,
    };
    let term = "0123456789abcdef0123456789abcdef";
    let first = Entry::new(7, term, "http://127.0.0.1:8080");
    let second = Entry {
        proved: Some(Box::new(ProvedRecord {
            log_id: [1; 32],
            offset: 41,
            hash: [2; 32],
        })),
        hash_key: Some("0011223344556677".into()),
        ..first.clone()
    };
    let second = second.declining("the clock is wrong");
    let partition = TopicPartition {
        topic: "journal.orders",
        partition: 3,
    };
    let entries = [(1, first), (2, second)];
    assert_eq!(newest("journal.owners"), 2);
    for (version, entry) in entries {
        let path = folder("journal.owners", version).join("entry.txt");
        check(
            path.clone(),
            &format!("{}\n{}\n", key(partition), entry.to_json()),
        );
        let golden = fs::read_to_string(path).unwrap();
        let (read_key, read_value) = golden.trim_end().split_once('\n').unwrap();
        assert_eq!(parse_key(read_key.as_bytes()), Some(partition));
        assert_eq!(Entry::parse(read_value.as_bytes()), Some(entry));
    }
}
