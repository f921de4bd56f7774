//! Reads a decision with the schema it was written with, whatever events that schema names.
//!
//! Generic on purpose: an event type that this program has no Rust type for is still read, checked
//! and printed.

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};

/// Most bytes that reading one body may reserve for one array; Kafka's records are smaller than
/// 1 MB, and a length in broken bytes must not exhaust the memory.
const ALLOCATION_BYTES_MAX: usize = 64 << 20;
/// Bytes of a value before its Avro datum.
const HEADER_BYTES: usize = 5;

/// A schema that records were written with.
#[derive(Debug)]
pub struct WriterSchema {
    /// As the registry has it.
    pub text: String,
    schema: Schema,
}

/// What one command came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The key's first part.
    pub aggregate_type: String,
    /// The aggregate's version before it.
    pub version: i64,
    /// The id that makes a retry the same command.
    pub command_id: [u8; 16],
    /// Where the command id comes from, in the schema's own word.
    pub origin: String,
    /// Opaque id of the principal.
    pub actor: String,
    /// Joins everything that one request set going.
    pub correlation_id: [u8; 16],
    /// The event that caused this command, if one did.
    pub causation_id: Option<String>,
    /// The stored answer, if it was not plain acceptance.
    pub outcome: Option<Value>,
    /// What happened.
    pub events: Vec<Event>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The Avro record's name, without its namespace.
    pub name: String,
    /// Its fields, in the schema's order.
    pub fields: Vec<(String, Value)>,
}

/// Why a decision can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The schema's text is none.
    #[error("not an Avro schema: {reason}")]
    Schema {
        /// Why not.
        reason: String,
    },
    /// The bytes don't fit the schema.
    #[error("the bytes do not fit their schema: {reason}")]
    Datum {
        /// Where it went wrong.
        reason: String,
    },
    /// More bytes than the schema has use for.
    #[error("{bytes} bytes follow the record")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The record lacks what every decision has.
    #[error("{field} is missing or of another type than decisions have")]
    Field {
        /// The field's name.
        field: &'static str,
    },
}

impl WriterSchema {
    /// Parses a schema's text.
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

    /// Reads the decision in a record's value, wire header included.
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

    /// The names of the records that `events` may hold, by their branch.
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

/// A record's fields, each to be taken once.
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
