//! Golden files of texts that clients hold, in `projections/golden/`.

use std::path::Path;

/// Compares a text with its golden file, which must exist; `UPDATE_GOLDEN=1 cargo test -p projections` writes a missing
/// file, and never changes one. `path` begins below `projections/golden/`.
#[track_caller]
pub fn check_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(path);
    let content = format!("{text}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &content).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert_eq!(
        golden, content,
        "{path:?} differs: texts that clients hold become invalid"
    );
}
