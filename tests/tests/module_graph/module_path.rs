//! The path of a module.

/// A module's path from the crate's root; the root's is empty.
pub type ModulePath = Vec<String>;

/// The root's name in messages.
pub const ROOT: &str = "(crate root)";

/// The module of a file, from its path below the crate's folder of sources, without the ending.
pub fn of_file(path: &str) -> ModulePath {
    let mut parts: ModulePath = path.split('/').map(str::to_owned).collect();
    let is_root = matches!(parts.as_slice(), [only] if only == "lib" || only == "main");
    if is_root || parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// A path in messages.
pub fn text(path: &[String]) -> String {
    match path {
        [] => ROOT.to_owned(),
        path => path.join("::"),
    }
}
