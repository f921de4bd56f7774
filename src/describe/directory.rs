//! Reads `journal.owners` by the rule of the nodes: for each partition, the last entry with the greatest epoch counts.

use super::reading::{ReadError, read};
use kafka::{Admin, KafkaSettings, Span};
use schemas::{
    owners::{Entry, parse_key},
    topics::{OWNERS, TopicPartition},
};
use std::{collections::HashMap, ops::ControlFlow};

/// The current entry of each partition.
pub async fn entries(
    admin: &Admin,
    kafka: &KafkaSettings,
) -> Result<HashMap<TopicPartition, Entry>, ReadError> {
    let span = Span::measure(admin, OWNERS.name, 0).await?;
    let mut entries = HashMap::new();
    read(kafka, OWNERS.name, span, |record| {
        take(&mut entries, &record.key, &record.value);
        ControlFlow::Continue(())
    })
    .await?;
    Ok(entries)
}

/// Applies a record as nodes do: the last entry with the greatest epoch wins, and a tombstone deletes the entry.
/// Invalid keys and values are skipped.
fn take(
    entries: &mut HashMap<TopicPartition, Entry>,
    key: &Option<impl AsRef<[u8]>>,
    value: &Option<impl AsRef<[u8]>>,
) {
    let Some(topic_partition) = key.as_ref().and_then(|key| parse_key(key.as_ref())) else {
        return;
    };
    let Some(value) = value else {
        entries.remove(&topic_partition);
        return;
    };
    if let Some(entry) = Entry::parse(value.as_ref())
        && entries
            .get(&topic_partition)
            .is_none_or(|known| known.epoch <= entry.epoch)
    {
        entries.insert(topic_partition, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_epoch_wins_until_a_tombstone() {
        let entry =
            |epoch: i64| format!(r#"{{"epoch":{epoch},"term":"","url":"http://a:{epoch}"}}"#);
        let mut entries = HashMap::new();
        let mut epochs = |value: Option<String>| {
            take(&mut entries, &Some("journal.orders/0"), &value);
            take(&mut entries, &Some("unknown/0"), &value);
            entries
                .values()
                .map(|entry| entry.epoch)
                .collect::<Vec<_>>()
        };
        assert_eq!(epochs(Some(entry(7))), [7]);
        assert_eq!(epochs(Some(entry(2))), [7]);
        assert_eq!(epochs(Some("nonsense".into())), [7]);
        assert_eq!(epochs(None), [] as [i64; 0]);
        assert_eq!(epochs(Some(entry(3))), [3]);
    }

    #[test]
    fn the_later_entry_of_two_with_one_epoch_wins() {
        let mut entries = HashMap::new();
        for url in ["http://a", "http://b"] {
            let entry = format!(r#"{{"epoch":7,"term":"","url":"{url}"}}"#);
            take(&mut entries, &Some("journal.orders/0"), &Some(entry));
        }
        let urls: Vec<_> = entries.values().map(|entry| entry.url.as_str()).collect();
        assert_eq!(urls, ["http://b"]);
    }
}
