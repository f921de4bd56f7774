//! The dependencies among the modules of a crate, read from its sources with `syn`.
//!
//! The rule holds at each level of the module tree: the children of a module and the module's own file name each
//! other in one direction.
//! - A name counts as a use of the file that defines it, and of every module that contains this file. If a file
//!   imports a name from its own children, the name leads on to the child; any other import is the file's own item.
//! - A file that declares its children and re-exports their items does not use them. So the children may use the items
//!   that this file defines.
//! - No module may name an item of the crate's root file, because this file composes the crate.
//! - A call of a method names no file. So the `impl` blocks of a type may be in several files.
//!
//! Modules are found by their files, because macros declare some of them. Tests are left out, because they may
//! depend on everything.

mod level;
mod module_path;
mod names;
mod scope;

use anyhow::{Context, Result};
use level::{Example, Level};
use module_path::ModulePath;
use names::{Kind, Name};
use scope::Scope;
use std::collections::BTreeMap;
use system_tests::source_tree::File;

/// The dependencies among the modules of a crate.
#[derive(Debug, Default)]
pub struct ModuleGraph {
    /// By the module whose children and own file are on the level.
    levels: BTreeMap<ModulePath, Level>,
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
            (!is_program).then(|| (module_path::of_file(path), file))
        });
        let mut parsed = BTreeMap::new();
        for (module, file) in sources {
            let syntax = syn::parse_file(&file.text).with_context(|| file.path.clone())?;
            parsed.insert(module, (file.path.clone(), syntax));
        }
        let scope = Scope::of(parsed.iter().map(|(module, (_, syntax))| (module, syntax)));
        let mut graph = Self::default();
        for (module, (path, syntax)) in &parsed {
            if scope.is_for_tests(module) {
                continue;
            }
            for name in names::of(module, syntax) {
                graph.add(&scope, module, path, &name);
            }
        }
        Ok(graph)
    }

    /// Adds the edge of a name in the file of the module `source`, on the level at which the paths of the two modules
    /// diverge.
    fn add(&mut self, scope: &Scope, source: &[String], file: &str, name: &Name) {
        let Some(path) = scope.path_of(name) else {
            return;
        };
        let target = scope.module_of(&path);
        let re_exports = name.kind == Kind::Export && target.starts_with(source);
        // The root composes its modules.
        if target == source || re_exports || source.is_empty() {
            return;
        }
        let both = source.iter().zip(&target);
        let shared = both.take_while(|(one, other)| one == other).count();
        let on_level = |module: &[String]| {
            let length = module.len().min(shared + 1);
            module_path::text(&module[..length])
        };
        let example = Example {
            location: format!("{file}:{}", name.line),
            name: module_path::text(&path),
        };
        let level = self.levels.entry(source[..shared].to_vec()).or_default();
        level.add(on_level(source), on_level(&target), example);
    }

    /// The cycles of every level.
    pub fn cycles(&self) -> Vec<String> {
        self.levels.values().flat_map(Level::cycles).collect()
    }
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

    #[test]
    fn a_cycle_below_the_top_level_is_found() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c;"),
            ("a/b.rs", "use super::c::C; pub struct B;"),
            ("a/c.rs", "use crate::a::b::B; pub struct C;"),
        ];
        let expected = "a::b -> a::c: c/src/a/b.rs:1 names a::c::C\n    \
                        a::c -> a::b: c/src/a/c.rs:1 names a::b::B";
        assert_eq!(cycles(&files), [expected]);
    }

    #[test]
    fn a_file_and_its_child_that_use_each_other_are_a_cycle() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; pub struct A; fn f() { b::g() }"),
            ("a/b.rs", "use super::A; pub fn g() {}"),
        ];
        let expected = "a -> a::b: c/src/a.rs:1 names a::b::g\n    \
                        a::b -> a: c/src/a/b.rs:1 names a::A";
        assert_eq!(cycles(&files), [expected]);
    }

    #[test]
    fn a_file_that_declares_and_re_exports_its_child_does_not_use_it() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; pub use self::b::B; pub struct A;"),
            ("a/b.rs", "use super::A; pub struct B;"),
        ];
        assert_eq!(cycles(&files), Vec::<String>::new());
    }

    #[test]
    fn a_re_exported_name_in_code_is_a_use() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; pub use b::B; pub struct A(B);"),
            ("a/b.rs", "use super::A; pub struct B;"),
        ];
        let expected = "a -> a::b: c/src/a.rs:1 names a::b::B\n    \
                        a::b -> a: c/src/a/b.rs:1 names a::A";
        assert_eq!(cycles(&files), [expected]);
    }

    #[test]
    fn a_name_that_the_parent_imports_from_a_child_is_the_child_s() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; mod c; use b::B; use c::C;"),
            ("a/b.rs", "use super::C; pub struct B;"),
            ("a/c.rs", "use super::B; pub struct C;"),
        ];
        let expected = "a::b -> a::c: c/src/a/b.rs:1 names a::C\n    \
                        a::c -> a::b: c/src/a/c.rs:1 names a::B";
        assert_eq!(cycles(&files), [expected]);
    }

    #[test]
    fn a_file_uses_the_children_that_a_macro_declares_from_its_list() {
        let files = [
            ("lib.rs", "mod a;"),
            ("a.rs", "views! { b } pub struct A;"),
            ("a/b.rs", "use super::A;"),
        ];
        let expected = "a -> a::b: c/src/a.rs:1 names a::b\n    \
                        a::b -> a: c/src/a/b.rs:1 names a::A";
        assert_eq!(cycles(&files), [expected]);
    }

    #[test]
    fn a_variable_with_the_name_of_a_child_is_no_use() {
        let files = [
            ("lib.rs", "mod a;"),
            (
                "a.rs",
                "mod b; pub struct A; fn f(b: i32) { println!(\"{}\", b); drop(b) }",
            ),
            ("a/b.rs", "use super::A;"),
        ];
        assert_eq!(cycles(&files), Vec::<String>::new());
    }
}
