//! The files of each version of a topic: `golden/<topic>/v<n>/`.

use std::{fs, path::PathBuf};

/// The newest version of a topic's golden files. To change a schema, make the folder of the next version.
pub fn newest(topic: &str) -> usize {
    let versions = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(topic);
    let Ok(entries) = fs::read_dir(versions) else {
        return 1; // A new topic.
    };
    let number = |name: &str| name.strip_prefix('v')?.parse().ok();
    let numbers = entries.map(|entry| number(entry.unwrap().file_name().to_str().unwrap()));
    numbers.flatten().max().unwrap_or(1)
}

/// The folder of a version, which may not exist yet.
pub fn folder(topic: &str, version: usize) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(topic)
        .join(format!("v{version}"))
}

/// Whether the tests write missing files.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compares with the golden file. Writes the file first if it is absent and `UPDATE_GOLDEN` is set.
#[track_caller]
pub fn check(path: PathBuf, content: &str) {
    if updating() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    let golden = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path:?}: {error}; UPDATE_GOLDEN=1 writes it"));
    assert_eq!(
        golden, content,
        "{path:?} differs: the contract has changed, which needs the folder of the next version"
    );
}

/// The schema of a version, as JSON text.
pub fn schema_text(topic: &str, version: usize) -> String {
    let path = folder(topic, version).join("schema.avsc");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The schema of a version, parsed.
pub fn schema_of(topic: &str, version: usize) -> serde_avro_fast::Schema {
    schema_text(topic, version).parse().unwrap()
}
