//! What the write side needs to be told.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The section `commands` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandsSettings {
    /// A file with 64 hexadecimal digits: the key under which commands are hashed. One for the whole
    /// deployment, for ever: with another key a retried command would look like a different one. A
    /// secret, so it has no default.
    pub hash_key_file: PathBuf,
    /// Directory of the owners' state stores: a cache of the log, made if it is missing, one per
    /// process. Default `daybook-state`.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// This process's name among the command processes, each of which has another one. It keeps it
    /// after a restart, for a process that is soon back under its name gets its partitions back.
    /// Default: what `http.listen` says.
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
        /// The system's words.
        reason: String,
    },
    /// The file has something else in it.
    #[error("commands.hash_key_file {path} must hold 64 hexadecimal digits")]
    NotHex {
        /// The file.
        path: String,
    },
}

/// Reads a key of 32 bytes.
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
