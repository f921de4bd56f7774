//! Compares the journals' logs with what was known of them: one that was cut off, replaced, or made for
//! another number of partitions must not be written to.

use commands::WriteSide;
use journal::{
    Source,
    genesis::{Genesis, GenesisError, geneses},
    owner::Proved,
    rule::Hash,
};
use kafka::admin::AdminError;
use schemas::{owners::Place, topics::TopicSpec};
use std::{collections::HashMap, time::Duration};
use tokio::time::sleep;

/// How long a broker may tell of an end that it knew to be further: one that was made leader just now
/// may have to hear from the others first.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The logs, as far as they are known.
pub struct Logs {
    source: Source,
    write_side: WriteSide,
    /// The names of those that were read before.
    seen: HashMap<Place, Hash>,
}

impl Logs {
    /// Nothing is known but what the owners have read.
    pub fn new(source: Source, write_side: WriteSide) -> Self {
        Self {
            source,
            write_side,
            seen: HashMap::new(),
        }
    }

    /// Compares the logs of a journal.
    ///
    /// # Errors
    /// [`AdminError::Mismatch`]: one is not what it was. Another: that can't be told now.
    pub async fn check(&mut self, topic: &TopicSpec) -> Result<(), AdminError> {
        let geneses = geneses(&self.source, topic.name, topic.partitions).await;
        let geneses = geneses.map_err(|error| told(topic, error))?;
        for partition in 0..topic.partitions {
            let place = (topic.name, partition);
            // Asked before the log's end, which so can't be less.
            let proved = self.write_side.proved(place);
            let genesis = geneses.get(&partition);
            let known = [
                self.seen.get(&place).copied(),
                proved.map(|proved| proved.log_id),
            ];
            compare(topic, partition, genesis, &known)?;
            if let Some(genesis) = genesis {
                self.seen.insert(place, genesis.log_id);
            }
            if let Some(proved) = proved {
                self.check_end(topic, partition, proved).await?;
            }
        }
        Ok(())
    }

    async fn check_end(
        &self,
        topic: &TopicSpec,
        partition: i32,
        proved: Proved,
    ) -> Result<(), AdminError> {
        let end = async || {
            let marks = self.source.admin.watermarks(topic.name, partition).await?;
            Ok::<_, AdminError>(marks.high)
        };
        let mut found = end().await?;
        if found < proved.next_offset {
            sleep(SETTLE_TIME).await;
            found = end().await?;
        }
        compare_end(topic, partition, found, proved)
    }
}

/// A log's beginning, if it has one, with what it was; `known` are the names that it was seen under.
fn compare(
    topic: &TopicSpec,
    partition: i32,
    genesis: Option<&Genesis>,
    known: &[Option<Hash>],
) -> Result<(), AdminError> {
    if let Some(genesis) = genesis
        && genesis.partitions != topic.partitions
    {
        let expected = format!(
            "{}, as the first announcement in partition {partition} says",
            genesis.partitions
        );
        let found = topic.partitions.to_string();
        return Err(mismatch(topic, "partitions".into(), expected, found));
    }
    let log_id = genesis.map(|genesis| genesis.log_id);
    match known.iter().flatten().find(|known| Some(**known) != log_id) {
        None => Ok(()),
        Some(known) => {
            let property = format!("log id of partition {partition}");
            let found = log_id.map_or_else(|| "none".to_owned(), hex::encode);
            let known = hex::encode(known);
            Err(mismatch(topic, property, known, found))
        }
    }
}

/// A log's end with what its owner has proved.
fn compare_end(
    topic: &TopicSpec,
    partition: i32,
    end: i64,
    proved: Proved,
) -> Result<(), AdminError> {
    if end >= proved.next_offset {
        return Ok(());
    }
    let property = format!("end of partition {partition}");
    let expected = format!("{} or more, for so much is proved", proved.next_offset);
    Err(mismatch(topic, property, expected, end.to_string()))
}

fn mismatch(topic: &TopicSpec, property: String, expected: String, found: String) -> AdminError {
    AdminError::Mismatch {
        topic: topic.name.to_owned(),
        property,
        expected,
        found,
    }
}

/// What a beginning that can't be told says of the topic.
fn told(topic: &TopicSpec, error: GenesisError) -> AdminError {
    match error {
        GenesisError::Admin(error) => error,
        GenesisError::Alarm(alarm) => mismatch(
            topic,
            "beginning".into(),
            "as it was written".into(),
            format!("altered ({alarm})"),
        ),
        error @ (GenesisError::Consumer(_) | GenesisError::Slow { .. }) => AdminError::Refused {
            topic: topic.name.to_owned(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::topics::TOPICS;

    const GENESIS: Genesis = Genesis {
        log_id: [1; 32],
        partitions: 4,
    };

    fn says(compared: Result<(), AdminError>, words: &str) {
        let error = compared.unwrap_err();
        assert!(matches!(error, AdminError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn a_log_is_the_one_that_it_was() {
        let topic = &TOPICS[0];
        let compared = |genesis, known: &[Option<Hash>]| compare(topic, 2, Some(&genesis), known);
        assert!(compared(GENESIS, &[Some([1; 32]), None]).is_ok());
        // One that is new has no beginning yet; one that was seen must not have lost it.
        assert!(compare(topic, 2, None, &[None, None]).is_ok());
        says(
            compare(topic, 2, None, &[Some([1; 32]), None]),
            "log id of partition 2 = none",
        );
        says(
            compared(GENESIS, &[Some([1; 32]), Some([2; 32])]),
            "log id of partition 2 = 0101",
        );
        let other = Genesis {
            partitions: 8,
            ..GENESIS
        };
        says(
            compared(other, &[None, None]),
            "partitions = 4, it must be 8, as the first announcement in partition 2",
        );
    }

    #[test]
    fn a_log_does_not_get_shorter() {
        let proved = Proved {
            log_id: [1; 32],
            next_offset: 7,
        };
        assert!(compare_end(&TOPICS[0], 1, 7, proved).is_ok());
        says(
            compare_end(&TOPICS[0], 1, 6, proved),
            "end of partition 1 = 6, it must be 7 or more",
        );
    }
}
