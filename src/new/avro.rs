//! A context's events in `schemas/avro/`, which are hand-written JSON.

use super::{edit::EditError, names::ContextName};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The file of a context's events.
pub fn path(context: &ContextName) -> String {
    format!("schemas/avro/{}.avsc", context.as_str())
}

/// The event records of a context file.
pub fn events(text: &str) -> Result<Vec<Value>> {
    serde_json::from_str(text).context("the file must be a JSON array of event records")
}

/// Adds an event record at the end of the file.
pub fn append(text: &str, event: &str) -> Result<String, EditError> {
    let end = text.trim_end().strip_suffix(']').map(str::trim_end);
    let end = end.filter(|end| end.ends_with('}'));
    let end = end.ok_or_else(|| EditError::Missing { anchor: "]".into() })?;
    Ok(format!("{end},\n{}\n]\n", event.trim_end()))
}

/// An example of an event with a value for each field, as JSON: `{"ProductCreated": {"sku": ..}}`.
pub fn example(event: &Value) -> Result<Value> {
    let name = event["name"].as_str().context("an event has no name")?;
    let mut definitions = Map::new();
    let fields = example_of(event, event, &mut definitions)
        .with_context(|| format!("event {name} has a type without an example"))?;
    Ok(json!({ name: fields }))
}

/// An example value of a field: its `example`, or a value of its type.
fn example_of(field: &Value, avro: &Value, definitions: &mut Map<String, Value>) -> Option<Value> {
    if let Some(example) = field.get("example") {
        return Some(example.clone());
    }
    let kind = match avro {
        Value::String(name) => name.as_str(),
        // Unions are optional values.
        Value::Array(_) => return Some(Value::Null),
        other => other["type"].as_str()?,
    };
    Some(match kind {
        "string" => json!(format!("a {}", field["name"].as_str().unwrap_or("text"))),
        "long" | "int" => json!(1),
        "boolean" => json!(true),
        "bytes" | "array" => json!([]),
        "map" => json!({}),
        "enum" => avro["symbols"][1].clone(),
        "record" => {
            let mut value = Map::new();
            for field in avro["fields"].as_array()? {
                let name = field["name"].as_str()?.to_owned();
                value.insert(name, example_of(field, &field["type"], definitions)?);
            }
            definitions.insert(
                avro["name"].as_str()?.to_owned(),
                Value::Object(value.clone()),
            );
            Value::Object(value)
        }
        defined => definitions.get(defined)?.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_appended_to_the_array() {
        let text = "[\n  {\n    \"name\": \"A\"\n  }\n]\n";
        let appended = append(text, "  {\n    \"name\": \"B\"\n  }\n").unwrap();
        let names: Vec<Value> = events(&appended).unwrap();
        assert_eq!(names, [json!({ "name": "A" }), json!({ "name": "B" })]);
        assert_eq!(
            append("{}", "x"),
            Err(EditError::Missing { anchor: "]".into() })
        );
    }

    #[test]
    fn an_example_has_a_value_for_each_field() {
        let event = json!({ "type": "record", "name": "E", "fields": [
            { "name": "title", "type": "string" },
            { "name": "at", "type": { "type": "long", "logicalType": "timestamp-micros" } },
            { "name": "currency", "type": "string", "example": "GBP" },
            { "name": "old", "type": ["null", "long"] },
            { "name": "total", "type": { "type": "record", "name": "Money", "fields": [
                { "name": "amount", "type": "long" }] } },
            { "name": "paid", "type": "Money" }] });
        let fields = json!({ "title": "a title", "at": 1, "currency": "GBP", "old": null,
            "total": { "amount": 1 }, "paid": { "amount": 1 } });
        assert_eq!(example(&event).unwrap(), json!({ "E": fields }));
    }
}
