//! Records of the newest version as earlier software would have written them.

use apache_avro::{Schema, reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};

/// A record of the newest version without the fields that an older version's schema lacks, as older software
/// would have written it.
pub fn narrow(bytes: &[u8], newest: &str, older: &str) -> Vec<u8> {
    let schema = |text| Schema::parse_str(text).unwrap();
    let (newest, older) = (schema(newest), schema(older));
    let reader = GenericDatumReader::builder(&newest).reader_schema(&older);
    let value = reader.build().unwrap().read_value(&mut &*bytes).unwrap();
    let writer = GenericDatumWriter::builder(&older).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

/// Older bytes are compared without the fields that were added later.
#[test]
fn a_narrowed_record_lacks_the_fields_that_the_older_schema_lacks() {
    let schema = |fields: serde_json::Value| {
        serde_json::json!({"type": "record", "name": "R", "fields": fields}).to_string()
    };
    let a = serde_json::json!({"name": "a", "type": "long"});
    let b = serde_json::json!({"name": "b", "type": "string", "default": ""});
    let (older, newest) = (
        schema(serde_json::json!([a])),
        schema(serde_json::json!([a, b])),
    );
    // A long of 5, then a string of one byte.
    assert_eq!(narrow(&[10, 2, b'x'], &newest, &older), [10]);
}
