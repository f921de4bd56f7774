//! Creates topics and schemas, which must exist before anything is read or written.

pub mod restore;
mod schema_ids_in_use;

use crate::{config::Config, describe};
use journal::Source;
use kafka::{
    Admin, Encoder, KafkaSettings, Registry, RegistryError, Subjects,
    admin::AdminError,
    registry::{KNOWN_SCHEMAS_FILE, SchemaTable},
};
use schemas::{
    CONTEXTS,
    owners::ProvedRecord,
    topics::{OWNERS, PartitionCounts, TOPICS, TopicPartition},
};
use std::{collections::HashMap, process::ExitCode};

/// Topics and schemas that are ready for use.
pub struct ReadyTopics {
    /// The encoder of the values of every topic that has a schema, by topic.
    pub encoders: HashMap<&'static str, Encoder>,
    /// The number of partitions of each topic, according to the brokers.
    pub partitions: PartitionCounts,
    /// Each journal and its `max.message.bytes`.
    pub message_bytes_max: Vec<(&'static str, usize)>,
}

/// Reasons why topics and schemas are not ready for use.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The topics are not ready.
    #[error(transparent)]
    Topics(#[from] AdminError),
    /// The directory of owners can't be read.
    #[error(transparent)]
    Directory(#[from] describe::ReadError),
    /// A journal was deleted, and a new one would be empty.
    #[error(
        "topic {} does not exist, but {} names a record of its log at offset {} (partition {}, log id {}): \
         the topic was deleted, or this is another cluster. Restore it, or, to begin with an empty journal, \
         stop every node and delete the topic {} and the nodes' state directories",
        .partition.topic, OWNERS.name, .record.offset, .partition.partition, hex::encode(.record.log_id), OWNERS.name
    )]
    DeletedJournal {
        /// A partition of the journal.
        partition: TopicPartition,
        /// A record of its log.
        record: ProvedRecord,
    },
    /// The schema ids of the journals' records can't be read.
    #[error("failed to read the schema ids of the journals: {0}")]
    Log(describe::ReadError),
    /// The schemas are not ready.
    #[error(transparent)]
    Schemas(#[from] RegistryError),
    /// A schema of this program does not parse.
    #[error("topic {topic}: {source}")]
    Schema {
        /// The topic of the values.
        topic: &'static str,
        /// The parser's error.
        source: kafka::CodecError,
    },
}

impl SetupError {
    /// Whether another attempt may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Topics(error) => error.is_transient(),
            Self::Schemas(error) => error.is_transient(),
            // The process waits until the operator acts.
            Self::Directory(_) | Self::Log(_) | Self::DeletedJournal { .. } => true,
            Self::Schema { .. } => false,
        }
    }
}

/// Fails if a journal does not exist although an owner has published a record of its log: a new journal would
/// silently replace it.
async fn check_deleted(admin: &Admin, kafka: &KafkaSettings) -> Result<(), SetupError> {
    let mut missing = Vec::new();
    for context in CONTEXTS {
        if !admin.exists(context.topic).await? {
            missing.push(context.topic);
        }
    }
    if missing.is_empty() || !admin.exists(OWNERS.name).await? {
        return Ok(());
    }
    let entries = describe::entries(admin, kafka).await?.into_iter();
    let mut known = entries.filter_map(|(partition, entry)| Some((partition, *entry.proved?)));
    match known.find(|(partition, _)| missing.contains(&partition.topic)) {
        Some((partition, record)) => Err(SetupError::DeletedJournal { partition, record }),
        None => Ok(()),
    }
}

/// Fails if the registry lacks schemas of the log's records. A lost schema that is registered again would get a new id,
/// and the bodies with the old id would become unreadable, or would be decoded with a wrong schema. The schemas of the
/// ids that were read from the log are kept.
async fn check_registry(
    admin: &Admin,
    kafka: &KafkaSettings,
    registry: &Registry,
    subjects: &Subjects,
) -> Result<(), SetupError> {
    registry.check_known().await?;
    for topic in TOPICS {
        let (Some(subject), Some(schema)) = (topic.subject(), topic.schema()) else {
            continue;
        };
        if !subjects.is_known(&subject, &schema).await? {
            // The log is read only if this node has not used this schema before: the node, its state directory or the
            // schema is new.
            let held = schema_ids_in_use::schema_ids_in_use(admin, kafka).await;
            let held = held.map_err(SetupError::Log)?;
            subjects.check_held(&held).await?;
            for id in held.values().flatten() {
                registry.schema(*id).await?;
            }
            break;
        }
    }
    Ok(())
}

/// Checks the registry for a process that decodes records and registers no schema.
///
/// # Errors
/// The registry lacks schemas of the log's records, or can't be compared with the log now.
pub async fn check_schemas(source: &Source) -> Result<(), SetupError> {
    let Source {
        kafka,
        admin,
        registry,
    } = source;
    let subjects = Subjects::new(registry.clone(), kafka);
    check_registry(admin, kafka, registry, &subjects).await
}

/// Creates missing topics and registers missing schemas; checks the existing ones.
pub async fn prepare(source: &Source) -> Result<ReadyTopics, SetupError> {
    let Source {
        kafka,
        admin,
        registry,
    } = source;
    let subjects = Subjects::new(registry.clone(), kafka);
    check_deleted(admin, kafka).await?;
    for name in admin.ensure(&TOPICS).await? {
        tracing::info!(topic = name, "topic created");
    }
    check_registry(admin, kafka, registry, &subjects).await?;
    let mut encoders = HashMap::new();
    for topic in TOPICS {
        let (Some(subject), Some(schema)) = (topic.subject(), topic.schema()) else {
            continue;
        };
        let id = subjects.ensure(&subject, &schema).await?;
        // Adds the id to the file of known schemas before any record is written with it.
        registry.schema(id).await?;
        let encoder = Encoder::new(id, &schema).map_err(|source| SetupError::Schema {
            topic: topic.name,
            source,
        })?;
        encoders.insert(topic.name, encoder);
    }
    let mut message_bytes_max = Vec::with_capacity(CONTEXTS.len());
    for context in CONTEXTS {
        let bytes_max = admin.message_bytes_max(context.topic).await?;
        message_bytes_max.push((context.topic, bytes_max));
    }
    Ok(ReadyTopics {
        encoders,
        message_bytes_max,
        partitions: admin.partition_counts(&TOPICS).await?,
    })
}

/// The registry's client for tools that read the log. It compares the registry with the schemas that this node has used,
/// if the settings name a state directory, and writes nothing.
pub fn tool_registry(config: &Config) -> anyhow::Result<Registry> {
    let registry = Registry::new(&config.registry)?;
    Ok(match &config.commands {
        None => registry,
        Some(commands) => {
            let path = commands.state_dir.join(KNOWN_SCHEMAS_FILE);
            registry.expecting(SchemaTable::read(&path)?)
        }
    })
}

/// The registry's client for projectors. It binds each schema to its id like that of a node, but writes no file,
/// because a node may use the same state directory.
pub fn projector_registry(config: &Config) -> anyhow::Result<Registry> {
    let commands = config.commands.as_ref();
    let directory = commands.map(|commands| commands.state_dir.as_path());
    let registry = Registry::new(&config.registry)?;
    Ok(registry.keeping_in_memory(directory, &config.kafka))
}

/// `daybook topics create`
pub async fn create_topics(config: &Config) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config.kafka)?;
    check_deleted(&admin, &config.kafka).await?;
    let created = admin.ensure(&TOPICS).await?;
    let counts = admin.partition_counts(&TOPICS).await?;
    for topic in TOPICS {
        let state = match created.contains(&topic.name) {
            true => "created",
            false => "correct",
        };
        let (name, partitions) = (topic.name, counts.of(topic.name));
        println!("{name:<40} {partitions} partitions, {state}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `daybook schemas register`
pub async fn register_schemas(config: &Config) -> anyhow::Result<ExitCode> {
    let admin = Admin::new(&config.kafka)?;
    let registry = Registry::new(&config.registry)?;
    let subjects = Subjects::new(registry.clone(), &config.kafka);
    check_registry(&admin, &config.kafka, &registry, &subjects).await?;
    for topic in TOPICS {
        let (Some(subject), Some(schema)) = (topic.subject(), topic.schema()) else {
            continue;
        };
        let id = subjects.ensure(&subject, &schema).await?;
        println!("{:<48} id {id}", subjects.prefixed(&subject));
    }
    Ok(ExitCode::SUCCESS)
}
