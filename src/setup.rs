//! What must be there before anything is read or written: topics and schemas.

use crate::config::Config;
use kafka::{Admin, Encoder, Registry, RegistryError, admin::AdminError};
use schemas::topics::TOPICS;
use std::{collections::HashMap, process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a topic may be refused that was made a moment ago: not every broker knows it at once.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The encoder of the values of every topic that has a schema, by topic.
pub type Encoders = HashMap<&'static str, Encoder>;

/// Why topics and schemas are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The topics.
    #[error(transparent)]
    Topics(#[from] AdminError),
    /// The schemas.
    #[error(transparent)]
    Schemas(#[from] RegistryError),
    /// Our own schema is none.
    #[error("topic {topic}: {source}")]
    Schema {
        /// Whose values it is for.
        topic: &'static str,
        /// Why not.
        source: kafka::CodecError,
    },
}

impl SetupError {
    /// Whether another try may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Topics(error) => error.is_transient(),
            Self::Schemas(error) => error.is_transient(),
            Self::Schema { .. } => false,
        }
    }
}

/// Creates missing topics and checks all. Gives the names of those that the last try made.
async fn ensure_topics(admin: &Admin) -> Result<Vec<&'static str>, AdminError> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut waits = service::backoff();
    loop {
        match (admin.ensure(&TOPICS).await, waits.next()) {
            (Err(error @ AdminError::Refused { .. }), Some(wait)) if Instant::now() < deadline => {
                tracing::debug!(%error, "topics have not settled yet");
                sleep(wait).await;
            }
            (ended, _) => return ended,
        }
    }
}

/// Creates missing topics and registers schemas; checks those that are there.
pub async fn prepare(admin: &Admin, registry: &Registry) -> Result<Encoders, SetupError> {
    for name in ensure_topics(admin).await? {
        tracing::info!(topic = name, "topic created");
    }
    let mut encoders = Encoders::new();
    for topic in TOPICS {
        let (Some(subject), Some(schema)) = (topic.subject, topic.schema()) else {
            continue;
        };
        let id = registry.ensure(subject, &schema).await?;
        let encoder = Encoder::new(id, &schema).map_err(|source| SetupError::Schema {
            topic: topic.name,
            source,
        })?;
        encoders.insert(topic.name, encoder);
    }
    Ok(encoders)
}

/// `daybook topics create`
pub async fn create_topics(config: &Config) -> anyhow::Result<ExitCode> {
    let made = ensure_topics(&Admin::new(&config.kafka)?).await?;
    for topic in TOPICS {
        let state = if made.contains(&topic.name) {
            "created"
        } else {
            "as it must be"
        };
        println!(
            "{:<40} {} partitions, {state}",
            topic.name, topic.partitions
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// `daybook schemas register`
pub async fn register_schemas(config: &Config) -> anyhow::Result<ExitCode> {
    let registry = Registry::new(&config.registry)?;
    for topic in TOPICS {
        let (Some(subject), Some(schema)) = (topic.subject, topic.schema()) else {
            continue;
        };
        let id = registry.ensure(subject, &schema).await?;
        println!("{subject:<48} id {id}");
    }
    Ok(ExitCode::SUCCESS)
}
