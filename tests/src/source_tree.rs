//! The files of the source tree that are or could be committed: all except those in `.gitignore`. Works without
//! git, so an unpacked archive is enough.

use anyhow::{Context, Result};
use std::{fs, path::Path, path::PathBuf};

/// A text file.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// The root of the source tree.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parent = tests.parent();
    parent
        .expect("this crate is a folder of the tree")
        .to_owned()
}

/// Every UTF-8 file, ordered by path.
pub fn files() -> Result<Vec<File>> {
    let root = root();
    let ignored = ignored_names(&root)?;
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if ignored.iter().any(|name| entry.file_name() == **name) {
                continue;
            } else if kind.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path
                    .strip_prefix(&root)
                    .context("a file outside the root")?;
                let path = path.to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

/// The names in `.gitignore`, which has plain names only.
fn ignored_names(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join(".gitignore")).context(".gitignore")?;
    let names = text.lines().filter(|line| !line.starts_with('#'));
    let names = names.map(|line| line.trim_matches('/').to_owned());
    Ok(names.chain([".git".to_owned()]).collect())
}
