//! Decodes a decision with its writer's schema.
//!
//! Decoding is generic on purpose: events without a Rust type in this program are decoded, checked and
//! printed too.

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};

/// Maximum number of bytes that decoding may allocate for one array. Kafka's records are smaller than 1 MB; a corrupt
/// length must not exhaust the memory.
const ALLOCATION_BYTES_MAX: usize = 64 << 20;
/// Length of the wire header before the Avro datum.
const HEADER_BYTES: usize = 5;

/// The schema that records were written with.
#[derive(Debug)]
pub struct WriterSchema {
    /// The schema's text, as in the registry.
    pub text: String,
    schema: Schema,
}

/// The result of one command.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The aggregate's type, the first part of the record's key.
    pub aggregate_type: String,
    /// The aggregate's version before the decision.
    pub version: i64,
    /// The command's id; a retry has the same one.
    pub command_id: [u8; 16],
    /// The command id's origin, a symbol of the schema's enum.
    pub origin: String,
    /// Opaque id of the principal.
    pub actor: String,
    /// The same for all commands and events that one request caused.
    pub correlation_id: [u8; 16],
    /// The event that caused this command, if any.
    pub causation_id: Option<String>,
    /// The stored outcome; `None` if the command was accepted and recorded its events.
    pub outcome: Option<Value>,
    /// The events, in order.
    pub events: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The Avro record's name, without its namespace.
    pub name: String,
    /// The event's fields, in the schema's order.
    pub fields: Vec<(String, Value)>,
}

impl Event {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        fields
            .find(|(field, _)| field == name)
            .map(|(_, value)| value)
    }
}

/// The reason why a decision can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The text is not a schema.
    #[error("not an Avro schema: {reason}")]
    Schema {
        /// The reason.
        reason: String,
    },
    /// The bytes don't fit the schema.
    #[error("the bytes do not fit their schema: {reason}")]
    Datum {
        /// The decoder's error.
        reason: String,
    },
    /// Bytes are left after the record.
    #[error("{bytes} bytes follow the record")]
    Trailing {
        /// Number of bytes left.
        bytes: usize,
    },
    /// A field that every decision has is missing or has another type.
    #[error("the field {field} is missing or has an unexpected type")]
    Field {
        /// The field's name.
        field: &'static str,
    },
}

impl WriterSchema {
    /// Parses a schema's text.
    ///
    /// # Errors
    /// [`BodyError::Schema`]: the text is not an Avro schema.
    pub fn parse(text: &str) -> Result<Self, BodyError> {
        apache_avro::util::max_allocation_bytes(ALLOCATION_BYTES_MAX);
        let schema = Schema::parse_str(text).map_err(|error| BodyError::Schema {
            reason: error.to_string(),
        })?;
        Ok(Self {
            text: text.to_owned(),
            schema,
        })
    }

    /// Decodes the decision in a record's value, which includes the wire header.
    ///
    /// # Errors
    /// [`BodyError`]: the bytes do not fit the schema, or a field that every decision has is missing.
    pub fn decision(&self, value: &[u8]) -> Result<Decision, BodyError> {
        let datum_error = |error: apache_avro::Error| BodyError::Datum {
            reason: error.to_string(),
        };
        let mut datum = value.get(HEADER_BYTES..).unwrap_or_default();
        let reader = GenericDatumReader::builder(&self.schema)
            .build()
            .map_err(datum_error)?;
        let commit = reader.read_value(&mut datum).map_err(datum_error)?;
        if !datum.is_empty() {
            return Err(BodyError::Trailing { bytes: datum.len() });
        }
        let mut commit = Fields::of(commit, "commit")?;
        let mut body = Fields::of(without_union(commit.take("body")?), "body")?;
        Ok(Decision {
            aggregate_type: body.text("aggregate_type")?,
            version: body.long("version")?,
            command_id: body.id("command_id")?,
            origin: body.symbol("origin")?,
            actor: body.text("actor")?,
            correlation_id: body.id("correlation_id")?,
            causation_id: body.optional_text("causation_id")?,
            outcome: body.optional("outcome")?,
            events: self.events(body.take("events")?)?,
        })
    }

    fn events(&self, events: Value) -> Result<Vec<Event>, BodyError> {
        let field = BodyError::Field { field: "events" };
        let Value::Array(events) = events else {
            return Err(field);
        };
        let names = self.event_names().ok_or(field)?;
        events
            .into_iter()
            .map(|event| {
                let field = BodyError::Field { field: "events" };
                let (branch, event) = match event {
                    Value::Union(branch, event) => (branch, *event),
                    event => (0, event),
                };
                let index = usize::try_from(branch).unwrap_or(usize::MAX);
                match (names.get(index), event) {
                    (Some(Some(name)), Value::Record(fields)) => Ok(Event {
                        name: (*name).to_owned(),
                        fields,
                    }),
                    _ => Err(field),
                }
            })
            .collect()
    }

    /// The names of the records in the union of `events`, by branch.
    fn event_names(&self) -> Option<Vec<Option<&str>>> {
        let Schema::Union(bodies) = field_schema(&self.schema, "body")? else {
            return None;
        };
        let mut events = bodies
            .variants()
            .iter()
            .filter_map(|body| field_schema(body, "events"));
        let Schema::Array(array) = events.next()? else {
            return None;
        };
        let variants = match array.items.as_ref() {
            Schema::Union(union) => union.variants(),
            single => std::slice::from_ref(single),
        };
        let name = |variant| Schema::name(variant).map(apache_avro::schema::Name::name);
        Some(variants.iter().map(name).collect())
    }
}

fn field_schema<'a>(record: &'a Schema, name: &str) -> Option<&'a Schema> {
    let Schema::Record(record) = record else {
        return None;
    };
    let mut fields = record.fields.iter();
    fields
        .find(|field| field.name == name)
        .map(|field| &field.schema)
}

fn without_union(value: Value) -> Value {
    match value {
        Value::Union(_, value) => *value,
        value => value,
    }
}

/// A record's fields; each is taken once.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn of(value: Value, field: &'static str) -> Result<Self, BodyError> {
        match value {
            Value::Record(fields) => Ok(Self(fields)),
            _ => Err(BodyError::Field { field }),
        }
    }

    fn take(&mut self, field: &'static str) -> Result<Value, BodyError> {
        let found = self.0.iter_mut().find(|(name, _)| name == field);
        let (_, value) = found.ok_or(BodyError::Field { field })?;
        Ok(std::mem::replace(value, Value::Null))
    }

    fn text(&mut self, field: &'static str) -> Result<String, BodyError> {
        match self.take(field)? {
            Value::String(text) => Ok(text),
            _ => Err(BodyError::Field { field }),
        }
    }

    fn long(&mut self, field: &'static str) -> Result<i64, BodyError> {
        match self.take(field)? {
            Value::Long(number) => Ok(number),
            _ => Err(BodyError::Field { field }),
        }
    }

    fn symbol(&mut self, field: &'static str) -> Result<String, BodyError> {
        match self.take(field)? {
            Value::Enum(_, symbol) => Ok(symbol),
            _ => Err(BodyError::Field { field }),
        }
    }

    fn id(&mut self, field: &'static str) -> Result<[u8; 16], BodyError> {
        match self.take(field)? {
            Value::Fixed(_, bytes) => bytes.try_into().map_err(|_| BodyError::Field { field }),
            _ => Err(BodyError::Field { field }),
        }
    }

    fn optional(&mut self, field: &'static str) -> Result<Option<Value>, BodyError> {
        match without_union(self.take(field)?) {
            Value::Null => Ok(None),
            value => Ok(Some(value)),
        }
    }

    fn optional_text(&mut self, field: &'static str) -> Result<Option<String>, BodyError> {
        match self.optional(field)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(BodyError::Field { field }),
        }
    }
}
