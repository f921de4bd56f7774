//! Creates an empty journal: deletes and creates its topic, and empties the owners' state stores.

use crate::servers::Servers;
use anyhow::{Context, Result};
use kafka::{Admin, Encoder, Registry, Subjects};
use schemas::{
    ContextEvent,
    catalog::Event,
    topics::{TOPICS, TopicSpec},
};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// Longest time until the broker has deleted the old topic and created the new one.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Empties the journal and the folder of the owners' state stores; returns the journal's encoder.
pub async fn create(servers: &Servers, store: &Path) -> Result<Encoder> {
    empty(store)?;
    let admin = Admin::new(&servers.kafka)?;
    let spec = spec()?;
    admin.delete(&[spec.name]).await?;
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut delays = service::Backoff::for_server();
    loop {
        // A topic that exists is the old one, which the broker has not deleted yet.
        let created = admin.ensure(&[*spec]).await;
        match created {
            Ok(created) if !created.is_empty() => break,
            _ if Instant::now() < deadline => {
                sleep(delays.next().unwrap_or(SETTLE_TIMEOUT)).await;
                // A created topic may be reported late, so check for it.
                if is_new(&admin, spec).await {
                    break;
                }
            }
            _ => {
                created?;
                anyhow::bail!("the broker does not delete the old topic {}", spec.name);
            }
        }
    }
    encoder(servers).await
}

/// Empties a folder, or creates it.
pub fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))
}

/// The encoder of the journal's values.
pub async fn encoder(servers: &Servers) -> Result<Encoder> {
    let context = Event::CONTEXT;
    let schema = context.schema();
    let registry = Registry::new(&servers.registry)?;
    let subjects = Subjects::new(registry, &servers.kafka);
    let id = subjects.ensure(context.subject, &schema).await?;
    Ok(Encoder::new(id, &schema)?)
}

/// The journal's topic.
fn spec() -> Result<&'static TopicSpec> {
    let topic = Event::CONTEXT.topic;
    let mut specs = TOPICS.iter();
    specs
        .find(|spec| spec.name == topic)
        .with_context(|| format!("{topic} is not in schemas::topics::TOPICS"))
}

/// Whether the topic matches its specification and is empty.
async fn is_new(admin: &Admin, spec: &TopicSpec) -> bool {
    let Ok(partitions) = admin.partitions(spec.name).await else {
        return false;
    };
    if admin.check(spec, partitions).await.is_err() {
        return false;
    }
    for partition in 0..partitions {
        let watermarks = admin.watermarks(spec.name, partition).await;
        if watermarks.map_or(true, |watermarks| watermarks.high != 0) {
            return false;
        }
    }
    true
}
