//! Checks the names that the caller gives, and converts them to each form that the code needs.

use heck::{ToKebabCase, ToSnakeCase, ToUpperCamelCase};
use std::str::FromStr;

/// Rust's keywords, which can't be names of modules or functions.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Names of types and traits that the code around an aggregate's or a command's type uses: names of Rust's
/// prelude, names that the generated files import, and names that become the name of another trait with
/// `Event` appended.
const TAKEN_BY_CODE: [&str; 73] = [
    "Aggregate",
    "AggregateAnswer",
    "ApiCommand",
    "ApiJson",
    "AsMut",
    "AsRef",
    "AsyncFn",
    "AsyncFnMut",
    "AsyncFnOnce",
    "Box",
    "Clone",
    "Command",
    "CommandHeaders",
    "Commands",
    "Context",
    "Copy",
    "Debug",
    "Decider",
    "Default",
    "Deserialize",
    "DoubleEndedIterator",
    "Drop",
    "Eq",
    "Err",
    "Event",
    "ExactSizeIterator",
    "Executor",
    "Extend",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "FromIterator",
    "Future",
    "Hash",
    "Id",
    "Into",
    "IntoFuture",
    "IntoIterator",
    "Iterator",
    "Machine",
    "Name",
    "None",
    "Ok",
    "OpenApiRouter",
    "Option",
    "Ord",
    "Outcome",
    "PartialEq",
    "PartialOrd",
    "Path",
    "PathField",
    "Problem",
    "Rejection",
    "RejectionKind",
    "Response",
    "Result",
    "Router",
    "Send",
    "Serialize",
    "Sized",
    "Some",
    "State",
    "String",
    "Sync",
    "Target",
    "ToOwned",
    "ToSchema",
    "ToString",
    "TryFrom",
    "TryInto",
    "Unpin",
    "Vec",
];

/// Names of modules and functions in the code around a context's folder.
const TAKEN_BY_MODULES: [&str; 6] = ["check", "http", "machines", "probe", "test", "tests"];

/// The manifest that lists the workspace's crates and their dependencies. A module with the name of a crate
/// would hide it.
const MANIFEST: &str = include_str!("../../Cargo.toml");
/// Crates of Rust itself, which no manifest lists.
const RUST_CRATES: [&str; 5] = ["alloc", "core", "proc_macro", "std", "test"];

/// Reasons why a name can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The context's name is invalid.
    #[error("a context's name must be lower-case letters, such as warehouse")]
    Context,
    /// The aggregate's name is invalid.
    #[error("an aggregate's name must be CamelCase letters, such as Shipment")]
    Aggregate,
    /// The command's name is invalid.
    #[error("a command's name must be a verb phrase in CamelCase letters, such as RenameProduct")]
    Command,
    /// The view's name is invalid.
    #[error(
        "a view's name must be lower-case letters and underscores, such as product_list, without its version"
    )]
    View,
    /// The generated code would not compile.
    #[error("Rust or the code around it already uses this name: choose another name")]
    Taken,
}

/// A context's name, such as `warehouse`.
#[derive(Debug, Clone)]
pub struct ContextName(String);

/// An aggregate's name, such as `CreditNote`.
#[derive(Debug, Clone)]
pub struct AggregateName(String);

/// A command's name, such as `RenameProduct`.
#[derive(Debug, Clone)]
pub struct CommandName(String);

/// A view's name without its version, such as `product_list`.
#[derive(Debug, Clone)]
pub struct ViewName(String);

impl FromStr for ContextName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(NameError::Context);
        }
        not_a_keyword(text)?;
        match TAKEN_BY_MODULES.contains(&text) || is_crate(text) {
            true => Err(NameError::Taken),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl ContextName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AggregateName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !is_camel_case(text) {
            return Err(NameError::Aggregate);
        }
        let name = Self(text.to_owned());
        not_a_keyword(&name.module())?;
        match TAKEN_BY_CODE.contains(&text) || is_crate(&name.module()) {
            true => Err(NameError::Taken),
            false => Ok(name),
        }
    }
}

impl AggregateName {
    /// The Rust type: `CreditNote`.
    pub fn type_name(&self) -> &str {
        &self.0
    }

    /// The module and folder: `credit_note`.
    pub fn module(&self) -> String {
        self.0.to_snake_case()
    }

    /// The aggregate type, the first part of record keys: `creditnote`.
    pub fn stored(&self) -> String {
        self.0.to_lowercase()
    }

    /// The name in a sentence: `credit note`.
    pub fn words(&self) -> String {
        self.module().replace('_', " ")
    }

    /// The name in a sentence, with its article: `a credit note`.
    pub fn with_article(&self) -> String {
        let words = self.words();
        let article = match words.starts_with(['a', 'e', 'i', 'o', 'u']) {
            true => "an",
            false => "a",
        };
        format!("{article} {words}")
    }

    /// The plural in a path of the HTTP interface: `credit-notes`.
    pub fn path(&self) -> String {
        let name = self.0.to_kebab_case();
        if let Some(stem) = name.strip_suffix('y')
            && !stem.ends_with(['a', 'e', 'i', 'o', 'u'])
        {
            return format!("{stem}ies");
        }
        let sibilants = ["s", "x", "z", "ch", "sh"];
        match sibilants.iter().any(|ending| name.ends_with(ending)) {
            true => format!("{name}es"),
            false => format!("{name}s"),
        }
    }

    /// The prefix of its rejections' codes: `CREDIT_NOTE`.
    pub fn code(&self) -> String {
        self.module().to_uppercase()
    }
}

impl FromStr for CommandName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // A single word is rejected: it does not name its object, and command names must be unique across all
        // contexts.
        match is_camel_case(text) && text.to_snake_case().contains('_') {
            true if TAKEN_BY_CODE.contains(&text) => Err(NameError::Taken),
            true => Ok(Self(text.to_owned())),
            false => Err(NameError::Command),
        }
    }
}

impl CommandName {
    /// The Rust type of the body: `RenameProduct`.
    pub fn type_name(&self) -> &str {
        &self.0
    }

    /// The name without the aggregate's name at its end: `Rename`.
    pub fn verb(&self, aggregate: &AggregateName) -> &str {
        let verb = self.0.strip_suffix(aggregate.type_name());
        verb.filter(|verb| !verb.is_empty()).unwrap_or(&self.0)
    }

    /// The file of the command, and the function that decides it: `rename`.
    pub fn function(&self, aggregate: &AggregateName) -> String {
        let verb = self.verb(aggregate).to_snake_case();
        match KEYWORDS.contains(&verb.as_str()) {
            true => self.operation(),
            false => verb,
        }
    }

    /// The name in the OpenAPI document: `rename_product`.
    pub fn operation(&self) -> String {
        self.0.to_snake_case()
    }

    /// The last part of its path: `rename`.
    pub fn path(&self, aggregate: &AggregateName) -> String {
        self.verb(aggregate).to_kebab_case()
    }

    /// The name as an imperative sentence: `Rename the product`.
    pub fn sentence(&self, aggregate: &AggregateName) -> String {
        let verb = self.verb(aggregate).to_snake_case().replace('_', " ");
        let (first, rest) = verb.split_at(1);
        let verb = first.to_uppercase() + rest;
        match self.verb(aggregate) == self.0 {
            true => verb,
            false => format!("{verb} the {}", aggregate.words()),
        }
    }
}

impl FromStr for ViewName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_word =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        match text.split('_').all(is_word) {
            // Every view uses the trait `PostgresView`.
            true if text == "postgres" => Err(NameError::Taken),
            true => Ok(Self(text.to_owned())),
            false => Err(NameError::View),
        }
    }
}

impl ViewName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix of its types' names: `ProductList`.
    pub fn type_name(&self) -> String {
        self.0.to_upper_camel_case()
    }

    /// The prefix of its problems' codes: `PRODUCT_LIST`.
    pub fn code(&self) -> String {
        self.0.to_uppercase()
    }

    /// The path of its query: `product-list`.
    pub fn path(&self) -> String {
        self.0.to_kebab_case()
    }
}

fn is_camel_case(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn not_a_keyword(text: &str) -> Result<(), NameError> {
    match KEYWORDS.contains(&text) {
        true => Err(NameError::Taken),
        false => Ok(()),
    }
}

/// Whether a crate of the workspace, a dependency or a part of Rust has this name.
fn is_crate(name: &str) -> bool {
    let sections = MANIFEST.split("\n[");
    let dependencies = sections.filter(|section| section.starts_with("workspace.dependencies]"));
    let mut dependencies = dependencies
        .flat_map(str::lines)
        .filter_map(|line| line.split_once(" = "));
    RUST_CRATES.contains(&name) || dependencies.any(|(found, _)| found.replace('-', "_") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(text: &str) -> AggregateName {
        text.parse().unwrap()
    }

    #[test]
    fn a_malformed_name_is_refused() {
        for bad in ["", "Warehouse", "ware_house", "ware2"] {
            assert_eq!(bad.parse::<ContextName>().unwrap_err(), NameError::Context);
        }
        for bad in ["", "shipment", "Ship_Ment", "Shipment2"] {
            let error = bad.parse::<AggregateName>().unwrap_err();
            assert_eq!(error, NameError::Aggregate, "{bad}");
        }
        for bad in ["", "rename", "Rename", "renameProduct"] {
            let error = bad.parse::<CommandName>().unwrap_err();
            assert_eq!(error, NameError::Command, "{bad}");
        }
        for bad in ["", "Products", "_products", "products_v1", "a__b"] {
            assert_eq!(bad.parse::<ViewName>().unwrap_err(), NameError::View);
        }
    }

    #[test]
    fn a_name_that_the_code_uses_is_refused() {
        for taken in [
            "match",
            "check",
            "http",
            "domain",
            "std",
            "core",
            "alloc",
            "journal",
            "service",
            "serde",
            "axum",
            "kafka",
            "schemas",
            "projections",
            "tracing",
        ] {
            let error = taken.parse::<ContextName>().unwrap_err();
            assert_eq!(error, NameError::Taken, "{taken}");
        }
        for taken in [
            "Type",
            "State",
            "Result",
            "Option",
            "Vec",
            "String",
            "Box",
            "Some",
            "Ok",
            "Err",
            "None",
            "Response",
            "Problem",
            "Serde",
            "SerdeJson",
            "Domain",
            "Journal",
            "Aggregate",
            "Core",
        ] {
            let error = taken.parse::<AggregateName>().unwrap_err();
            assert_eq!(error, NameError::Taken, "{taken}");
        }
        let error = "ApiCommand".parse::<CommandName>().unwrap_err();
        assert_eq!(error, NameError::Taken);
    }

    #[test]
    fn the_types_that_generated_files_import_are_refused() {
        for template in [
            include_str!("templates/aggregate.rs.template"),
            include_str!("templates/command.rs.template"),
            include_str!("templates/create.rs.template"),
        ] {
            let (imports, _) = template.split_once("\n/// ").unwrap();
            let names = imports.split(|c: char| !c.is_ascii_alphanumeric() && c != '@');
            let imported: Vec<&str> = names.filter(|name| is_camel_case(name)).collect();
            assert!(
                imported.contains(&"Serialize"),
                "no Serialize in {imported:?}"
            );
            for name in imported
                .iter()
                .filter(|name| **name != "A" && **name != "Create")
            {
                assert!(
                    TAKEN_BY_CODE.contains(name),
                    "{name} is not in TAKEN_BY_CODE"
                );
            }
        }
    }

    #[test]
    fn an_aggregate_has_each_form_of_its_name() {
        let note = aggregate("CreditNote");
        assert_eq!(note.module(), "credit_note");
        assert_eq!(note.stored(), "creditnote");
        assert_eq!(note.with_article(), "a credit note");
        assert_eq!(note.path(), "credit-notes");
        assert_eq!(note.code(), "CREDIT_NOTE");
        assert_eq!(aggregate("Invoice").with_article(), "an invoice");
        assert_eq!(aggregate("Delivery").path(), "deliveries");
        assert_eq!(aggregate("Tax").path(), "taxes");
    }

    #[test]
    fn a_command_is_named_by_its_verb() {
        let product = aggregate("Product");
        let rename: CommandName = "RenameProduct".parse().unwrap();
        assert_eq!(rename.verb(&product), "Rename");
        assert_eq!(rename.function(&product), "rename");
        assert_eq!(rename.path(&product), "rename");
        assert_eq!(rename.sentence(&product), "Rename the product");
        let price: CommandName = "ChangePrice".parse().unwrap();
        assert_eq!(price.function(&product), "change_price");
        assert_eq!(price.sentence(&product), "Change price");
        let moved: CommandName = "MoveProduct".parse().unwrap();
        assert_eq!(moved.function(&product), "move_product");
    }
}
