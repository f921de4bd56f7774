//! Compares the log with the record that an owner of the partition has published as proved. Without this check,
//! a node without a state store would accept a log that has lost its end or was replaced.

use super::{
    failure::{DECLINED_RETRY, Failure},
    partition_owner::{Owner, topic},
    request::Machine,
};
use crate::{checkpoint::Checkpoint, log::Log, protocol::OwnerProtocol, rule::Hash};
use schemas::owners::ProvedRecord;
use std::time::Duration;

/// Time between two measurements of a log that seems to lack records: a broker that just became the leader may
/// report an early end until it has received fetches from the other brokers.
const SETTLE_TIME: Duration = Duration::from_secs(2);

impl<M: Machine, L: Log, P: OwnerProtocol> Owner<M, L, P> {
    /// Declines a log that ends before a record that its owner published as proved.
    pub(super) async fn check_length(
        &mut self,
        published: &ProvedRecord,
        end: i64,
    ) -> Result<(), Failure> {
        if end > published.offset {
            return Ok(());
        }
        tokio::time::sleep(SETTLE_TIME).await;
        let end = self.log.end(topic::<M>(), self.partition).await;
        let end = end.map_err(|error| Failure::Retry(error.to_string()))?;
        if end > published.offset {
            return Ok(());
        }
        Err(self.lost_log(published, &format!("ends at {end}")))
    }

    /// Declines a log that does not have a record that its owner published as proved. `found` is the hash at
    /// the record's offset, if that was read; this owner's own last record, at `start`, was confirmed.
    pub(super) fn check_published(
        &mut self,
        published: &ProvedRecord,
        start: &Checkpoint,
        found: Option<Hash>,
    ) -> Result<(), Failure> {
        // A read that ended by its time-out before this offset does not show that the log lacks the record.
        if self.core.checkpoint().next_offset <= published.offset {
            let offset = published.offset;
            let reason = format!("the published record at offset {offset} has not been read yet");
            return Err(Failure::Retry(reason));
        }
        let log_id = self.core.checkpoint().log_id;
        if log_id != Some(published.log_id) {
            let log_id = log_id.map_or_else(|| "none".to_owned(), hex::encode);
            return Err(self.lost_log(published, &format!("has the log id {log_id}")));
        }
        let found = match start.probe_offset {
            Some(probed) if probed > published.offset => Some(published.hash),
            Some(probed) if probed == published.offset => Some(start.hash),
            Some(_) | None => found,
        };
        // A failed attempt has read beyond the record, so the next attempt would start after it.
        let is_contradicted = self.contradicted == Some(*published);
        if found == Some(published.hash) && !is_contradicted {
            return Ok(());
        }
        self.contradicted = Some(*published);
        Err(self.lost_log(published, "has another record there"))
    }

    fn lost_log(&self, published: &ProvedRecord, found: &str) -> Failure {
        let (topic, partition) = (topic::<M>(), self.partition);
        let (log_id, offset) = (hex::encode(published.log_id), published.offset);
        let reason = format!(
            "the log of {topic}/{partition} was truncated or replaced: an owner published the log id \
             {log_id} and a proved record at offset {offset}, but the log {found}; restore the log, or, to \
             continue without the lost records, stop every node and delete the topic journal.owners and the \
             nodes' state directories"
        );
        Failure::Decline(DECLINED_RETRY, reason.into())
    }
}
