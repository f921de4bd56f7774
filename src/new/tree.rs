//! The source tree, and the changes of one call. The changes are collected in memory and written together, so
//! a call that fails changes nothing.

use super::{edit::EditError, format::formatted};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// A source tree of this project.
pub struct SourceTree {
    root: PathBuf,
}

impl SourceTree {
    /// The tree to which `folder` belongs.
    pub fn find(folder: &Path) -> Result<Self> {
        for root in folder.ancestors() {
            let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
            if manifest.lines().any(|line| line.trim() == "[workspace]") {
                return Ok(Self {
                    root: root.to_owned(),
                });
            }
        }
        bail!(
            "neither {} nor a folder above it has the workspace's Cargo.toml: run this command in the source tree",
            folder.display()
        )
    }

    /// The text of a file.
    pub fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| path.to_owned())
    }

    /// Whether a file or folder exists.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// A file under `folder` that contains `text`.
    pub fn file_with(&self, folder: &str, text: &str) -> Result<Option<PathBuf>> {
        let mut folders = vec![self.root.join(folder)];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read_to_string(&path).is_ok_and(|content| content.contains(text)) {
                    let path = path.strip_prefix(&self.root).unwrap_or(&path);
                    return Ok(Some(path.to_owned()));
                }
            }
        }
        Ok(None)
    }
}

/// The changes of one call.
pub struct Changes<'t> {
    /// The tree before the changes.
    pub tree: &'t SourceTree,
    created: BTreeMap<String, String>,
    changed: BTreeMap<String, String>,
}

impl<'t> Changes<'t> {
    /// Starts without changes.
    pub fn new(tree: &'t SourceTree) -> Self {
        Self {
            tree,
            created: BTreeMap::new(),
            changed: BTreeMap::new(),
        }
    }

    /// Creates a file, which must not exist.
    pub fn create(&mut self, path: String, text: String) -> Result<()> {
        ensure!(!self.tree.has(&path), "{path} already exists");
        self.created.insert(path, text);
        Ok(())
    }

    /// Edits a file, which must exist.
    pub fn edit(
        &mut self,
        path: &str,
        edit: impl FnOnce(&str) -> Result<String, EditError>,
    ) -> Result<()> {
        let pending = self.changed.get(path).or_else(|| self.created.get(path));
        let text = match pending {
            Some(text) => text.clone(),
            None => self.tree.read(path)?,
        };
        let edited = edit(&text).with_context(|| format!("can't edit {path}"))?;
        let pending = match self.created.contains_key(path) {
            true => &mut self.created,
            false => &mut self.changed,
        };
        pending.insert(path.to_owned(), edited);
        Ok(())
    }

    /// Writes everything, and returns a line of output for each file.
    pub fn write(self) -> Result<Vec<String>> {
        let created = formatted(self.created)?;
        let changed = formatted(self.changed)?;
        let mut lines = Vec::new();
        for (path, text) in &created {
            let target = self.tree.root.join(path);
            let folder = target.parent().context("a file is in a folder")?;
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            let mut file = fs::File::create_new(&target).with_context(|| path.clone())?;
            file.write_all(text.as_bytes())
                .with_context(|| path.clone())?;
            lines.push(format!("created {path}"));
        }
        for (path, text) in &changed {
            fs::write(self.tree.root.join(path), text).with_context(|| path.clone())?;
            lines.push(format!("changed {path}"));
        }
        Ok(lines)
    }
}
