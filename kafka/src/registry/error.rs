//! The errors of requests to the registry.

/// The compatibility mode of every subject. New schemas must decode the records of all earlier ones.
pub const COMPATIBILITY: &str = "BACKWARD_TRANSITIVE";

/// The maximum number of schema faults in one message.
const FAULTS_SHOWN_MAX: usize = 5;

/// A difference between the registry and the schemas of the log's records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// The registry does not have the id.
    #[error("schema id {id} is missing")]
    Missing {
        /// The id in the records.
        id: u32,
    },
    /// The registry has another schema under the id. The fingerprints are CRC-64-AVRO.
    #[error(
        "schema id {id} has another schema (fingerprint {found:016x}) than the records (fingerprint {known:016x})"
    )]
    Other {
        /// The id in the records.
        id: u32,
        /// The fingerprint of the records' schema.
        known: u64,
        /// The fingerprint of the registry's schema.
        found: u64,
    },
    /// The registry has the id only under other subjects.
    #[error("schema id {id} is not registered under subject {subject}")]
    OtherSubject {
        /// The id in the records.
        id: u32,
        /// The subject of the records' topic.
        subject: String,
    },
}

/// Errors of requests to the registry, and of the file of known schemas.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not answer. A retry may succeed.
    #[error("the schema registry at {url} does not answer: {reason}")]
    Unreachable {
        /// The registry's address.
        url: String,
        /// The client library's message.
        reason: String,
    },
    /// The new schema can't decode records that were already written.
    #[error(
        "subject {subject}: the schema is not {COMPATIBILITY} with the registered one: {difference}"
    )]
    Incompatible {
        /// The subject as the registry names it.
        subject: String,
        /// The difference.
        difference: String,
    },
    /// The registry does not have the id, at least not yet.
    #[error("schema id {id} is not in the registry at {url}")]
    UnknownId {
        /// The id in the record.
        id: u32,
        /// The registry's address.
        url: String,
    },
    /// The registry refused the request for another reason.
    #[error("the schema registry at {url} refused {what}: {reason}")]
    Refused {
        /// The registry's address.
        url: String,
        /// The request's object, for the message.
        what: String,
        /// The registry's message.
        reason: String,
    },
    /// The registry lacks schemas that records were written with, or has others under their ids.
    #[error(
        "the schema registry at {url} has lost data, or is another one: {}; restore its data, or run \
         `daybook schemas restore`",
        listed(faults)
    )]
    LostData {
        /// The registry's address.
        url: String,
        /// The differences.
        faults: Vec<SchemaFault>,
    },
    /// The file of known schemas can't be used. A retry may succeed.
    #[error("the file of known schemas {path} can't be used: {reason}")]
    Table {
        /// The file's path.
        path: String,
        /// The message of the operating system or of the parser.
        reason: String,
    },
    /// The file of known schemas is damaged, or a later release has written it. A retry succeeds once an operator has
    /// restored or deleted the file.
    #[error(
        "the file of known schemas {path} can't be read: {reason}; restore the file, or delete it, and this node \
         accepts the registry's schemas again"
    )]
    UnreadableTable {
        /// The file's path.
        path: String,
        /// The parser's message.
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
    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            // The process retries until an operator has removed the cause.
            Self::Unreachable { .. }
            | Self::UnknownId { .. }
            | Self::LostData { .. }
            | Self::Table { .. }
            | Self::UnreadableTable { .. } => true,
            Self::Incompatible { .. } | Self::Refused { .. } | Self::NotAvro { .. } => false,
        }
    }
}

fn listed(faults: &[SchemaFault]) -> String {
    let shown = faults.iter().take(FAULTS_SHOWN_MAX);
    let mut shown: Vec<String> = shown.map(ToString::to_string).collect();
    if let Some(more) = faults.len().checked_sub(FAULTS_SHOWN_MAX + 1) {
        shown.push(format!("and {} more", more + 1));
    }
    shown.join(", ")
}
