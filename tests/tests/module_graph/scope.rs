//! The modules of a crate, and the module that each name leads to.

use super::{
    module_path::ModulePath,
    names::{self, Kind, Name, is_for_tests},
};
use std::collections::{BTreeMap, BTreeSet};
use syn::Item;

/// The modules of a crate, and the names that their files import.
pub struct Scope {
    /// Modules with a file, and modules that contain one with a file.
    modules: BTreeSet<ModulePath>,
    /// By module, the path from the root of each name that its file imports from this crate.
    imports: BTreeMap<ModulePath, BTreeMap<String, Vec<String>>>,
    for_tests: BTreeSet<ModulePath>,
}

impl Scope {
    /// Reads the files of a crate.
    pub fn of<'a>(files: impl Iterator<Item = (&'a ModulePath, &'a syn::File)> + Clone) -> Self {
        let mut scope = Self {
            modules: BTreeSet::new(),
            imports: BTreeMap::new(),
            for_tests: BTreeSet::new(),
        };
        for (module, _) in files.clone() {
            let with_parents = (1..=module.len()).map(|length| module[..length].to_vec());
            scope.modules.extend(with_parents);
        }
        for (module, file) in files {
            for item in &file.items {
                scope.read(module, item);
            }
        }
        scope
    }

    fn read(&mut self, module: &[String], item: &Item) {
        match item {
            Item::Mod(child) if is_for_tests(&child.attrs) => {
                let child = [module, &[child.ident.to_string()]].concat();
                self.for_tests.insert(child);
            }
            Item::Use(item) if !is_for_tests(&item.attrs) => {
                for import in names::imports(&item.tree) {
                    let path = self.absolute(module, &import.path);
                    if let (Some(name), Some(path)) = (import.name, path) {
                        let of_module = self.imports.entry(module.to_vec()).or_default();
                        of_module.insert(name, path);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a module, or a module that contains it, is for tests only.
    pub fn is_for_tests(&self, module: &[String]) -> bool {
        (1..=module.len()).any(|length| self.for_tests.contains(&module[..length]))
    }

    /// The path of a name from the crate's root; `None` if it leads to no other file of the crate.
    pub fn path_of(&self, name: &Name) -> Option<Vec<String>> {
        let (module, segments) = (&name.module, &name.segments);
        let ends_relative = segments.last().is_none_or(|last| is_relative(last));
        match name.kind {
            Kind::Import | Kind::Export => self.absolute(module, segments),
            // `self` is also a value.
            Kind::Code | Kind::List if ends_relative => None,
            // A variable may have the name of a child.
            Kind::Code if segments.len() == 1 => self.imported(module, segments),
            Kind::Code | Kind::List => {
                let path = self.absolute(module, segments);
                path.or_else(|| self.imported(module, segments))
            }
        }
    }

    /// The module in whose file a path ends. An import from a module's own children leads on to them; another
    /// import is the file's own item.
    pub fn module_of(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        loop {
            let depth = self.depth(&path);
            let (module, rest) = path.split_at(depth);
            let below = self
                .imported(module, rest)
                .filter(|other| other.starts_with(module) && self.depth(other) > depth);
            match below {
                Some(below) => path = below,
                None => return module.to_vec(),
            }
        }
    }

    /// The number of segments that are modules.
    fn depth(&self, path: &[String]) -> usize {
        let lengths = 1..=path.len();
        lengths
            .take_while(|length| self.modules.contains(&path[..*length]))
            .count()
    }

    /// Resolves a path that begins with `crate`, `self`, `super` or a child of the module. Returns it from the crate's
    /// root.
    fn absolute(&self, module: &[String], segments: &[String]) -> Option<Vec<String>> {
        let depth = segments.iter().take_while(|one| is_relative(one)).count();
        let (beginning, rest) = segments.split_at(depth);
        let Some(first) = beginning.first() else {
            let path = [module, rest].concat();
            let child = path.get(..=module.len())?;
            return self.modules.contains(child).then_some(path);
        };
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            _ => module.to_owned(),
        };
        for segment in beginning {
            if segment == "super" {
                base.pop()?;
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Resolves a path that begins with a name that the module's file imports. Returns it from the crate's root.
    fn imported(&self, module: &[String], segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        let import = self.imports.get(module)?.get(first)?;
        Some([import.as_slice(), rest].concat())
    }
}

/// Whether a segment of a path is `crate`, `self` or `super`.
fn is_relative(segment: &str) -> bool {
    matches!(segment, "crate" | "self" | "super")
}
