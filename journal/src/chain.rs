//! The hash chain over a partition's valid records.

/// A link of the chain: BLAKE3, 32 bytes.
pub type Hash = [u8; 32];

/// h(0), the start of the chain: it binds a log to its topic and partition.
pub fn genesis_hash(topic: &str, partition: i32) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"daybook/1");
    hasher.update(&length_prefix(topic.as_bytes()));
    hasher.update(topic.as_bytes());
    hasher.update(&partition.to_be_bytes());
    hasher.finalize().into()
}

/// h(n): the chain's hash after a valid record, computed from the hash before it. `value` includes the
/// 5 bytes of wire header.
pub fn chain_hash(before: &Hash, key: &[u8], value: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&length_prefix(key));
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().into()
}

/// The length prefix keeps a variable-length field from running into the next one.
fn length_prefix(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len())
        .expect("a Kafka record and a topic's name are below 2 GiB")
        .to_be_bytes()
}
