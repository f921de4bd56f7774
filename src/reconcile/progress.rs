//! Waits until the readers of the journal of orders have reached a position.

use crate::serve::ProgressAnswer;
use anyhow::{Context, bail};
use schemas::{Position, context::ORDERS};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Longest wait for the views to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest wait for one answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two messages about lagging readers.
const MESSAGE_INTERVAL: Duration = Duration::from_secs(5);

/// Probes the progress of the service's readers.
pub struct Probe {
    client: reqwest::Client,
    url: String,
}

impl Probe {
    /// A probe of the service at an address such as `http://127.0.0.1:8080`.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            client: reqwest::Client::builder().timeout(PROBE_TIMEOUT).build()?,
            url: format!("{}/api/v1/admin/progress", url.trim_end_matches('/')),
        })
    }

    /// Waits until every reader of the journal, including `job`, has processed everything before `end`.
    /// Returns the progress of all readers at that time.
    pub async fn wait_until_reached(
        &self,
        job: &str,
        end: &Position,
    ) -> anyhow::Result<ProgressAnswer> {
        let (started, mut last_message) = (Instant::now(), Instant::now());
        loop {
            let waiting_for = match self.fetch().await {
                Ok(answer) => match lagging(&answer, job, end) {
                    None => return Ok(answer),
                    Some(lagging) => lagging,
                },
                Err(error) => format!("{error:#}"),
            };
            if started.elapsed() >= CATCH_UP_TIMEOUT {
                bail!(
                    "not caught up within {} s: {waiting_for}",
                    CATCH_UP_TIMEOUT.as_secs()
                );
            }
            if last_message.elapsed() > MESSAGE_INTERVAL {
                eprintln!("waiting for {waiting_for}");
                last_message = Instant::now();
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    async fn fetch(&self) -> anyhow::Result<ProgressAnswer> {
        let (client, url) = (&self.client, &self.url);
        let answer = client.get(url).send().await.with_context(|| url.clone())?;
        let answer = answer.error_for_status()?.json().await;
        answer.with_context(|| url.clone())
    }
}

/// The position of a reader in the journal of orders.
pub fn position_of(answer: &ProgressAnswer, reader: &str) -> Position {
    let of_reader = answer
        .readers
        .iter()
        .filter(|one| one.reader == reader && one.topic == ORDERS.topic);
    of_reader
        .map(|one| (one.partition, one.next_offset))
        .collect()
}

/// The first partition whose end the position has not reached, and the number of missing offsets.
pub fn missing(position: &Position, end: &Position) -> Option<(i32, i64)> {
    end.iter().find_map(|(partition, end)| {
        let reached = position.get(partition).copied().unwrap_or(0);
        (reached < *end).then_some((*partition, end - reached))
    })
}

/// The readers that have not reached `end`; `None` if all have.
fn lagging(answer: &ProgressAnswer, job: &str, end: &Position) -> Option<String> {
    let of_journal = answer
        .readers
        .iter()
        .filter(|one| one.topic == ORDERS.topic);
    let mut names: BTreeSet<&str> = of_journal.map(|one| one.reader.as_str()).collect();
    // The job may not have reported anything yet.
    names.insert(job);
    let behind: BTreeMap<&str, (i32, i64)> = names
        .into_iter()
        .filter_map(|reader| Some((reader, missing(&position_of(answer, reader), end)?)))
        .collect();
    let described = behind.iter().map(|(reader, (partition, lag))| {
        format!(
            "{reader} ({}/{partition}: {lag} records behind)",
            ORDERS.topic
        )
    });
    let described: Vec<String> = described.collect();
    (!described.is_empty()).then(|| described.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::ReaderProgress;

    fn answer(readers: &[(&str, i32, i64)]) -> ProgressAnswer {
        let readers = readers
            .iter()
            .map(|(reader, partition, next)| ReaderProgress {
                reader: (*reader).to_owned(),
                topic: ORDERS.topic.to_owned(),
                partition: *partition,
                next_offset: *next,
                // New records arrive all the time.
                end: next + 7,
                lag: 7,
            });
        ProgressAnswer {
            caught_up: false,
            readers: readers.collect(),
            results: Vec::new(),
        }
    }

    #[test]
    fn a_position_is_reached_while_new_records_arrive() {
        let end = Position::from([(0, 5), (1, 0)]);
        let reached = answer(&[("job", 0, 5), ("job", 1, 0), ("view", 0, 9)]);
        assert_eq!(lagging(&reached, "job", &end), None);
        assert_eq!(
            position_of(&reached, "job"),
            Position::from([(0, 5), (1, 0)])
        );
    }

    #[test]
    fn a_reader_that_is_behind_or_has_not_begun_is_named() {
        let end = Position::from([(0, 5)]);
        for (readers, expected) in [
            (
                vec![("job", 0, 5), ("view", 0, 3)],
                "view (journal.orders/0: 2 records behind)",
            ),
            (
                vec![("view", 0, 5)],
                "job (journal.orders/0: 5 records behind)",
            ),
        ] {
            let lagging = lagging(&answer(&readers), "job", &end);
            assert_eq!(lagging.as_deref(), Some(expected));
        }
    }
}
