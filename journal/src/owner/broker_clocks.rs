//! The brokers' clocks as the owners of one process see them. If more than one broker stamps records, a
//! comparison shows which clock is wrong.

use schemas::topics::TopicPartition;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Maximum age of an agreement: an owner that serves confirms its own several times a second.
const AGREEMENT_AGE_MAX: Duration = Duration::from_secs(30);

/// The partitions whose broker's clock agrees with the machine's, and the time of the last agreement. All owners of a
/// process share one value.
#[derive(Debug, Clone, Default)]
pub struct BrokerClocks {
    agreed: Arc<Mutex<BTreeMap<TopicPartition, Duration>>>,
}

impl BrokerClocks {
    /// Records that the broker that stamps a partition agrees with the machine's clock at `uptime`.
    pub(super) fn agree(&self, partition: TopicPartition, uptime: Duration) {
        self.lock().insert(partition, uptime);
    }

    /// Records that the broker that stamps a partition disagrees with the machine's clock.
    pub(super) fn disagree(&self, partition: TopicPartition) {
        self.lock().remove(&partition);
    }

    /// The partitions whose broker agreed a short time before `uptime`.
    pub(super) fn agreeing(&self, uptime: Duration) -> Vec<TopicPartition> {
        let agreed = self.lock();
        let recent = agreed
            .iter()
            .filter(|(_, at)| uptime.saturating_sub(**at) <= AGREEMENT_AGE_MAX);
        recent.map(|(partition, _)| *partition).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Duration>> {
        self.agreed.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_counts_for_a_while_and_until_it_is_withdrawn() {
        let [first, second] = [0, 1].map(|partition| TopicPartition {
            topic: "journal.orders",
            partition,
        });
        let clocks = BrokerClocks::default();
        clocks.agree(first, Duration::from_secs(100));
        clocks.agree(second, Duration::from_secs(120));
        assert_eq!(clocks.agreeing(Duration::from_secs(130)), [first, second]);
        assert_eq!(clocks.agreeing(Duration::from_secs(131)), [second]);
        clocks.disagree(second);
        assert_eq!(clocks.agreeing(Duration::from_secs(131)), []);
    }
}
