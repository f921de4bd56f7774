//! An event as JSON: its fields by the names of its Avro schema, with times as RFC 3339.

use schemas::{ContextEvent, Timestamp};
use serde_json::{Map, Value};
use std::{collections::HashMap, marker::PhantomData};

/// Writes the events of a context as JSON.
pub struct EventJson<E> {
    /// The fields of each record in the schema, by the record's name.
    records: HashMap<String, Vec<(String, Value)>>,
    event: PhantomData<fn(&E)>,
}

impl<E: ContextEvent> EventJson<E> {
    /// Reads the context's schema.
    pub fn new() -> Self {
        let schema = serde_json::from_str(&E::CONTEXT.schema());
        let mut records = HashMap::new();
        collect_records(&schema.expect("our own schema is JSON"), &mut records);
        Self {
            records,
            event: PhantomData,
        }
    }

    /// The event's fields; `Null` if a field can't be written as JSON.
    pub fn data(&self, event: &E) -> Value {
        let mut data = serde_json::to_value(event).unwrap_or_default();
        if let Value::Object(fields) = &mut data {
            // A derived `Serialize` of an enum wraps the fields in the variant's name.
            if fields.len() == 1
                && let Some(inner) = fields.get(event.name()).cloned()
            {
                data = inner;
            }
        }
        self.write_times(&mut data, &Value::from(event.name()));
        data
    }

    /// Replaces the times in a value. `kind` is the value's type in the schema.
    fn write_times(&self, value: &mut Value, kind: &Value) {
        match (value, kind) {
            (Value::Array(items), Value::Object(kind)) => {
                let kind = kind.get("items").unwrap_or(&Value::Null);
                items
                    .iter_mut()
                    .for_each(|item| self.write_times(item, kind));
            }
            (Value::Null, _) => {}
            // Every union in our schemas is an optional value.
            (value, Value::Array(branches)) => {
                if let Some(kind) = branches.iter().find(|branch| **branch != "null") {
                    self.write_times(value, kind);
                }
            }
            (Value::Object(fields), Value::String(name)) => self.write_times_of(fields, name),
            (Value::Object(fields), Value::Object(kind)) => {
                if let Some(name) = kind.get("name").and_then(Value::as_str) {
                    self.write_times_of(fields, name);
                }
            }
            (value, Value::Object(kind)) => {
                let is_time = kind
                    .get("logicalType")
                    .is_some_and(|kind| kind == "timestamp-micros");
                if let Some(microseconds) = value.as_i64().filter(|_| is_time) {
                    *value = Timestamp(microseconds).to_string().into();
                }
            }
            _ => {}
        }
    }

    fn write_times_of(&self, fields: &mut Map<String, Value>, record: &str) {
        for (name, kind) in self.records.get(record).into_iter().flatten() {
            if let Some(value) = fields.get_mut(name) {
                self.write_times(value, kind);
            }
        }
    }
}

/// Finds the records in a schema.
fn collect_records(schema: &Value, records: &mut HashMap<String, Vec<(String, Value)>>) {
    match schema {
        Value::Array(parts) => parts.iter().for_each(|part| collect_records(part, records)),
        Value::Object(parts) => {
            if let (Some(name), Some(Value::Array(fields))) = (
                parts.get("name").and_then(Value::as_str),
                parts.get("fields"),
            ) {
                let fields = fields.iter().filter_map(|field| {
                    let name = field["name"].as_str()?;
                    Some((name.to_owned(), field["type"].clone()))
                });
                records.insert(name.to_owned(), fields.collect());
            }
            parts
                .values()
                .for_each(|part| collect_records(part, records));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::{
        Currency, Quantity, Sku, UnitPrice,
        orders::{Event, OrderEvent, SaleImported, SaleLine},
    };
    use serde_json::json;

    #[test]
    fn an_event_has_the_names_of_its_schema_and_readable_times() {
        let line = SaleLine {
            sku: Sku::parse("A").unwrap(),
            description: None,
            quantity: Quantity(1),
            unit_price: UnitPrice(2_550_000),
            amount: 255,
        };
        let event = Event::Order(OrderEvent::SaleImported(SaleImported {
            invoice: "536365".into(),
            customer: None,
            country: "EIRE".into(),
            ordered_at: Timestamp::parse("2010-12-01T08:26:00Z").unwrap(),
            currency: Currency::GBP,
            total: 255,
            lines: vec![line],
        }));
        let data = EventJson::<Event>::new().data(&event);
        assert_eq!(data["ordered_at"], "2010-12-01T08:26:00Z");
        assert_eq!(data["currency"], "GBP");
        assert_eq!(data["lines"][0]["sku"], "A");
    }

    #[test]
    fn a_context_without_times_is_written_as_it_is() {
        let noted = journal::probe::Event::Noted(journal::probe::Noted { text: "a".into() });
        assert_eq!(EventJson::new().data(&noted), json!({"text": "a"}));
    }
}
