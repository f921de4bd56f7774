//! A field that is added to an event with a default: readers of the new version read records of the old version,
//! and readers of the old version read new records. The types are generated from `evolution/*.avsc`, like the types
//! of a context.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "helpers of tests fail by panicking; the generated types are fixtures"
)]

use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::{Schema, ser::SerializerConfig};

mod v1 {
    include!(concat!(env!("OUT_DIR"), "/evolution_v1.rs"));
}

mod v2 {
    use schemas::{Quantity, Timestamp};
    include!(concat!(env!("OUT_DIR"), "/evolution_v2.rs"));
}

/// The Avro schema of the event in a version.
fn schema(text: &str) -> Schema {
    let events: serde_json::Value = serde_json::from_str(text).unwrap();
    events[0].to_string().parse().unwrap()
}

fn v1_schema() -> Schema {
    schema(include_str!("evolution/v1.avsc"))
}

fn v2_schema() -> Schema {
    schema(include_str!("evolution/v2.avsc"))
}

/// Writes with a schema, and reads with the same one, as readers of a log do.
fn reread<T: DeserializeOwned>(record: &impl Serialize, schema: &Schema) -> T {
    let bytes = serde_avro_fast::to_datum_vec(record, &mut SerializerConfig::new(schema)).unwrap();
    serde_avro_fast::from_datum_slice(&bytes, schema).unwrap()
}

fn old() -> v1::ThingHappened {
    v1::ThingHappened {
        name: "a name".into(),
        part: v1::Part { size: 5 },
    }
}

/// The old record as a reader of the new version reads it.
fn completed() -> v2::ThingHappened {
    v2::ThingHappened {
        name: "a name".into(),
        part: v2::Part { size: 5, weight: 7 },
        number: -1,
        small: 2,
        flag: true,
        text: "a \"text\"".into(),
        bytes: vec![],
        list: vec![],
        map: [].into(),
        quantity: schemas::Quantity(3),
        moment: schemas::Timestamp(0),
        kind: v2::Kind::NotYet,
        note: None,
    }
}

#[test]
fn a_record_without_a_field_has_its_default() {
    let read: v2::ThingHappened = reread(&old(), &v1_schema());
    assert_eq!(read, completed());
}

#[test]
fn an_older_reader_ignores_a_field_that_it_does_not_know() {
    let written = v2::ThingHappened {
        number: 99,
        note: Some("new".into()),
        ..completed()
    };
    let read: v1::ThingHappened = reread(&written, &v2_schema());
    assert_eq!(read, old());
}

#[test]
fn a_new_record_keeps_its_values() {
    let written = v2::ThingHappened {
        list: vec![v2::Part { size: 1, weight: 2 }],
        bytes: vec![1, 2],
        kind: v2::Kind::Unknown,
        ..completed()
    };
    let read: v2::ThingHappened = reread(&written, &v2_schema());
    assert_eq!(read, written);
}

/// A symbol is stored by its position, and serde finds the variant by the symbol's text.
#[test]
fn every_symbol_of_an_enum_is_read_and_written_as_itself() {
    let events: serde_json::Value =
        serde_json::from_str(include_str!("evolution/v2.avsc")).unwrap();
    let fields = events[0]["fields"].as_array().unwrap();
    let kind = fields.iter().find(|field| field["name"] == "kind").unwrap();
    let symbols = kind["type"]["symbols"].as_array().unwrap();
    let schema: Schema = kind["type"].to_string().parse().unwrap();
    for (position, symbol) in symbols.iter().enumerate() {
        // A zigzag long.
        let stored = [u8::try_from(2 * position).unwrap()];
        let read: v2::Kind = serde_avro_fast::from_datum_slice(&stored, &schema).unwrap();
        assert_eq!(
            read == v2::Kind::Unknown,
            position == 0,
            "{symbol}: {read:?}"
        );
        let mut config = SerializerConfig::new(&schema);
        let written = serde_avro_fast::to_datum_vec(&read, &mut config).unwrap();
        assert_eq!(written, stored, "{symbol}: {read:?}");
    }
}
