//! The identity of a command: its id, which a retry shares, and the hash of its content.

use schemas::ids::CommandId;
use serde::Serialize;

/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The text whose keyed hash is the fingerprint of a hash key. No command hashes the same text: it begins
/// with the command's name, which has no blank.
const FINGERPRINTED: &[u8] = b"fingerprint of a hash key";

/// A client's name for a command, so that a retry is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// A text that is not an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("send 1 to {KEY_BYTES_MAX} printable ASCII characters")]
pub struct KeyError;

impl IdempotencyKey {
    /// Accepts 1 to [`KEY_BYTES_MAX`] printable ASCII characters.
    ///
    /// # Errors
    /// [`KeyError`]: the text is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match printable && (1..=KEY_BYTES_MAX).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err(KeyError),
        }
    }
}

/// The principal that sends a command. Until sign-in exists, every client of the loopback address is the
/// same service.
#[derive(Debug, Clone)]
pub struct Principal(pub String);

impl Principal {
    /// The only principal so far.
    pub fn import() -> Self {
        Self("service:import".into())
    }

    /// The id of a command of this principal: derived from its idempotency key, which is unique within
    /// `scope`, or random if it has none.
    pub fn command_id(&self, scope: &str, key: Option<&IdempotencyKey>) -> CommandId {
        match key {
            Some(key) => CommandId::keyed(&self.0, scope, &key.0),
            None => CommandId::fresh(),
        }
    }
}

/// A body without a canonical JSON form.
#[derive(Debug, thiserror::Error)]
#[error("the command has no canonical form: {0}")]
pub struct HashError(#[source] serde_json::Error);

/// Hashes commands under the deployment's key, so that a hash in the log does not reveal the command.
#[derive(Clone)]
pub struct Hasher {
    key: [u8; 32],
}

impl Hasher {
    /// `key` is the same for the whole deployment and never changes.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The key's fingerprint: 16 hexadecimal digits. Nodes compare them to find out whether they have the same key.
    /// They do not reveal the key.
    pub fn fingerprint(&self) -> String {
        let hash = blake3::keyed_hash(&self.key, FINGERPRINTED);
        hex::encode(&hash.as_bytes()[..8])
    }

    /// The first 16 bytes of keyed BLAKE3 over the command's name and its body's canonical JSON (RFC 8785).
    ///
    /// # Errors
    /// The body has no canonical form, which is a bug.
    pub fn hash(&self, name: &str, body: &impl Serialize) -> Result<[u8; 16], HashError> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(name.as_bytes()).update(&[0]);
        hasher.update(&serde_json_canonicalizer::to_vec(body).map_err(HashError)?);
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_idempotency_key_is_unique_within_principal_and_scope() {
        let (me, you) = (Principal("me".into()), Principal("you".into()));
        let key = IdempotencyKey::parse("k").unwrap();
        assert_eq!(
            me.command_id("R", Some(&key)),
            me.command_id("R", Some(&key))
        );
        assert_ne!(
            me.command_id("R", Some(&key)),
            you.command_id("R", Some(&key))
        );
        assert_ne!(
            me.command_id("R", Some(&key)),
            me.command_id("S", Some(&key))
        );
        assert_ne!(me.command_id("R", None), me.command_id("R", None));
    }

    #[test]
    fn an_idempotency_key_is_printable_and_bounded() {
        IdempotencyKey::parse(&"k".repeat(255)).unwrap();
        for bad in [
            String::new(),
            "k".repeat(256),
            "k\n".into(),
            "\u{e9}".into(),
        ] {
            assert_eq!(IdempotencyKey::parse(&bad), Err(KeyError), "{bad:?}");
        }
    }

    /// Fingerprints are stored in directory entries, so nodes of different versions must compute the same
    /// one.
    #[test]
    fn a_fingerprint_tells_keys_apart_and_is_final() {
        let fingerprint = Hasher::new([7; 32]).fingerprint();
        assert_eq!(fingerprint, "d28dc6cc7863310a");
        assert_ne!(fingerprint, Hasher::new([8; 32]).fingerprint());
    }

    #[test]
    fn the_hash_does_not_depend_on_how_the_json_is_written() {
        let hasher = Hasher::new([7; 32]);
        let one = hasher.hash("R", &json!({"a": 1, "b": [2]})).unwrap();
        assert_eq!(one, hasher.hash("R", &json!({"b": [2], "a": 1})).unwrap());
        assert_ne!(one, hasher.hash("R", &json!({"a": 1, "b": [3]})).unwrap());
        assert_ne!(one, hasher.hash("S", &json!({"a": 1, "b": [2]})).unwrap());
        assert_ne!(
            one,
            Hasher::new([8; 32])
                .hash("R", &json!({"a": 1, "b": [2]}))
                .unwrap()
        );
    }
}
