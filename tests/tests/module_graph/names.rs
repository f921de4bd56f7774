//! The names in a file that may lead to another module of its crate: in imports, in code and within macros.
//! `Scope` decides where they lead.

use super::module_path::ModulePath;
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    ItemMod, UseTree, Visibility,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A name in a file.
#[derive(Debug)]
pub struct Name {
    /// The module that has it, which may be a `mod` with braces in a file.
    pub module: ModulePath,
    /// The name as it is written.
    pub segments: Vec<String>,
    /// The name's line.
    pub line: usize,
    /// The kind of place in which it is written.
    pub kind: Kind,
}

/// The kind of place in which a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In a `use`.
    Import,
    /// In a `use` with a visibility, such as `pub use`.
    Export,
    /// In code.
    Code,
    /// In the call of a macro that is an item. Such a macro may declare the modules that its call lists.
    List,
}

/// One name that a `use` brings into scope.
#[derive(Debug)]
pub struct Import {
    /// The path as it is written. With `*` it is the path of the module.
    pub path: Vec<String>,
    /// The name in scope; `None` for `*`.
    pub name: Option<String>,
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

/// The names of a `use`.
pub fn imports(tree: &UseTree) -> Vec<Import> {
    let mut imports = Vec::new();
    add_imports(tree, &[], &mut imports);
    imports
}

fn add_imports(tree: &UseTree, before: &[String], imports: &mut Vec<Import>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    let (path, name) = match tree {
        UseTree::Path(path) => return add_imports(&path.tree, &with(&path.ident), imports),
        UseTree::Group(group) => {
            for tree in &group.items {
                add_imports(tree, before, imports);
            }
            return;
        }
        UseTree::Name(name) if name.ident == "self" => (before.to_vec(), before.last().cloned()),
        UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
        UseTree::Rename(rename) if rename.ident == "self" => {
            (before.to_vec(), Some(rename.rename.to_string()))
        }
        UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
        UseTree::Glob(_) => (before.to_vec(), None),
    };
    let line = tree.span().start().line;
    imports.push(Import { path, name, line });
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

struct Reader {
    /// The module that is being read.
    module: ModulePath,
    names: Vec<Name>,
}

impl Reader {
    fn add(&mut self, segments: Vec<String>, line: usize, kind: Kind) {
        let module = self.module.clone();
        self.names.push(Name {
            module,
            segments,
            line,
            kind,
        });
    }

    /// Adds the paths within a macro's tokens, which `syn` does not parse.
    fn add_tokens(&mut self, tokens: TokenStream, kind: Kind) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        // The punctuation directly before a token.
        let mut before = String::new();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                TokenTree::Group(group) => self.add_tokens(group.stream(), kind),
                TokenTree::Ident(ident) => {
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
                    if begins_path(&before, &segments[0]) {
                        self.add(segments, line, kind);
                    }
                }
                TokenTree::Punct(punct) => {
                    before.push(punct.as_char());
                    continue;
                }
                TokenTree::Literal(_) => {}
            }
            before.clear();
        }
    }
}

/// Whether a word in a macro begins a path. A later segment of a path, a field, a method, a lifetime and a variable of
/// the macro do not begin one; `$crate` does.
fn begins_path(before: &str, word: &str) -> bool {
    let is_field = before.ends_with('.') && !before.ends_with("..");
    let is_variable = before.ends_with('$') && word != "crate";
    !(is_field || is_variable || before.ends_with("::") || before.ends_with('\''))
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
        if is_for_tests(&item.attrs) {
            return;
        }
        let kind = match item.vis {
            Visibility::Inherited => Kind::Import,
            Visibility::Public(_) | Visibility::Restricted(_) => Kind::Export,
        };
        for Import { path, line, .. } in imports(&item.tree) {
            self.add(path, line, kind);
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

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|one| one.ident.to_string());
        let line = path.span().start().line;
        self.add(segments.collect(), line, Kind::Code);
        visit::visit_path(self, path);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if is_for_tests(&item.attrs) {
            return;
        }
        // `macro_rules!` has a name, and its tokens are code.
        let kind = match item.ident {
            Some(_) => Kind::Code,
            None => Kind::List,
        };
        self.add_tokens(item.mac.tokens.clone(), kind);
        self.visit_path(&item.mac.path);
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        self.add_tokens(one.tokens.clone(), Kind::Code);
        visit::visit_macro(self, one);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(crate)` and `pub(super)` name nothing.
    }
}
