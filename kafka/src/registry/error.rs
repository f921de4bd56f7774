//! The errors of requests to the registry.

/// The compatibility of every subject: later readers can read all history.
pub const COMPATIBILITY: &str = "BACKWARD_TRANSITIVE";

/// Why a schema can't be fetched or registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not answer; another attempt may help.
    #[error("the schema registry at {url} does not answer: {reason}")]
    Unreachable {
        /// The registry's address.
        url: String,
        /// The client library's message.
        reason: String,
    },
    /// Records already written could no longer be read.
    #[error(
        "subject {subject}: the schema is not {COMPATIBILITY} with the registered one: {difference}"
    )]
    Incompatible {
        /// The subject as the registry names it.
        subject: String,
        /// The difference.
        difference: String,
    },
    /// The registry does not know the schema (yet).
    #[error("schema id {id} is not in the registry at {url}")]
    UnknownId {
        /// The id in the record.
        id: u32,
        /// The registry's address.
        url: String,
    },
    /// Anything else that the registry refuses.
    #[error("the schema registry at {url} refused {what}: {reason}")]
    Refused {
        /// The registry's address.
        url: String,
        /// The object of the request.
        what: String,
        /// The registry's message.
        reason: String,
    },
    /// The registry's answer is not an Avro schema.
    #[error("schema id {id} is not an Avro schema: {reason}")]
    NotAvro {
        /// The id in the record.
        id: u32,
        /// The parser's message.
        reason: String,
    },
}

impl RegistryError {
    /// Whether another attempt may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::UnknownId { .. })
    }
}
