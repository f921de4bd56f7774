//! The errors of requests to the registry.

/// The compatibility of every subject: later readers can read all history.
pub const COMPATIBILITY: &str = "BACKWARD_TRANSITIVE";

/// Most faults of a registry that a message lists.
const FAULTS_SHOWN_MAX: usize = 5;

/// How a registry differs from what the log and the nodes know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// It does not know an id.
    #[error("schema id {id} is missing")]
    Missing {
        /// The id in records.
        id: u32,
    },
    /// It has another schema under an id. The fingerprints are CRC-64-AVRO.
    #[error(
        "schema id {id} is another schema (fingerprint {found:016x}) than the one of the records ({known:016x})"
    )]
    Other {
        /// The id in records.
        id: u32,
        /// The fingerprint of the records' schema.
        known: u64,
        /// The fingerprint of the registry's schema.
        found: u64,
    },
    /// It has the id under other subjects only.
    #[error("schema id {id} is not registered under subject {subject}")]
    OtherSubject {
        /// The id in records.
        id: u32,
        /// The subject of the records' topic.
        subject: String,
    },
}

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
    /// The registry does not have the schemas that records were written with.
    #[error(
        "the schema registry at {url} has lost data, or is another one: {}; bring back its own data, or run \
         `daybook schemas restore`",
        listed(faults)
    )]
    LostData {
        /// The registry's address.
        url: String,
        /// The differences.
        faults: Vec<SchemaFault>,
    },
    /// The file with the known schemas can't be used; another attempt may help.
    #[error("the file of known schemas {path} can't be used: {reason}")]
    Table {
        /// Its path.
        path: String,
        /// The system's or the parser's message.
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
        match self {
            // The process waits for the operator where only an operator can help.
            Self::Unreachable { .. }
            | Self::UnknownId { .. }
            | Self::LostData { .. }
            | Self::Table { .. } => true,
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
