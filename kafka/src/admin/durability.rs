//! The settings of a new topic that protect acknowledged records.

/// Keeps an acknowledged record on two brokers and elects no leader that lacks it, if a partition has several replicas.
pub(super) fn durability(replication_factor: i32) -> &'static [(&'static str, &'static str)] {
    match replication_factor {
        ..2 => &[],
        _ => &[
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_several_replicas_keeps_acknowledged_records_on_two_brokers() {
        // A second in-sync replica would never exist.
        assert_eq!(durability(1), []);
        for replication_factor in [2, 3] {
            let settings = durability(replication_factor);
            let expected = [
                ("min.insync.replicas", "2"),
                ("unclean.leader.election.enable", "false"),
            ];
            assert_eq!(settings, expected);
        }
    }
}
