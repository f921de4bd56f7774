//! Divides the rows of a batch into write requests.
//!
//! A request costs the store and the projector more than a row in it. So the rows of a partition are written together.
//! If a batch has more partitions than requests in flight, a request has several partitions, as an unlogged batch. They
//! have the same replicas, so the node that gets the request stores them all. Such a request may be executed in part,
//! like the batch of commits that it belongs to: each of its writes has its own timestamp and may be repeated.

use super::apply::REQUESTS_MAX;
use std::collections::BTreeMap;

/// Maximum number of rows in one request.
pub(super) const ROWS_PER_REQUEST_MAX: usize = 100;
/// Maximum number of partitions in one request. Cassandra logs a warning if there are more
/// (`unlogged_batch_across_partitions_warn_threshold`).
const PARTITIONS_PER_REQUEST_MAX: usize = 10;
/// Maximum size of the values in a request with several partitions, in bytes. Cassandra refuses such a request above
/// 50 KiB (`batch_size_fail_threshold`), and logs a warning above 5 KiB. Its count includes the timestamp of each
/// value.
const SHARED_REQUEST_BYTES_MAX: usize = 2 << 10;

/// The replicas of a partition in ascending order: the id of each node, and a shard of this node.
pub(super) type Replicas = Vec<(u128, u32)>;

/// Rows of one partition, at most [`ROWS_PER_REQUEST_MAX`].
#[derive(Debug)]
pub(super) struct PartitionRows<Row> {
    /// The replicas of the partition.
    pub replicas: Replicas,
    /// The rows.
    pub rows: Vec<Row>,
    /// The size of their values, in bytes.
    pub bytes: usize,
}

/// A request to which partitions are added.
struct Request<Row> {
    partitions: usize,
    rows: Vec<Row>,
    bytes: usize,
}

/// The rows of each request.
pub(super) fn write_requests<Row>(partitions: Vec<PartitionRows<Row>>) -> Vec<Vec<Row>> {
    let needed = partitions.len().div_ceil(REQUESTS_MAX);
    let partitions_max = needed.min(PARTITIONS_PER_REQUEST_MAX);
    let mut requests: Vec<Request<Row>> = Vec::new();
    // The last request to each set of replicas, by its index.
    let mut last: BTreeMap<Replicas, usize> = BTreeMap::new();
    for partition in partitions {
        let index = last.get(&partition.replicas).copied();
        match index.and_then(|index| requests.get_mut(index)) {
            Some(request) if request.has_room(&partition, partitions_max) => {
                request.add(partition);
            }
            Some(_) | None => {
                last.insert(partition.replicas, requests.len());
                requests.push(Request {
                    partitions: 1,
                    rows: partition.rows,
                    bytes: partition.bytes,
                });
            }
        }
    }
    requests.into_iter().map(|request| request.rows).collect()
}

impl<Row> Request<Row> {
    fn has_room(&self, partition: &PartitionRows<Row>, partitions_max: usize) -> bool {
        self.partitions < partitions_max
            && self.rows.len() + partition.rows.len() <= ROWS_PER_REQUEST_MAX
            && self.bytes + partition.bytes <= SHARED_REQUEST_BYTES_MAX
    }

    fn add(&mut self, partition: PartitionRows<Row>) {
        self.partitions += 1;
        self.rows.extend(partition.rows);
        self.bytes += partition.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of a row's values in these tests.
    const ROW_BYTES: usize = 100;

    /// A partition with rows that are named after it.
    fn partition(node: u128, name: usize, rows: usize) -> PartitionRows<usize> {
        PartitionRows {
            replicas: vec![(node, 0)],
            rows: vec![name; rows],
            bytes: rows * ROW_BYTES,
        }
    }

    /// Partitions of one row each, which the same node stores.
    fn partitions(count: usize) -> Vec<PartitionRows<usize>> {
        (0..count).map(|name| partition(1, name, 1)).collect()
    }

    fn lengths(requests: &[Vec<usize>]) -> Vec<usize> {
        requests.iter().map(Vec::len).collect()
    }

    #[test]
    fn every_partition_is_a_request_if_all_requests_can_be_in_flight() {
        let requests = write_requests(partitions(REQUESTS_MAX));
        assert_eq!(lengths(&requests), [1; REQUESTS_MAX]);
    }

    #[test]
    fn more_partitions_share_the_requests_in_flight() {
        let requests = write_requests(partitions(3 * REQUESTS_MAX));
        assert_eq!(lengths(&requests), [3; REQUESTS_MAX]);
    }

    #[test]
    fn every_row_is_in_one_request() {
        let count = 5 * REQUESTS_MAX + 1;
        let mut rows = write_requests(partitions(count)).concat();
        rows.sort_unstable();
        assert_eq!(rows, Vec::from_iter(0..count));
    }

    #[test]
    fn a_request_has_at_most_as_many_partitions_as_cassandra_accepts_without_a_warning() {
        let requests = write_requests(partitions(20 * PARTITIONS_PER_REQUEST_MAX * REQUESTS_MAX));
        let expected = [PARTITIONS_PER_REQUEST_MAX; 20 * REQUESTS_MAX];
        assert_eq!(lengths(&requests), expected);
    }

    #[test]
    fn partitions_of_different_replicas_share_no_request() {
        let alternating = (0..2 * REQUESTS_MAX).map(|name| {
            let node = u128::from(name % 2 == 0);
            partition(node, name, 1)
        });
        for request in write_requests(alternating.collect()) {
            let of_first = request.iter().filter(|name| *name % 2 == 0).count();
            assert!(
                of_first == 0 || of_first == request.len(),
                "{of_first} of {request:?} have the replicas of partition 0"
            );
        }
    }

    #[test]
    fn a_shared_request_is_small() {
        let rows = SHARED_REQUEST_BYTES_MAX / ROW_BYTES / 2;
        let many = (0..4 * REQUESTS_MAX).map(|name| partition(1, name, rows));
        let requests = write_requests(many.collect());
        assert_eq!(lengths(&requests), [2 * rows; 2 * REQUESTS_MAX]);
    }

    #[test]
    fn a_partition_that_is_larger_than_a_shared_request_is_a_request() {
        let rows = SHARED_REQUEST_BYTES_MAX / ROW_BYTES + 1;
        let many = (0..2 * REQUESTS_MAX).map(|name| partition(1, name, rows));
        let requests = write_requests(many.collect());
        assert_eq!(lengths(&requests), [rows; 2 * REQUESTS_MAX]);
    }
}
