//! An empty journal to write to: its topic is deleted and made again, and what owners kept of it goes.

use crate::servers::Servers;
use anyhow::{Context, Result};
use kafka::{Admin, Encoder, Registry};
use schemas::{
    ContextEvent,
    catalog::Event,
    topics::{TOPICS, TopicSpec},
};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// How long the broker may take to forget the old topic and to know the new one.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the journal and the owners' folder empty; gives the journal's encoder.
pub async fn make(servers: &Servers, store: &Path) -> Result<Encoder> {
    empty(store)?;
    let admin = Admin::new(&servers.kafka)?;
    let spec = spec()?;
    admin.delete(&[spec.name]).await?;
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut waits = service::backoff();
    loop {
        // One that was not made now is the old one, which the broker has not forgotten yet.
        let made = admin.ensure(&[*spec]).await;
        match made {
            Ok(made) if !made.is_empty() => break,
            _ if Instant::now() < deadline => {
                sleep(waits.next().unwrap_or(SETTLE_TIMEOUT)).await;
                // A topic that was made but not known everywhere at once is checked again.
                if admin.check(spec).await.is_ok() && is_empty(&admin, spec).await? {
                    break;
                }
            }
            _ => {
                made?;
                anyhow::bail!("the old {} does not go away", spec.name);
            }
        }
    }
    encoder(servers).await
}

/// Makes a folder empty, and makes it if it is not there.
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
    let id = registry.ensure(context.subject, &schema).await?;
    Ok(Encoder::new(id, &schema)?)
}

/// The journal's topic.
fn spec() -> Result<&'static TopicSpec> {
    let topic = Event::CONTEXT.topic;
    let mut specs = TOPICS.iter();
    specs
        .find(|spec| spec.name == topic)
        .with_context(|| format!("{topic} is no topic of ours"))
}

async fn is_empty(admin: &Admin, spec: &TopicSpec) -> Result<bool> {
    for partition in 0..spec.partitions {
        if admin.watermarks(spec.name, partition).await?.high != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
