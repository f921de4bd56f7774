//! The paths that a file names from its crate's root: those that begin with `crate`, `self` or `super`,
//! in imports, in code and within macros.

use super::{
    ModulePath,
    scope::{is_for_tests, is_relative},
};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    ItemMod, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A name of something in the same crate.
#[derive(Debug)]
pub struct Name {
    /// The module that names it.
    pub module: ModulePath,
    /// From the crate's root.
    pub path: Vec<String>,
    /// The name's line.
    pub line: usize,
}

/// All names of a file.
pub fn of(module: &[String], file: &syn::File) -> Vec<Name> {
    let mut reader = Reader {
        module: module.to_owned(),
        names: Vec::new(),
    };
    reader.visit_file(file);
    reader.names
}

struct Reader {
    /// The module that is being read.
    module: ModulePath,
    names: Vec<Name>,
}

impl Reader {
    fn add(&mut self, segments: &[String], line: usize) {
        if let Some(path) = from_root(&self.module, segments) {
            let module = self.module.clone();
            self.names.push(Name { module, path, line });
        }
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.add(before, line),
            UseTree::Name(name) => self.add(&with(&name.ident), line),
            UseTree::Rename(rename) => self.add(&with(&rename.ident), line),
            UseTree::Glob(_) => self.add(before, line),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before);
                }
            }
        }
    }

    /// Adds the paths within a macro's tokens, which `syn` does not parse.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Ident(ident) if is_relative(&ident.to_string()) => {
                    let line = ident.span().start().line;
                    let mut segments = vec![ident.to_string()];
                    while let [
                        TokenTree::Punct(one),
                        TokenTree::Punct(two),
                        TokenTree::Ident(next),
                        after @ ..,
                    ] = rest
                        && (one.as_char(), two.as_char()) == (':', ':')
                    {
                        segments.push(next.to_string());
                        rest = after;
                    }
                    self.add(&segments, line);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&item.tree, &[]);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|one| one.ident.to_string());
        self.add(&segments.collect::<Vec<_>>(), path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        self.add_tokens(one.tokens.clone());
        visit::visit_macro(self, one);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(crate)` and `pub(super)` name nothing.
    }
}

/// A path from the crate's root; `None` if it begins elsewhere, or names nothing below a module.
fn from_root(module: &[String], segments: &[String]) -> Option<Vec<String>> {
    let depth = segments.iter().take_while(|one| is_relative(one)).count();
    let (beginning, rest) = segments.split_at(depth);
    let mut base = match beginning.first()?.as_str() {
        "crate" => Vec::new(),
        _ => module.to_owned(),
    };
    for segment in beginning {
        if segment == "super" {
            base.pop()?;
        }
    }
    base.extend_from_slice(rest);
    (!rest.is_empty()).then_some(base)
}
