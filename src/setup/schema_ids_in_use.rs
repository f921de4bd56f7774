//! The schema ids in the first and the last records of each journal partition.
//!
//! These records suffice, because a registry loses all of its data or all data since its last backup. The void rule is
//! not applied, because it would need all earlier records. So a record that no owner wrote counts too, if it has a
//! valid frame.

use crate::describe::ReadError;
use journal::frame::Frame;
use kafka::{Admin, BoundedReader, Fetch, KafkaSettings, Span, codec};
use schemas::{CONTEXTS, Context};
use std::collections::{BTreeMap, BTreeSet};

/// The number of offsets to read at each end of a partition.
const OFFSETS_MAX: i64 = 100;
/// The maximum number of sample values per schema id.
const SAMPLES_MAX: usize = 20;
/// The role in the client id at the broker.
const ROLE: &str = "schema-ids";

/// The ids, by the journal's subject. Journals that do not exist are left out.
pub async fn schema_ids_in_use(
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

/// The ids of a topic's records, with sample values of each.
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
        let mut reader = BoundedReader::start(kafka, ROLE, topic, &spans, Fetch::Small)?;
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

/// Splits a span into its first and last offsets, without overlap.
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
