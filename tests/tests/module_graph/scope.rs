//! The modules behind the names of a crate's root.

use super::{ModulePath, ROOT};
use std::collections::{BTreeMap, BTreeSet};
use syn::{Item, UseTree};

/// The modules of a crate, and the names that its root exports.
pub struct Scope {
    top_level: BTreeSet<String>,
    /// By name, the module that it is exported from.
    exports: BTreeMap<String, String>,
    for_tests: BTreeSet<ModulePath>,
}

impl Scope {
    /// Reads the module tree.
    pub fn of<'a>(modules: impl Iterator<Item = (&'a ModulePath, &'a syn::File)>) -> Self {
        let mut scope = Self {
            top_level: BTreeSet::new(),
            exports: BTreeMap::new(),
            for_tests: BTreeSet::new(),
        };
        for (path, file) in modules {
            scope.top_level.extend(path.first().cloned());
            for item in &file.items {
                match item {
                    Item::Mod(module) if is_for_tests(&module.attrs) => {
                        let mut path = path.clone();
                        path.push(module.ident.to_string());
                        scope.for_tests.insert(path);
                    }
                    Item::Use(import) if path.is_empty() => {
                        scope.export(&import.tree, &[]);
                    }
                    _ => {}
                }
            }
        }
        scope
    }

    fn export(&mut self, tree: &UseTree, before: &[String]) {
        let mut insert = |name: String| {
            let first = before.iter().find(|name| !is_relative(name));
            if let Some(module) = first {
                self.exports.insert(name, module.clone());
            }
        };
        match tree {
            UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                self.export(&path.tree, &before);
            }
            UseTree::Name(name) => insert(name.ident.to_string()),
            UseTree::Rename(rename) => insert(rename.rename.to_string()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.export(tree, before);
                }
            }
            UseTree::Glob(_) => {}
        }
    }

    /// The top-level module that a path from the root leads into; `None` if it is another crate's.
    pub fn top_level_of<'a>(&'a self, path: &'a [String]) -> Option<&'a str> {
        let first = path.first()?;
        match self.exports.get(first) {
            _ if self.top_level.contains(first) => Some(first),
            Some(module) if self.top_level.contains(module) => Some(module),
            Some(_) => None,
            None => Some(ROOT),
        }
    }

    /// Whether a module, or a module that contains it, is for tests only.
    pub fn is_for_tests(&self, module: &[String]) -> bool {
        (1..=module.len()).any(|length| self.for_tests.contains(&module[..length]))
    }
}

/// Whether an item has the attribute `#[cfg(test)]`.
pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// Whether a segment of a path is `crate`, `self` or `super`.
pub fn is_relative(segment: &str) -> bool {
    matches!(segment, "crate" | "self" | "super")
}
