//! The owners of all partitions of one journal, in this process. The only module that knows how an
//! owner is made, run and asked.

use crate::{
    servers::Servers,
    shelf::{Command, Shelves},
};
use anyhow::{Context, Result, bail};
use journal::{
    Kafka, Source,
    owner::{Answer, Owner, OwnerHandle, OwnerSettings, Request, Status},
    store::Disk,
};
use kafka::{Admin, Appender, Encoder, Registry};
use schemas::{ContextEvent, catalog::Event, topics::PARTITIONS};
use std::{path::Path, time::Duration};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long taking office may take, the reading of the log included.
const OFFICE_TIMEOUT: Duration = Duration::from_secs(300);

/// Owners in office.
pub struct Office {
    owners: Vec<OwnerHandle<Command>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Office {
    /// Starts an owner a partition; returns when all are in office. `store` is the folder for what
    /// owners keep between two processes' lives.
    pub async fn open(servers: &Servers, encoder: &Encoder, store: &Path) -> Result<Self> {
        let log = Kafka {
            source: source(servers)?,
            appender: Appender::new(&servers.kafka)?,
        };
        let disk = Disk::open(store)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut owners = Vec::new();
        for partition in 0..PARTITIONS {
            let (owner, handle) = Owner::new(
                Shelves,
                partition,
                encoder.clone(),
                log.clone(),
                disk.partition(Event::CONTEXT.topic, partition),
                OwnerSettings::new("http://127.0.0.1:0".into()),
            );
            // This process owns everything.
            let (assign, assigned) = watch::channel(true);
            let run = owner.run(stop.clone(), assigned);
            tasks.spawn(async move {
                run.await;
                drop(assign);
            });
            owners.push(handle);
        }
        tasks.close();
        let office = Self {
            owners,
            tasks,
            stop,
        };
        let all = async {
            for (partition, owner) in office.owners.iter().enumerate() {
                in_office(owner.status())
                    .await
                    .with_context(|| format!("the owner of partition {partition}"))?;
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(OFFICE_TIMEOUT, all).await;
        waited.context("not all owners are in office in time")??;
        Ok(office)
    }

    /// Asks the owner of the request's key and waits for the answer.
    pub async fn ask(&self, request: Request<Command>) -> Result<Answer> {
        let partition = kafka::partition::of_key(request.key.as_bytes(), PARTITIONS);
        let owner = usize::try_from(partition)
            .ok()
            .and_then(|index| self.owners.get(index))
            .context("there is an owner for every partition")?;
        let answer = owner.submit(request).await?.await;
        Ok(answer.context("the owner has ended")??)
    }

    /// Lets all owners end.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Where the journal is read from.
pub fn source(servers: &Servers) -> Result<Source> {
    Ok(Source {
        kafka: servers.kafka.clone(),
        admin: Admin::new(&servers.kafka)?,
        registry: Registry::new(&servers.registry)?,
    })
}

async fn in_office(mut status: watch::Receiver<Status>) -> Result<()> {
    loop {
        match &*status.borrow_and_update() {
            Status::InOffice { .. } => return Ok(()),
            Status::Ended(reason) => bail!("ended: {reason}"),
            Status::Standby | Status::TakingOver(_) | Status::Leaving => {}
        }
        status.changed().await.context("ended without a word")?;
    }
}
