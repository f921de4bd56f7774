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
    let mut entries: HashMap<Place, Entry> = HashMap::new();
    read(kafka, &span, |record| {
        let place = record.key.as_deref().and_then(parse_key);
        let entry = record.value.as_deref().and_then(Entry::parse);
        if let Some((place, entry)) = place.zip(entry)
            && entries
                .get(&place)
                .is_none_or(|known| known.epoch < entry.epoch)
        {
            entries.insert(place, entry);
        }
        ControlFlow::Continue(())
    })
    .await?;
    Ok(entries)
}
