//! The Confluent wire format: a zero byte, the schema's id, then the Avro datum.

use crate::registry::{Registry, RegistryError};
use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::ser::SerializerConfig;
use std::sync::Arc;

/// Bytes before the datum.
pub const HEADER_BYTES: usize = 5;
/// Initial capacity of the buffer for a value, in bytes; most values fit.
const VALUE_BYTES: usize = 512;
/// Longest array in a datum that a reader accepts; a record with a longer one is malformed.
const ARRAY_ITEMS_MAX: usize = 10_000_000;

/// Why a value can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value does not begin with the wire header.
    #[error("the value has no schema id: {bytes} bytes, first {first:?}")]
    NoHeader {
        /// The value's length.
        bytes: usize,
        /// The value's first byte; `None` if the value is empty.
        first: Option<u8>,
    },
    /// The schema can't be fetched.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The bytes don't fit the writer's schema, or have a type that this program does not know.
    #[error("a value of schema id {schema_id} can't be read: {reason}")]
    Unreadable {
        /// The writer's schema.
        schema_id: u32,
        /// The decoder's message.
        reason: String,
    },
    /// The value does not fit the schema.
    #[error("the value does not fit schema id {schema_id}: {reason}")]
    Unwritable {
        /// The schema to write with.
        schema_id: u32,
        /// The encoder's message.
        reason: String,
    },
    /// Our own schema does not parse.
    #[error("not an Avro schema: {reason}")]
    Schema {
        /// The parser's message.
        reason: String,
    },
}

/// Writes values with one registered schema.
#[derive(Clone)]
pub struct Encoder {
    schema_id: u32,
    schema: Arc<serde_avro_fast::Schema>,
}

impl Encoder {
    /// Creates an encoder. `schema` is the JSON text that is registered under `schema_id`.
    ///
    /// # Errors
    /// [`CodecError::Schema`]: the text is not an Avro schema.
    pub fn new(schema_id: u32, schema: &str) -> Result<Self, CodecError> {
        let schema = schema
            .parse()
            .map_err(
                |error: serde_avro_fast::schema::SchemaError| CodecError::Schema {
                    reason: error.to_string(),
                },
            )?;
        Ok(Self {
            schema_id,
            schema: Arc::new(schema),
        })
    }

    /// Encodes a value in the wire format.
    ///
    /// # Errors
    /// [`CodecError::Unwritable`]: the value does not fit the schema.
    pub fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::with_capacity(VALUE_BYTES);
        bytes.push(0);
        bytes.extend_from_slice(&self.schema_id.to_be_bytes());
        serde_avro_fast::to_datum(value, bytes, &mut SerializerConfig::new(&self.schema)).map_err(
            |error| CodecError::Unwritable {
                schema_id: self.schema_id,
                reason: error.to_string(),
            },
        )
    }
}

/// Reads values with the schema that each was written with.
#[derive(Clone)]
pub struct Decoder {
    registry: Registry,
}

impl Decoder {
    /// Fetches each schema from `registry` when a value first needs it.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// Decodes a value in the wire format. Waits for the registry if the schema is new. If the error is the
    /// registry's, [`RegistryError::is_transient`] says whether another attempt may help.
    pub async fn decode<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T, CodecError> {
        let (schema_id, datum) = split(value)?;
        let schema = self.registry.schema(schema_id).await?;
        read(schema_id, &schema, datum)
    }
}

/// Splits a value in the wire format into the schema's id and the datum.
///
/// # Errors
/// [`CodecError::NoHeader`]: the value does not begin with the wire header.
pub fn split(value: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    match value {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(CodecError::NoHeader {
            bytes: value.len(),
            first: value.first().copied(),
        }),
    }
}

fn read<T: DeserializeOwned>(
    schema_id: u32,
    schema: &serde_avro_fast::Schema,
    datum: &[u8],
) -> Result<T, CodecError> {
    let mut config = serde_avro_fast::de::DeserializerConfig::new(schema);
    config.max_seq_size = ARRAY_ITEMS_MAX;
    let slice = serde_avro_fast::de::read::SliceRead::new(datum);
    let mut state = serde_avro_fast::de::DeserializerState::with_config(slice, config);
    T::deserialize(state.deserializer()).map_err(|error| CodecError::Unreadable {
        schema_id,
        reason: error.to_string(),
    })
}
