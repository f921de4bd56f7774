//! Reads the event records of a context file. Every rule that a file breaks is an error that names the
//! record and the field.

use serde_json::{Map, Value};

/// Our own attributes in a context file; they are removed from the registered schema.
const OWN_ATTRIBUTES: [&str; 3] = ["aggregate", "rust", "example"];

/// Records that the crate defines by hand, because they have behaviour.
const KNOWN_RECORDS: [&str; 1] = ["Money"];

/// Rust types of the crate that a field may name with the attribute `rust`.
const KNOWN_TYPES: [&str; 4] = ["Sku", "Currency", "Quantity", "UnitPrice"];

/// One context file.
pub struct Context {
    /// The file's name without its ending, such as `orders`.
    pub name: String,
    /// Aggregates in the order in which the file first names them, such as `CreditNote`.
    pub aggregates: Vec<Aggregate>,
    /// Records and enums, each once, in the order of their definitions.
    pub types: Vec<NamedType>,
    /// The JSON array of the events' Avro schemas, without attributes of ours.
    pub schema: String,
}

/// An aggregate with its events.
pub struct Aggregate {
    /// Such as `CreditNote`; in lower case it is the aggregate type that keys begin with.
    pub name: String,
    /// Names of its event records.
    pub events: Vec<String>,
}

/// A definition that becomes a Rust type.
pub enum NamedType {
    /// A record.
    Record {
        name: String,
        doc: String,
        fields: Vec<Field>,
    },
    /// An enum; its first symbol must be UNKNOWN.
    Enum {
        name: String,
        doc: String,
        symbols: Vec<String>,
    },
}

/// A field of a record.
pub struct Field {
    pub name: String,
    pub doc: String,
    pub rust_type: String,
    /// Whether the value is bytes, which needs a serde attribute.
    pub is_bytes: bool,
    /// The Rust expression of the value in records that were written before the field existed. An optional
    /// field needs none: serde reads it as `None`.
    pub default: Option<String>,
}

impl Context {
    /// Reads the events of the context `name`.
    pub fn read(name: &str, events: Vec<Value>) -> Result<Self, String> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(format!(
                "a context's name is lower-case letters, not {name:?}"
            ));
        }
        let mut context = Self {
            name: name.to_owned(),
            aggregates: Vec::new(),
            types: Vec::new(),
            schema: String::new(),
        };
        for event in &events {
            let record = event.as_object().ok_or("an event must be a record")?;
            let event_name = text(record, "name")?;
            let aggregate = text(record, "aggregate")
                .map_err(|_| format!("{event_name}: add \"aggregate\": the aggregate's name"))?;
            context.add_event(aggregate, event_name)?;
            context.rust_type(event, event_name)?;
        }
        let mut schema = Value::Array(events);
        remove_own_attributes(&mut schema);
        context.schema = schema.to_string();
        Ok(context)
    }

    fn add_event(&mut self, aggregate: &str, event: &str) -> Result<(), String> {
        let is_camel_case = aggregate.starts_with(|c: char| c.is_ascii_uppercase())
            && aggregate.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_camel_case {
            return Err(format!(
                "{event}: aggregate {aggregate:?} must be CamelCase letters"
            ));
        }
        let known = self
            .aggregates
            .iter_mut()
            .find(|known| known.name.eq_ignore_ascii_case(aggregate));
        match known {
            Some(known) if known.name != aggregate => {
                return Err(format!(
                    "{event}: aggregates {aggregate} and {} would have the same stored type",
                    known.name
                ));
            }
            Some(known) => known.events.push(event.to_owned()),
            None => self.aggregates.push(Aggregate {
                name: aggregate.to_owned(),
                events: vec![event.to_owned()],
            }),
        }
        Ok(())
    }

    /// The Rust type of an Avro type at `location`; definitions are added to [`Context::types`].
    fn rust_type(&mut self, avro: &Value, location: &str) -> Result<String, String> {
        match avro {
            Value::String(name) => self.type_by_name(name, location),
            Value::Array(branches) => self.optional(branches, location),
            Value::Object(object) => self.complex(object, location),
            other => Err(format!("{location}: {other} is not an Avro type")),
        }
    }

    fn type_by_name(&self, name: &str, location: &str) -> Result<String, String> {
        let rust = match name {
            "string" => "String",
            "long" => "i64",
            "int" => "i32",
            "boolean" => "bool",
            "bytes" => "Vec<u8>",
            "float" | "double" => {
                return Err(format!(
                    "{location}: floating-point numbers are not allowed in a contract"
                ));
            }
            name if KNOWN_RECORDS.contains(&name) => name,
            name if self.types.iter().any(|known| known.name() == name) => name,
            name => {
                return Err(format!(
                    "{location}: type {name:?} is not defined before its use"
                ));
            }
        };
        Ok(rust.to_owned())
    }

    fn optional(&mut self, branches: &[Value], location: &str) -> Result<String, String> {
        match branches {
            [Value::String(null), value] if null == "null" => {
                Ok(format!("Option<{}>", self.rust_type(value, location)?))
            }
            _ => Err(format!("{location}: a union must be [\"null\", something]")),
        }
    }

    fn complex(&mut self, object: &Map<String, Value>, location: &str) -> Result<String, String> {
        if let Ok(rust) = text(object, "rust") {
            return match KNOWN_TYPES.contains(&rust) {
                true => Ok(rust.to_owned()),
                false => Err(format!(
                    "{location}: rust type {rust:?} is not one of {KNOWN_TYPES:?}"
                )),
            };
        }
        match (text(object, "type")?, text(object, "logicalType").ok()) {
            ("long", Some("timestamp-micros")) => Ok("Timestamp".to_owned()),
            (_, Some(logical)) => Err(format!(
                "{location}: logical type {logical:?} is not supported"
            )),
            ("array", None) => {
                let items = object.get("items").ok_or(format!("{location}: no items"))?;
                Ok(format!("Vec<{}>", self.rust_type(items, location)?))
            }
            ("map", None) => {
                let values = object
                    .get("values")
                    .ok_or(format!("{location}: no values"))?;
                let values = self.rust_type(values, location)?;
                Ok(format!("std::collections::BTreeMap<String, {values}>"))
            }
            ("record", None) => self.record(object),
            ("enum", None) => self.enumeration(object),
            (simple, None) => self.type_by_name(simple, location),
        }
    }

    fn record(&mut self, object: &Map<String, Value>) -> Result<String, String> {
        let name = text(object, "name")?.to_owned();
        if KNOWN_RECORDS.contains(&name.as_str()) {
            return Ok(name);
        }
        let doc = doc(object, &name)?;
        let raw = object.get("fields").and_then(Value::as_array);
        let mut fields = Vec::new();
        for field in raw.ok_or(format!("{name}: no fields"))? {
            let field = field
                .as_object()
                .ok_or(format!("{name}: a field must be an object"))?;
            let field_name = text(field, "name")?;
            let location = format!("{name}.{field_name}");
            let avro = field.get("type").ok_or(format!("{location}: no type"))?;
            let rust_type = self.rust_type(avro, &location)?;
            let default = self.default(field.get("default"), &rust_type, &location)?;
            fields.push(Field {
                name: field_name.to_owned(),
                doc: self::doc(field, &location)?,
                is_bytes: rust_type == "Vec<u8>",
                rust_type,
                default,
            });
        }
        self.define(NamedType::Record {
            name: name.clone(),
            doc,
            fields,
        })?;
        Ok(name)
    }

    /// A field's default as Rust; see [`Field::default`].
    fn default(
        &self,
        avro: Option<&Value>,
        rust_type: &str,
        location: &str,
    ) -> Result<Option<String>, String> {
        if rust_type.starts_with("Option<") {
            return match avro {
                Some(Value::Null) => Ok(None),
                _ => Err(format!(
                    "{location}: an optional field must have \"default\": null"
                )),
            };
        }
        let Some(avro) = avro else {
            return Ok(None);
        };
        let is_empty_map = avro.as_object().is_some_and(Map::is_empty);
        let is_empty_array = avro.as_array().is_some_and(Vec::is_empty);
        let default = match (rust_type, avro) {
            ("i64", Value::Number(number)) => number.as_i64().map(|number| number.to_string()),
            ("i32", Value::Number(number)) => {
                let number = number
                    .as_i64()
                    .and_then(|number| i32::try_from(number).ok());
                number.map(|number| number.to_string())
            }
            ("Timestamp" | "Quantity" | "UnitPrice", Value::Number(number)) => {
                let number = number.as_i64();
                number.map(|number| format!("{rust_type}({number})"))
            }
            ("bool", Value::Bool(value)) => Some(value.to_string()),
            ("String", Value::String(text)) => Some(format!("{text:?}.to_owned()")),
            ("Vec<u8>", Value::String(text)) if text.is_empty() => Some("Vec::new()".to_owned()),
            (list, _) if list.starts_with("Vec<") && is_empty_array => {
                Some("Vec::new()".to_owned())
            }
            (map, _) if map.contains("BTreeMap<") && is_empty_map => {
                Some("std::collections::BTreeMap::new()".to_owned())
            }
            (name, Value::String(symbol)) => self.symbol(name, symbol),
            _ => None,
        };
        match default {
            Some(default) => Ok(Some(default)),
            None => Err(format!(
                "{location}: {avro} is not a default that a {rust_type} may have; make the field optional: \
                 [\"null\", ..] with \"default\": null"
            )),
        }
    }

    /// A symbol of an enum as Rust.
    fn symbol(&self, name: &str, symbol: &str) -> Option<String> {
        self.types.iter().find_map(|defined| match defined {
            NamedType::Enum {
                name: known,
                symbols,
                ..
            } if known == name && symbols.iter().any(|known| known == symbol) => {
                Some(format!("{name}::{}", camel_case(symbol)))
            }
            NamedType::Enum { .. } | NamedType::Record { .. } => None,
        })
    }

    fn enumeration(&mut self, object: &Map<String, Value>) -> Result<String, String> {
        let name = text(object, "name")?.to_owned();
        let doc = doc(object, &name)?;
        let symbols = object.get("symbols").and_then(Value::as_array);
        let symbols = symbols.ok_or(format!("{name}: no symbols"))?.iter();
        let symbols: Vec<String> = symbols
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let has_default = object.get("default").and_then(Value::as_str) == Some("UNKNOWN");
        if !has_default || symbols.first().map(String::as_str) != Some("UNKNOWN") {
            return Err(format!(
                "{name}: an enum's first symbol and its default must be UNKNOWN"
            ));
        }
        for (index, symbol) in symbols.iter().enumerate() {
            let rust = camel_case(symbol);
            if !rust.starts_with(|first: char| first.is_ascii_alphabetic()) {
                return Err(format!(
                    "{name}: symbol {symbol:?} must begin with a letter"
                ));
            }
            let mut earlier = symbols[..index].iter();
            if let Some(other) = earlier.find(|other| camel_case(other) == rust) {
                return Err(format!(
                    "{name}: symbols {other:?} and {symbol:?} would both be {rust} in Rust"
                ));
            }
        }
        self.define(NamedType::Enum {
            name: name.clone(),
            doc,
            symbols,
        })?;
        Ok(name)
    }

    fn define(&mut self, defined: NamedType) -> Result<(), String> {
        if self
            .types
            .iter()
            .any(|known| known.name() == defined.name())
        {
            return Err(format!("{} is defined twice", defined.name()));
        }
        self.types.push(defined);
        Ok(())
    }
}

impl NamedType {
    /// The name of the type.
    pub fn name(&self) -> &str {
        match self {
            Self::Record { name, .. } | Self::Enum { name, .. } => name,
        }
    }
}

/// `OUT_FOR_DELIVERY` becomes `OutForDelivery`. Different symbols may become the same name.
pub fn camel_case(symbol: &str) -> String {
    let words = symbol.split('_').filter(|word| !word.is_empty());
    words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + &rest.to_lowercase()
        })
        .collect()
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    let value = object.get(key).and_then(Value::as_str);
    value.ok_or_else(|| format!("no text {key:?} in {}", Value::Object(object.clone())))
}

fn doc(object: &Map<String, Value>, location: &str) -> Result<String, String> {
    let doc = object.get("doc").and_then(Value::as_str);
    doc.map(str::to_owned)
        .ok_or_else(|| format!("{location}: add a \"doc\""))
}

fn remove_own_attributes(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(remove_own_attributes),
        Value::Object(object) => {
            let is_own_type = object.contains_key("rust");
            for attribute in OWN_ATTRIBUTES {
                object.remove(attribute);
            }
            object.values_mut().for_each(remove_own_attributes);
            // `{"type": "string", "rust": "Sku"}` was written for the attribute alone.
            if is_own_type
                && object.len() == 1
                && let Some(simple) = object.remove("type")
            {
                *value = simple;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
