//! The settings of the write side.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The section `commands` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandsSettings {
    /// A file with 64 hexadecimal digits: the key of the hashes of commands. It is the same on every node and
    /// must never change: with another key a retried command would look like a different one. A secret, so it
    /// has no default.
    pub hash_key_file: PathBuf,
    /// Directory in which the owners' state stores are created, in `daybook-store`: a cache of the log. Each node
    /// needs its own. Default: `daybook-state`.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// This node's name in the group of nodes that take commands, unique among them. Keep it across restarts:
    /// a node that restarts quickly under the same name gets its partitions back. Default: the value of
    /// `http.listen`.
    pub member: Option<String>,
}

fn default_state_dir() -> PathBuf {
    "daybook-state".into()
}

/// A hash key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HashKeyError {
    /// The file can't be read.
    #[error("commands.hash_key_file {path} can't be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's message.
        reason: String,
    },
    /// The file does not hold 64 hexadecimal digits.
    #[error("commands.hash_key_file {path} must hold 64 hexadecimal digits")]
    NotHex {
        /// The file.
        path: String,
    },
}

/// Reads the key of 32 bytes from its file.
///
/// # Errors
/// The file can't be read, or does not hold 64 hexadecimal digits.
pub fn read_hash_key(path: &Path) -> Result<[u8; 32], HashKeyError> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| HashKeyError::Unreadable {
        path: name(),
        reason: error.to_string(),
    })?;
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key)
        .map_err(|_| HashKeyError::NotHex { path: name() })?;
    Ok(key)
}
