//! The dependencies among the modules of a crate, read from its sources with `syn`.
//!
//! Modules are found by their files, because macros declare some of them. Tests are left out, because they may
//! depend on everything.

mod names;
mod scope;

use anyhow::{Context, Result};
use scope::Scope;
use std::collections::{BTreeMap, BTreeSet};
use system_tests::source_tree::File;

/// A module's path from the crate's root; the root's is empty.
type ModulePath = Vec<String>;

/// The graph's name for the crate's root file.
const ROOT: &str = "(crate root)";

/// The dependencies among the top-level modules of a crate.
#[derive(Debug, Default)]
pub struct ModuleGraph {
    edges: BTreeMap<String, BTreeMap<String, Example>>,
}

/// One place where a module names another.
#[derive(Debug, Clone)]
struct Example {
    /// File and line.
    place: String,
    /// The name as it is written, without leading `crate::` or `super::`.
    name: String,
}

impl ModuleGraph {
    /// Reads the files below `folder`, such as `journal/src/`.
    ///
    /// # Errors
    /// A file that is not Rust.
    pub fn read(files: &[File], folder: &str) -> Result<Self> {
        let sources = files.iter().filter_map(|file| {
            let path = file.path.strip_prefix(folder)?.strip_suffix(".rs")?;
            let is_program = path.starts_with("bin/");
            (!is_program).then(|| (module_path(path), file))
        });
        let mut parsed = BTreeMap::new();
        for (module, file) in sources {
            let syntax = syn::parse_file(&file.text).with_context(|| file.path.clone())?;
            parsed.insert(module, (file.path.clone(), syntax));
        }
        let scope = Scope::of(parsed.iter().map(|(path, (_, syntax))| (path, syntax)));
        let mut graph = Self::default();
        for (module, (path, syntax)) in &parsed {
            if scope.is_for_tests(module) {
                continue;
            }
            for found in names::of(module, syntax) {
                let place = format!("{path}:{}", found.line);
                graph.add(&scope, &found, place);
            }
        }
        Ok(graph)
    }

    /// Adds the edge of a name, unless it stays within its own top-level module.
    fn add(&mut self, scope: &Scope, found: &names::Name, place: String) {
        let target = scope.top_level_of(&found.path);
        let source = found.module.first().map_or(ROOT, String::as_str);
        // The root declares its modules and exports their items, which is no dependency.
        let Some(target) = target.filter(|target| *target != source && source != ROOT) else {
            return;
        };
        let example = Example {
            place,
            name: found.path.join("::"),
        };
        self.edges
            .entry(source.to_owned())
            .or_default()
            .entry(target.to_owned())
            .or_insert(example);
    }

    /// The cycles: for each module that is in a cycle, a shortest one. A module that names an item of the crate's
    /// root counts as a cycle, because the root composes its modules.
    pub fn cycles(&self) -> Vec<String> {
        let mut cycles = Vec::new();
        let mut seen: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
        for start in self.edges.keys() {
            if let Some(cycle) = self.shortest_cycle(start)
                && seen.insert(cycle.iter().copied().collect())
            {
                cycles.push(self.describe(&cycle));
            }
        }
        let users_of_root = self.edges.iter().filter_map(|(module, targets)| {
            let example = targets.get(ROOT)?;
            Some(format!("{module} -> {ROOT}: {}", example.text()))
        });
        cycles.extend(users_of_root);
        cycles
    }

    /// The modules of a shortest path from a module back to itself.
    fn shortest_cycle<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = std::collections::VecDeque::from([start]);
        while let Some(module) = next.pop_front() {
            for target in self.edges.get(module)?.keys().map(String::as_str) {
                if target == start {
                    let mut cycle = vec![module];
                    while let Some(previous) = before.get(cycle[cycle.len() - 1]) {
                        cycle.push(previous);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if self.edges.contains_key(target) && !before.contains_key(target) {
                    before.insert(target, module);
                    next.push_back(target);
                }
            }
        }
        None
    }

    fn describe(&self, cycle: &[&str]) -> String {
        let steps = cycle.iter().enumerate().map(|(index, module)| {
            let target = cycle[(index + 1) % cycle.len()];
            format!(
                "{module} -> {target}: {}",
                self.edges[*module][target].text()
            )
        });
        steps.collect::<Vec<_>>().join("\n    ")
    }
}

impl Example {
    fn text(&self) -> String {
        format!("{} names {}", self.place, self.name)
    }
}

/// The module of a file, from its path without the ending.
fn module_path(path: &str) -> ModulePath {
    let mut parts: ModulePath = path.split('/').map(str::to_owned).collect();
    let is_root = matches!(parts.as_slice(), [only] if only == "lib" || only == "main");
    if is_root || parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let file = |(path, text): &(&str, &str)| File {
            path: format!("c/src/{path}"),
            text: (*text).to_owned(),
        };
        let files: Vec<File> = files.iter().map(file).collect();
        ModuleGraph::read(&files, "c/src/").unwrap().cycles()
    }

    #[test]
    fn modules_in_layers_have_no_cycle() {
        let files = [
            ("lib.rs", "pub mod a; pub mod b; pub use a::A;"),
            ("a.rs", "pub struct A;"),
            ("b.rs", "use crate::a::A; use std::fmt;"),
        ];
        assert_eq!(cycles(&files), Vec::<String>::new());
    }

    #[test]
    fn a_cycle_is_found_through_nested_uses_and_exports_of_the_root() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; pub use c::C;"),
            ("a.rs", "use crate::{b::{self, B}};"),
            ("b/mod.rs", "mod inner;"),
            ("b/inner.rs", "fn f() -> super::super::C { unreachable!() }"),
            ("c.rs", "mod within { fn g() { crate::a::h() } }"),
        ];
        let found = cycles(&files);
        let expected = "a -> b: c/src/a.rs:1 names b\n    \
                        b -> c: c/src/b/inner.rs:1 names C\n    \
                        c -> a: c/src/c.rs:1 names a::h";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_module_that_names_the_root_is_a_cycle_of_its_own() {
        let files = [
            ("lib.rs", "mod a; pub struct Root;"),
            ("a.rs", "use crate::Root;"),
        ];
        let found = cycles(&files);
        assert_eq!(found, ["a -> (crate root): c/src/a.rs:1 names Root"]);
    }

    #[test]
    fn macros_are_read_and_tests_are_not() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "fn f() { println!(\"{}\", crate::b::B) }"),
            (
                "b.rs",
                "#[cfg(test)] mod tests; #[cfg(test)] mod more { use crate::a; }",
            ),
            ("b/tests.rs", "use crate::a;"),
        ];
        assert_eq!(cycles(&files), Vec::<String>::new());
        let with_cycle = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "fn f() { println!(\"{}\", crate::b::B) }"),
            ("b.rs", "use crate::a;"),
        ];
        assert_eq!(cycles(&with_cycle).len(), 1);
    }
}
