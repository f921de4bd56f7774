//! The state store's own directory, inside the directory that the settings name.
//!
//! It is ours if it has our marker file, which names the format of everything in it. Only such a directory is
//! ever moved or, as the oldest of several that were set aside, removed. A lock on the marker keeps other
//! processes away, with any format.

use super::database::FORMAT;
use crate::store::StoreError;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Our directory, inside the directory that the settings name.
const NAME: &str = "daybook-store";
/// The marker file in it.
const MARKER: &str = "format";
/// The beginning of its content; the number of the format follows.
const MAGIC: &str = "daybook state store, format ";
/// Maximum number of bytes that are read of the marker.
const MARKER_BYTES_MAX: u64 = 64;
/// The library's directory in ours.
const DATABASE: &str = "database";
/// The text between the name and the number of a directory that was set aside.
const ASIDE: &str = ".aside-";
/// Maximum number of directories that are kept after they were set aside. The oldest ones are removed.
const KEPT_MAX: usize = 2;

/// Our directory, locked.
#[derive(Debug)]
pub(super) struct Directory {
    /// The directory of the settings.
    parent: PathBuf,
    /// Holds the lock.
    _marker: File,
}

impl Directory {
    /// Locks our directory in `parent`, or creates it. One of another format is set aside.
    pub fn open(parent: &Path) -> Result<Self, StoreError> {
        let own = parent.join(NAME);
        let unavailable = |error: io::Error| unavailable(&own, &error);
        fs::create_dir_all(&own).map_err(unavailable)?;
        if !is_ours(&own).map_err(unavailable)? && !is_empty(&own).map_err(unavailable)? {
            return Err(StoreError::ForeignDirectory { path: text(&own) });
        }
        let mut marker = lock_marker(&own)?;
        let written = read_marker(&mut marker).map_err(unavailable)?;
        let directory = Self {
            parent: parent.to_owned(),
            _marker: marker,
        };
        match format(&written) {
            Some(FORMAT) => Ok(directory),
            Some(other) => directory.set_aside(&format!("it has format {other}")),
            None => {
                directory.mark().map_err(unavailable)?;
                Ok(directory)
            }
        }
    }

    /// The directory of the library's files.
    pub fn database(&self) -> PathBuf {
        self.parent.join(NAME).join(DATABASE)
    }

    /// Renames our directory, whose database must be closed, and creates an empty one.
    pub fn set_aside(self, reason: &str) -> Result<Self, StoreError> {
        let own = self.parent.join(NAME);
        let unavailable = |error: io::Error| unavailable(&own, &error);
        let kept = aside(&self.parent).map_err(unavailable)?;
        let number = kept.last().map_or(1, |(number, _)| number + 1);
        let target = self.parent.join(format!("{NAME}{ASIDE}{number}"));
        fs::rename(&own, &target).map_err(unavailable)?;
        sync(&self.parent).map_err(unavailable)?;
        let target = target.display();
        tracing::warn!(%target, reason, "state store was set aside, it will be rebuilt from the log");
        let excess = (kept.len() + 1).saturating_sub(KEPT_MAX);
        for (_, path) in kept.iter().take(excess) {
            if let Err(error) = fs::remove_dir_all(path) {
                let path = path.display();
                tracing::warn!(%path, %error, "state store that was set aside can't be removed");
            }
        }
        let parent = self.parent.clone();
        // The lock is on the marker that moved away.
        drop(self);
        Self::open(&parent)
    }

    /// Writes the marker. Only then is anything else created in the directory.
    fn mark(&self) -> io::Result<()> {
        let own = self.parent.join(NAME);
        let mut marker = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(own.join(MARKER))?;
        writeln!(marker, "{MAGIC}{FORMAT}")?;
        marker.sync_all()?;
        sync(&own)?;
        sync(&self.parent)
    }
}

/// Opens the marker, or creates it, and locks it.
fn lock_marker(own: &Path) -> Result<File, StoreError> {
    let marker = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(own.join(MARKER));
    let marker = marker.map_err(|error| unavailable(own, &error))?;
    match marker.try_lock() {
        Ok(()) => Ok(marker),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: text(own) }),
        Err(TryLockError::Error(error)) => Err(unavailable(own, &error)),
    }
}

fn read_marker(marker: &mut File) -> io::Result<String> {
    marker.rewind()?;
    let mut written = Vec::new();
    marker.take(MARKER_BYTES_MAX).read_to_end(&mut written)?;
    Ok(String::from_utf8_lossy(&written).into_owned())
}

/// The format that a marker names; `None` if it has another form, or was cut off while it was written.
fn format(written: &str) -> Option<u32> {
    let number = written.strip_prefix(MAGIC)?.strip_suffix('\n')?;
    number.parse().ok()
}

/// Whether the directory has our marker.
fn is_ours(own: &Path) -> io::Result<bool> {
    match File::open(own.join(MARKER)) {
        Ok(mut marker) => Ok(format(&read_marker(&mut marker)?).is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the directory has nothing but at most a marker that was cut off while it was written.
fn is_empty(own: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(own)? {
        let entry = entry?;
        let is_cut_off = entry.file_name() == MARKER && {
            let written = fs::read(entry.path())?;
            MAGIC.as_bytes().starts_with(&written) || written.starts_with(MAGIC.as_bytes())
        };
        if !is_cut_off {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The directories of ours that were set aside, the oldest first.
fn aside(parent: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(NAME)?.strip_prefix(ASIDE)?.parse().ok());
        if let Some(number) = number
            && is_ours(&entry.path())?
        {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes the names in a directory durable.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn unavailable(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable {
        path: text(path),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_empty_directory_becomes_ours_and_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("new").join("state");
        let directory = Directory::open(&parent).unwrap();
        let marker = fs::read_to_string(parent.join(NAME).join(MARKER)).unwrap();
        assert_eq!(marker, format!("{MAGIC}{FORMAT}\n"));
        let second = Directory::open(&parent).unwrap_err();
        assert!(
            matches!(second, StoreError::InUse { .. }),
            "{second:?} instead of StoreError::InUse"
        );
        drop(directory);
        Directory::open(&parent).unwrap();
    }

    #[test]
    fn a_directory_with_files_of_others_is_refused_and_left_as_it_is() {
        for marker in [None, Some("another program's marker\n"), Some("")] {
            let folder = tempfile::tempdir().unwrap();
            let own = folder.path().join(NAME);
            fs::create_dir(&own).unwrap();
            fs::write(own.join("letter.txt"), "dear").unwrap();
            if let Some(marker) = marker {
                fs::write(own.join(MARKER), marker).unwrap();
            }
            let before = names(&own);
            let refused = Directory::open(folder.path()).unwrap_err();
            assert!(
                matches!(refused, StoreError::ForeignDirectory { .. }),
                "{refused:?} instead of StoreError::ForeignDirectory"
            );
            assert_eq!(names(&own), before, "{marker:?}");
            let letter = fs::read_to_string(own.join("letter.txt")).unwrap();
            assert_eq!(letter, "dear");
            assert_eq!(names(folder.path()), [NAME]);
        }
    }

    #[test]
    fn a_marker_that_was_cut_off_is_written_again() {
        for cut_off in ["", "daybook st", MAGIC] {
            let folder = tempfile::tempdir().unwrap();
            let own = folder.path().join(NAME);
            fs::create_dir(&own).unwrap();
            fs::write(own.join(MARKER), cut_off).unwrap();
            Directory::open(folder.path()).unwrap();
            let marker = fs::read_to_string(own.join(MARKER)).unwrap();
            assert_eq!(marker, format!("{MAGIC}{FORMAT}\n"), "{cut_off:?}");
        }
    }

    #[test]
    fn a_directory_of_another_format_is_set_aside_unless_a_process_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(NAME);
        let directory = Directory::open(folder.path()).unwrap();
        let other = format!("{MAGIC}{}\n", FORMAT + 1);
        fs::write(own.join(MARKER), &other).unwrap();
        let used = Directory::open(folder.path()).unwrap_err();
        assert!(
            matches!(used, StoreError::InUse { .. }),
            "{used:?} instead of StoreError::InUse"
        );
        drop(directory);
        Directory::open(folder.path()).unwrap();
        let kept = folder.path().join(format!("{NAME}{ASIDE}1"));
        assert_eq!(fs::read_to_string(kept.join(MARKER)).unwrap(), other);
    }

    #[test]
    fn few_directories_are_kept_aside_and_foreign_ones_are_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join(format!("{NAME}{ASIDE}0"));
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("letter.txt"), "dear").unwrap();
        let mut directory = Directory::open(folder.path()).unwrap();
        for _ in 0..KEPT_MAX + 2 {
            fs::create_dir(directory.database()).unwrap();
            directory = directory.set_aside("a test").unwrap();
            assert_eq!(names(&folder.path().join(NAME)), [MARKER]);
        }
        let expected = ["", ".aside-0", ".aside-3", ".aside-4"].map(|end| format!("{NAME}{end}"));
        assert_eq!(names(folder.path()), expected);
        assert_eq!(names(&foreign), ["letter.txt"]);
    }
}
