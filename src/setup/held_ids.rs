//! The schema ids that the journals hold: those of the first and of the last records of each partition.
//!
//! A registry loses all its data, or all since its last backup, so these records show it. Records are not judged by
//! the void rule, which would need all records before them: one that no owner wrote counts if it has a frame.

use crate::describe::ReadError;
use journal::frame::Frame;
use kafka::{Admin, BoundedReader, Fetch, KafkaSettings, Span, codec};
use schemas::{CONTEXTS, Context};
use std::collections::{BTreeMap, BTreeSet};

/// Offsets read at the beginning of each partition, and as many at its end.
const OFFSETS_MAX: i64 = 100;
/// Most data of one id that are kept.
const SAMPLES_MAX: usize = 20;
/// The name of our clients at the broker.
const ROLE: &str = "schema-ids";

/// The ids, by the subject of the journal. A journal that does not exist holds none.
pub async fn held_ids(
    admin: &Admin,
    kafka: &KafkaSettings,
) -> Result<BTreeMap<String, BTreeSet<u32>>, ReadError> {
    let mut held = BTreeMap::new();
    for context in CONTEXTS {
        if admin.exists(context.topic).await? {
            let samples = samples(admin, kafka, context.topic).await?;
            held.insert(context.subject.to_owned(), samples.into_keys().collect());
        }
    }
    Ok(held)
}

/// The ids that a topic's records have, with the data of some of them.
pub async fn samples(
    admin: &Admin,
    kafka: &KafkaSettings,
    topic: &str,
) -> Result<BTreeMap<u32, Vec<Vec<u8>>>, ReadError> {
    let is_journal = Context::of_topic(topic).is_some();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for partition in 0..admin.partitions(topic).await? {
        let whole = Span::measure(admin, topic, partition).await?;
        let [beginning, end] = parts(whole);
        first.push(beginning);
        last.push(end);
    }
    let mut samples: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for spans in [first, last] {
        let mut reader = BoundedReader::start(kafka, ROLE, topic, &spans, Fetch::Sparing)?;
        while let Some(records) = reader.next().await? {
            let values = records.iter().filter_map(|record| record.value.as_deref());
            for value in values.filter(|value| !is_journal || Frame::read(value).is_ok()) {
                if let Ok((id, datum)) = codec::split(value) {
                    let of_id = samples.entry(id).or_default();
                    if of_id.len() < SAMPLES_MAX {
                        of_id.push(datum.to_owned());
                    }
                }
            }
        }
    }
    Ok(samples)
}

/// The beginning and the end of a span, which don't overlap.
fn parts(whole: Span) -> [Span; 2] {
    let beginning = Span {
        end: whole.end.min(whole.low.saturating_add(OFFSETS_MAX)),
        ..whole
    };
    let end = Span {
        low: beginning.end.max(whole.end.saturating_sub(OFFSETS_MAX)),
        ..whole
    };
    [beginning, end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_partition_are_read_once() {
        let parts = |low, end| {
            let partition = 3;
            let span = |(low, end)| Span {
                partition,
                low,
                end,
            };
            parts(span((low, end))).map(|part| (part.low, part.end))
        };
        assert_eq!(parts(0, 0), [(0, 0), (0, 0)]);
        assert_eq!(parts(0, 7), [(0, 7), (7, 7)]);
        assert_eq!(parts(5, 155), [(5, 105), (105, 155)]);
        assert_eq!(parts(5, 1_000), [(5, 105), (900, 1_000)]);
    }
}
