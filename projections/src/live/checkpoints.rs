//! Checkpoints of the journal, some distance apart, at which a reader for a returning client can start.

use journal::Checkpoint;
use std::collections::BTreeMap;

/// Initial distance between two checkpoints of a partition, in offsets.
const DISTANCE_MIN: i64 = 1_024;
/// Maximum number of checkpoints per partition. Beyond it, every second checkpoint is dropped and the distance doubles.
const CHECKPOINTS_MAX: usize = 256;

/// The checkpoints of one partition.
#[derive(Debug)]
pub struct SparseCheckpoints {
    /// By the offset at which reading resumes.
    kept: BTreeMap<i64, Checkpoint>,
    distance: i64,
}

impl Default for SparseCheckpoints {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            distance: DISTANCE_MIN,
        }
    }
}

impl SparseCheckpoints {
    /// Stores a checkpoint, unless another one is near.
    pub fn add(&mut self, checkpoint: &Checkpoint) {
        let offset = checkpoint.resume_offset();
        let near = offset.saturating_sub(self.distance - 1)..offset.saturating_add(self.distance);
        if self.kept.range(near).next().is_some() {
            return;
        }
        self.kept.insert(offset, checkpoint.clone());
        if self.kept.len() > CHECKPOINTS_MAX {
            let mut is_odd = false;
            self.kept.retain(|_, _| {
                is_odd = !is_odd;
                is_odd
            });
            self.distance = self.distance.saturating_mul(2);
        }
    }

    /// The last checkpoint from which a reader reads the record at an offset.
    pub fn before(&self, offset: i64) -> Option<&Checkpoint> {
        self.kept.range(..=offset).next_back().map(|(_, kept)| kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(offset: i64) -> Checkpoint {
        Checkpoint {
            next_offset: offset + 9,
            probe_offset: Some(offset - 1),
            ..Checkpoint::start("journal.probe", 0)
        }
    }

    #[test]
    fn a_reader_starts_at_the_last_checkpoint_before_its_offset() {
        let mut checkpoints = SparseCheckpoints::default();
        for offset in [5_000, 1_000, 1_500] {
            checkpoints.add(&checkpoint(offset));
        }
        let found = |offset| checkpoints.before(offset).map(Checkpoint::resume_offset);
        assert_eq!(found(999), None);
        assert_eq!(found(1_000), Some(1_000));
        assert_eq!(found(4_999), Some(1_000), "1,500 is too close to 1,000");
        assert_eq!(found(5_000), Some(5_000));
    }

    #[test]
    fn their_number_is_bounded_over_a_long_log() {
        let mut checkpoints = SparseCheckpoints::default();
        for offset in (1..2_000_000).step_by(500) {
            checkpoints.add(&checkpoint(offset));
        }
        let kept = checkpoints.kept.len();
        let expected = CHECKPOINTS_MAX / 2..=CHECKPOINTS_MAX;
        assert!(expected.contains(&kept), "{kept} instead of {expected:?}");
        let farthest = checkpoints.kept.keys().zip(checkpoints.kept.keys().skip(1));
        let farthest = farthest.map(|(one, next)| next - one).max();
        assert!(
            farthest.is_some_and(|distance| distance <= 20_000),
            "{farthest:?} instead of at most 20,000"
        );
    }
}
