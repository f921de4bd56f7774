//! Compares two builds of a view row by row, and explains each difference by the events of the log.

use super::error::AdminError;
use crate::{
    builds::Build,
    cql::{CqlTables, CqlView, Session},
    difference::{Compared, Comparison},
    postgres::{PostgresTables, PostgresView},
    recorded::recorded_events,
    view::{EventReader, ViewEvent},
};
use journal::{Checkpoint, Readers, Source, Update};
use schemas::topics::PartitionCounts;
use sqlx::PgPool;
use std::{collections::BTreeMap, time::Duration};

/// Longest comparison of two tables in Postgres.
const COMPARE_TIMEOUT: &str = "SET LOCAL statement_timeout = '10min'";
/// Longest time without a record while the log is read.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The log from which differences are explained.
pub struct LogToExplain {
    /// The journals.
    pub readers: Readers,
    /// Measures the ends of the journals.
    pub source: Source,
    /// The partitions of each journal.
    pub partitions: PartitionCounts,
}

pub(super) async fn compare_postgres<V: PostgresView>(
    pool: &PgPool,
    build: Build,
    other: i32,
    limit: usize,
    log: &LogToExplain,
) -> Result<Comparison, AdminError> {
    let other = Build {
        number: other,
        ..build
    };
    let mut transaction = pool.begin().await?;
    for setting in [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        COMPARE_TIMEOUT,
    ] {
        sqlx::query(setting).execute(&mut *transaction).await?;
    }
    let compared = V::Tables::compare(build, other, limit, &mut transaction).await?;
    transaction.commit().await?;
    explain::<V::Event>(compared, log).await
}

pub(super) async fn compare_cql<V: CqlView>(
    session: &Session,
    build: Build,
    other: i32,
    limit: usize,
    log: &LogToExplain,
) -> Result<Comparison, AdminError> {
    let other = Build {
        number: other,
        ..build
    };
    let compared = V::Tables::compare(build, other, limit, session).await?;
    explain::<V::Event>(compared, log).await
}

/// Reads the log to its current end, and folds the differing rows.
async fn explain<E: ViewEvent>(
    (rows, different, mut tables): Compared<E>,
    log: &LogToExplain,
) -> Result<Comparison, AdminError> {
    let mut ends = BTreeMap::new();
    let mut starts = Vec::new();
    for topic in E::TOPICS {
        for partition in 0..log.partitions.of(topic) {
            let end = log.source.admin.watermarks(topic, partition).await?.high;
            if end > 0 {
                ends.insert(((*topic).to_owned(), partition), end);
            }
            starts.push(Checkpoint::start(topic, partition));
        }
    }
    let mut reader = E::Reader::subscribe(&log.readers, "views-diff", starts);
    while !ends.is_empty() {
        let update = tokio::time::timeout(STALL_TIMEOUT, reader.next_update()).await;
        let stalled = |_| AdminError::Stalled {
            seconds: STALL_TIMEOUT.as_secs(),
        };
        let batch = match update.map_err(stalled)?? {
            Update::Batch(batch) => batch,
            Update::Halted {
                topic,
                partition,
                error,
            } => {
                tracing::error!(topic, partition, %error, "stopped reading a partition");
                ends.retain(|(of_topic, of_end), _| {
                    (of_topic.as_str(), *of_end) != (topic, partition)
                });
                continue;
            }
            Update::Failing(error) => {
                tracing::warn!(%error, "failed to read the journal, retrying");
                continue;
            }
            Update::Recovered => continue,
        };
        let (topic, partition) = (&batch.checkpoint.topic, batch.partition);
        if let Ok(events) = recorded_events(&batch.commits) {
            for event in &events {
                for table in &mut tables {
                    table.add(topic, partition, event);
                }
            }
        }
        let position = (topic.clone(), partition);
        if ends
            .get(&position)
            .is_some_and(|end| batch.checkpoint.next_offset >= *end)
        {
            ends.remove(&position);
        }
    }
    let tables = tables.into_iter();
    Ok(Comparison {
        rows,
        different,
        differences: tables.flat_map(|table| table.finish()).collect(),
    })
}
