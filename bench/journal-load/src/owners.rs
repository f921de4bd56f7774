//! The owners of all partitions of one journal, in this process. No other module creates, runs or calls an
//! owner.

use crate::{
    servers::Servers,
    workload::{Command, Products},
};
use anyhow::{Context, Result, bail};
use journal::{
    Kafka, Source,
    owner::{Answer, Owner, OwnerHandle, OwnerParts, OwnerSettings, Request, Status},
    store::Disk,
};
use kafka::{Admin, Appender, Encoder, Registry};
use schemas::{ContextEvent, catalog::Event};
use std::{path::Path, time::Duration};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest time until all owners serve, reading the log included.
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// Owners that serve, one per partition of the broker's topic.
pub struct Owners {
    handles: Vec<OwnerHandle<Command>>,
    partitions: i32,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Owners {
    /// Starts an owner per partition; returns when all serve. `store` is the folder of the owners' state
    /// stores, which outlive the process.
    pub async fn start(servers: &Servers, encoder: &Encoder, store: &Path) -> Result<Self> {
        let topic = Event::CONTEXT.topic;
        let log = Kafka {
            source: source(servers)?,
            appender: Appender::new(&servers.kafka)?,
        };
        let partitions = log.source.admin.partitions(topic).await?;
        let disk = Disk::new(store)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut handles = Vec::new();
        for partition in 0..partitions {
            let (owner, handle) = Owner::new(OwnerParts {
                machine: Products,
                partition,
                encoder: encoder.clone(),
                log: log.clone(),
                store: disk.partition(topic, partition),
                settings: OwnerSettings::new("http://127.0.0.1:0".into(), partitions),
            });
            // This process is assigned all partitions.
            let (assign, assigned) = watch::channel(true);
            let run = owner.run(stop.clone(), assigned);
            tasks.spawn(async move {
                run.await;
                drop(assign);
            });
            handles.push(handle);
        }
        tasks.close();
        let owners = Self {
            handles,
            partitions,
            tasks,
            stop,
        };
        let waited = tokio::time::timeout(START_TIMEOUT, owners.await_serving()).await;
        waited.with_context(|| format!("not all owners serve within {START_TIMEOUT:?}"))??;
        Ok(owners)
    }

    async fn await_serving(&self) -> Result<()> {
        for (partition, handle) in self.handles.iter().enumerate() {
            await_serving(handle.status())
                .await
                .with_context(|| format!("the owner of partition {partition}"))?;
        }
        Ok(())
    }

    /// Submits a request to the owner of its key's partition and waits for the answer.
    pub async fn execute(&self, request: Request<Command>) -> Result<Answer> {
        let partition = kafka::partition::of_key(request.key.as_bytes(), self.partitions);
        let handle = usize::try_from(partition)
            .ok()
            .and_then(|index| self.handles.get(index))
            .context("every partition has an owner")?;
        let answer = handle.submit(request).await?.await;
        Ok(answer.context("the owner has ended")??)
    }

    /// Stops all owners.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// The servers that the journal is read from.
pub fn source(servers: &Servers) -> Result<Source> {
    Ok(Source {
        kafka: servers.kafka.clone(),
        admin: Admin::new(&servers.kafka)?,
        registry: Registry::new(&servers.registry)?,
    })
}

async fn await_serving(mut status: watch::Receiver<Status>) -> Result<()> {
    loop {
        match &*status.borrow_and_update() {
            Status::Serving { .. } => return Ok(()),
            Status::Ended(reason) | Status::Declined { reason, .. } => {
                bail!("does not serve: {reason}")
            }
            Status::Standby | Status::TakingOver(_) | Status::SteppingDown => {}
        }
        status.changed().await.context("ended without a status")?;
    }
}
