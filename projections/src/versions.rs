//! The versions of each view in this program, and the one that answers the view's queries.
//!
//! The list of builds says which version answers. It may name a version that this program does not have: the program
//! was replaced by an earlier one after a switch, or its code of the version was removed too early.

use crate::{
    builds::{
        Serving, VersionMissing,
        version::{split, view_of},
    },
    registration::Registration,
};

/// The versions of a view in this program. Each of them that has a build is projected.
#[derive(Clone)]
pub struct Versions {
    /// The view's name without a version.
    view: &'static str,
    /// From the oldest to the newest, at least one.
    registered: Vec<&'static Registration>,
}

impl Versions {
    /// The versions of every view, in the sequence of the views in the list.
    pub fn of_all(views: &'static [Registration]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for one in views {
            let view = view_of(one.name);
            match all.iter_mut().find(|known| known.view == view) {
                Some(known) => known.registered.push(one),
                None => all.push(Self {
                    view,
                    registered: vec![one],
                }),
            }
        }
        for versions in &mut all {
            versions.registered.sort_by_key(|one| split(one.name).1);
        }
        all
    }

    /// The versions of one view, which is named with or without a version; `None` if the list has none.
    pub fn of(name: &str, views: &'static [Registration]) -> Option<Self> {
        let mut all = Self::of_all(views).into_iter();
        all.find(|versions| versions.view == view_of(name))
    }

    /// The view's name without a version.
    pub fn view(&self) -> &'static str {
        self.view
    }

    /// From the oldest to the newest.
    pub fn all(&self) -> &[&'static Registration] {
        &self.registered
    }

    /// The newest version.
    pub fn newest(&self) -> &'static Registration {
        let newest = self.registered.last();
        newest.expect("every view has a version")
    }

    /// The version that answers the view's queries, as far as this process knows. The newest version, as long as the
    /// list of builds has not been read: its queries report this.
    ///
    /// # Errors
    /// [`VersionMissing`]: this program does not have the version that answers.
    pub fn answering(&self, serving: &Serving) -> Result<&'static Registration, VersionMissing> {
        let Some(version) = serving.version(self.view) else {
            return Ok(self.newest());
        };
        let found = self.registered.iter().find(|one| one.name == version);
        found.copied().ok_or_else(|| VersionMissing {
            view: self.view.to_owned(),
            version,
        })
    }
}
