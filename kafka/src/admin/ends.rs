//! Measures the ends of many partitions at once.

use super::{ADMIN_TIMEOUT, Admin, AdminError};
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer};
use std::collections::{BTreeMap, BTreeSet};

impl Admin {
    /// The current ends of partitions, by topic and partition, with one request per broker. An end includes the records
    /// of open transactions. Unlike [`Admin::watermarks`], this method does not wait for a partition's leader.
    ///
    /// # Errors
    /// The brokers don't answer, or not for all of the partitions.
    pub async fn ends(
        &self,
        partitions: BTreeSet<(String, i32)>,
    ) -> Result<BTreeMap<(String, i32), i64>, AdminError> {
        let mut ends = BTreeMap::new();
        if partitions.is_empty() {
            return Ok(ends);
        }
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in &partitions {
            // The client library sends the offset as the time to look up, and this one as the protocol's "latest".
            let added =
                asked.add_partition_offset(&self.prefix.add(topic), *partition, Offset::End);
            added.map_err(|error| self.unreachable(&error))?;
        }
        let found = self.blocking(move |watcher| watcher.offsets_for_times(asked, ADMIN_TIMEOUT));
        for element in found.await?.elements() {
            let (topic, partition) = (self.prefix.strip(element.topic()), element.partition());
            element.error().map_err(|error| self.unreachable(&error))?;
            let Offset::Offset(end) = element.offset() else {
                let reason = format!("no end of topic {topic} partition {partition}");
                return Err(self.unreachable(&reason));
            };
            ends.insert((topic.to_owned(), partition), end);
        }
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::KafkaSettings;

    /// The client library refuses an empty list.
    #[tokio::test]
    async fn no_partitions_have_no_ends() {
        let admin = Admin::new(&KafkaSettings::default()).unwrap();
        let ends = admin.ends(BTreeSet::new()).await.unwrap();
        assert_eq!(ends, BTreeMap::new());
    }
}
