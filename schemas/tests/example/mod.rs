//! An example of each event, made from the context's file alone.

use schemas::ContextEvent;
use serde::Serialize;
use serde_avro_fast::ser::SerializerConfig;
use std::collections::BTreeMap;

/// JSON pointer to the union of events in the schema of a context's commits.
pub const EVENTS: &str = "/fields/5/type/2/fields/10/type/items";

/// Writes the example by its schema alone, and reads it as our type.
pub fn from_example<E: ContextEvent>(context: &schemas::Context, example: Example) -> E {
    let mut schema: serde_json::Value = serde_json::from_str(&context.schema()).unwrap();
    let events = schema.pointer_mut(EVENTS);
    let schema: serde_avro_fast::Schema = events.unwrap().take().to_string().parse().unwrap();
    let bytes = serde_avro_fast::to_datum_vec(&example, &mut SerializerConfig::new(&schema));
    serde_avro_fast::from_datum_slice(&bytes.unwrap(), &schema).unwrap()
}

/// An event's fields, decoded without our own types.
pub struct Example {
    pub name: &'static str,
    pub fields: serde_json::Value,
}

impl Serialize for Example {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_variant("Event", 0, self.name, &self.fields)
    }
}

/// A value for a type of a context file: the field's `example`, otherwise a value of its type.
pub fn example(
    field: &serde_json::Value,
    avro: &serde_json::Value,
    definitions: &mut BTreeMap<String, serde_json::Value>,
) -> serde_json::Value {
    use serde_json::{Value, json};
    if let Some(example) = field.get("example") {
        return example.clone();
    }
    let kind = match avro {
        Value::String(name) => name.as_str(),
        Value::Array(branches) => return example(field, &branches[1], definitions),
        other => other["type"].as_str().unwrap(),
    };
    match kind {
        "string" => json!(format!("a {}", field["name"].as_str().unwrap_or("text"))),
        "long" | "int" => json!(1_234),
        "boolean" => json!(true),
        "bytes" => json!([1, 2]),
        "array" => json!([example(field, &avro["items"], definitions)]),
        "map" => json!({ "key": example(field, &avro["values"], definitions) }),
        "enum" => avro["symbols"][1].clone(),
        "record" => {
            let fields = avro["fields"].as_array().unwrap().iter().map(|field| {
                let name = field["name"].as_str().unwrap().to_owned();
                (name, example(field, &field["type"], definitions))
            });
            let value = Value::Object(fields.collect());
            definitions.insert(avro["name"].as_str().unwrap().into(), value.clone());
            value
        }
        defined => definitions[defined].clone(),
    }
}
