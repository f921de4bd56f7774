//! The partition of a key.

/// murmur2's seed in Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`).
const SEED: u32 = 0x9747_b28c;

/// The partition of a key among `partitions`, as the Java client's default partitioner computes it.
///
/// # Panics
/// `partitions` is 0.
pub fn of_key(key: &[u8], partitions: i32) -> i32 {
    let positive = (murmur2::murmur2(key, SEED) & 0x7fff_ffff).cast_signed();
    positive % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the Java client's own `UtilsTest.testMurmur2`.
    #[test]
    fn agrees_with_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(
                murmur2::murmur2(key.as_bytes(), SEED).cast_signed(),
                hash,
                "{key}"
            );
            assert_eq!(of_key(key.as_bytes(), 4), (hash & 0x7fff_ffff) % 4);
        }
    }
}
