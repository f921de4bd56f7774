//! What `journal.owners` says: by partition, the entry of the greatest epoch, as processes read it.

use super::reading::{ReadError, Span, read};
use kafka::{Admin, KafkaSettings};
use schemas::{
    owners::{Entry, Place, parse_key},
    topics::OWNERS,
};
use std::{collections::HashMap, ops::ControlFlow};

/// The entries that there are now.
pub async fn entries(
    admin: &Admin,
    kafka: &KafkaSettings,
) -> Result<HashMap<Place, Entry>, ReadError> {
    let span = Span::measure(admin, (OWNERS.name, 0)).await?;
    let mut entries = HashMap::new();
    read(kafka, &span, |record| {
        take(&mut entries, &record.key, &record.value);
        ControlFlow::Continue(())
    })
    .await?;
    Ok(entries)
}

/// The greater epoch counts, and a tombstone makes everybody forget, as processes read it; what is no
/// entry is passed over.
fn take(
    entries: &mut HashMap<Place, Entry>,
    key: &Option<impl AsRef<[u8]>>,
    value: &Option<impl AsRef<[u8]>>,
) {
    let Some(place) = key.as_ref().and_then(|key| parse_key(key.as_ref())) else {
        return;
    };
    let Some(value) = value else {
        entries.remove(&place);
        return;
    };
    if let Some(entry) = Entry::parse(value.as_ref())
        && entries
            .get(&place)
            .is_none_or(|known| known.epoch < entry.epoch)
    {
        entries.insert(place, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_epoch_counts_until_a_tombstone() {
        let entry =
            |epoch: i64| format!(r#"{{"epoch":{epoch},"term":"","url":"http://a:{epoch}"}}"#);
        let mut entries = HashMap::new();
        let mut known = |value: Option<String>| {
            take(&mut entries, &Some("journal.orders/0"), &value);
            take(&mut entries, &Some("nobody/0"), &value);
            entries
                .values()
                .map(|entry| entry.epoch)
                .collect::<Vec<_>>()
        };
        assert_eq!(known(Some(entry(7))), [7]);
        assert_eq!(known(Some(entry(2))), [7]);
        assert_eq!(known(Some("nonsense".into())), [7]);
        assert_eq!(known(None), [] as [i64; 0]);
        assert_eq!(known(Some(entry(3))), [3]);
    }
}
