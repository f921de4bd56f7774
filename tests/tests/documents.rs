//! Documents describe only existing things: the names in the Markdown files are looked up. Sources and documents
//! use the words of the field. Needs no server.
//!
//! Names are in backticks. Each is a command, a path, a variable or an address of the interface, or it must occur
//! in the sources. The same holds for blocks marked `sh`. Each test lists all its findings.

mod docs_lint;

use anyhow::{Context, Result, ensure};
use docs_lint::{
    Command, Document, Program, Sources, banned_phrases, commands, inverted_sentences, program,
    setting_names, words,
};
use std::collections::HashSet;
use system_tests::source_tree::{File, files, root};

/// The names of the binary in documents.
const BINARY: [&str; 3] = ["daybook", "target/debug/daybook", "target/release/daybook"];
/// Folders that exist only after the first `./dev up` or build.
const MADE_LATER: [&str; 2] = [".daybook/", "target/"];
/// Beginnings of placeholders.
const PLACEHOLDERS: [&str; 3] = ["<", "NAME", "FILE"];
/// This document must mention every command and setting.
const GUIDE: &str = "README.md";
/// This document must link every ADR, and fit into [`ARCHITECTURE_WORDS_MAX`].
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// A reading of 20 minutes.
const ARCHITECTURE_WORDS_MAX: usize = 4_500;
/// Beginning of the interface's addresses.
const API: &str = "/api/v1";
/// Prefixes of paths that exist on one machine only, in two parts so that this file has none.
const LOCAL_PATH_PREFIXES: [&str; 4] = [
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/", "Users/"),
];

#[test]
fn every_path_and_link_of_a_document_exists() -> Result<()> {
    let files = files()?;
    let sources = Sources::of(&files);
    let mut wrong = Vec::new();
    for (file, document) in documents(&files)? {
        for piece in document.pieces() {
            let tokens: Vec<&str> = piece
                .text
                .split([' ', '\'', '"', '=', '(', ')', '@'])
                .collect();
            let is_feature = |index: usize| index > 0 && tokens[index - 1] == "--features";
            let paths = tokens
                .iter()
                .enumerate()
                .filter(|(index, _)| !is_feature(*index));
            let paths = paths.map(|(_, token)| *token);
            let paths = paths.filter(|token| sources.begins_like_a_path(token));
            for path in paths.filter(|path| !is_path(&sources, path)) {
                wrong.push(format!("{}: {path} does not exist", piece.location));
            }
        }
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in document.links.iter().filter(|link| !link.text.is_empty()) {
            let path = format!("{folder}/{}", link.text);
            if !is_path(&sources, path.trim_start_matches('/')) {
                wrong.push(format!("{}: a link to {}", link.location, link.text));
            }
        }
    }
    expect_none(&wrong)
}

#[test]
fn the_architecture_is_short_and_links_every_adr() -> Result<()> {
    let files = files()?;
    let documents = documents(&files)?;
    let (mut linked, mut wrong) = (HashSet::new(), Vec::new());
    for (file, document) in &documents {
        if file.path == ARCHITECTURE {
            linked.extend(document.links.iter().map(|link| link.text.as_str()));
            let count = file.text.split_whitespace().count();
            if count > ARCHITECTURE_WORDS_MAX {
                wrong.push(format!("{ARCHITECTURE} has {count} words"));
            }
        }
    }
    for (file, _) in &documents {
        if is_adr(&file.path) && !linked.contains(file.path.as_str()) {
            wrong.push(format!("{ARCHITECTURE} does not link {}", file.path));
        }
    }
    expect_none(&wrong)
}

#[test]
fn every_documented_call_of_the_binary_is_valid() -> Result<()> {
    let files = files()?;
    let mut program = Program::find()?;
    let (mut documented, mut wrong) = (Vec::new(), Vec::new());
    for (file, document) in documents(&files)? {
        for Command {
            location,
            arguments,
        } in commands(&document, &BINARY)
        {
            if let Err(error) = program.check(&arguments) {
                wrong.push(format!("{location}: {error:#}"));
            }
            if file.path == GUIDE {
                documented.push(arguments.join(" "));
            }
        }
    }
    for leaf in program.leaves()? {
        if !documented.iter().any(|call| call.starts_with(&leaf)) {
            wrong.push(format!("{GUIDE} does not mention `daybook {leaf}`"));
        }
    }
    expect_none(&wrong)
}

#[test]
fn every_documented_call_of_dev_is_valid() -> Result<()> {
    let files = files()?;
    let usage = dev_usage()?;
    let (mut documented, mut wrong) = (HashSet::new(), Vec::new());
    for (file, document) in documents(&files)? {
        for Command {
            location,
            arguments,
        } in commands(&document, &["./dev"])
        {
            let Some((name, rest)) = arguments.split_first() else {
                continue;
            };
            let line = usage.iter().find(|line| dev_command(line) == name);
            let mut options = rest.iter().filter(|argument| argument.starts_with('-'));
            if !line.is_some_and(|line| options.all(|option| line.contains(option.as_str()))) {
                wrong.push(format!("{location}: ./dev {}", arguments.join(" ")));
            }
            if file.path == GUIDE {
                documented.insert(name.clone());
            }
        }
    }
    for name in usage.iter().map(|line| dev_command(line)) {
        if !documented.contains(name) {
            wrong.push(format!("{GUIDE} does not mention `./dev {name}`"));
        }
    }
    expect_none(&wrong)
}

#[test]
fn every_setting_is_documented_and_every_documented_variable_exists() -> Result<()> {
    let files = files()?;
    let sources = Sources::of(&files);
    let variable = |name: &String| format!("DAYBOOK_{}", name.replace('.', "_").to_uppercase());
    let settings: HashSet<String> = setting_names(&files)?.iter().map(variable).collect();
    let (mut documented, mut wrong) = (HashSet::new(), Vec::new());
    for (file, document) in documents(&files)? {
        for piece in document.pieces() {
            // `DAYBOOK_<SECTION>_<FIELD>` stands for all of them.
            for word in words(&piece.text).filter(|word| !word.ends_with('_')) {
                let is_there = match word.split_once('_') {
                    Some(("DAYBOOK", _)) => settings.contains(word),
                    Some(("DEV", _)) => sources.know_word(word),
                    _ => true,
                };
                if !is_there {
                    wrong.push(format!(
                        "{}: no setting or script has {word}",
                        piece.location
                    ));
                }
                if file.path == GUIDE {
                    documented.insert(word.to_owned());
                }
            }
        }
    }
    for setting in settings.difference(&documented) {
        wrong.push(format!("{GUIDE} does not mention {setting}"));
    }
    expect_none(&wrong)
}

#[test]
fn every_documented_address_is_served() -> Result<()> {
    let files = files()?;
    let routes = routes(&files);
    ensure!(!routes.is_empty(), "no routes were found");
    let mut wrong = Vec::new();
    for (_, document) in documents(&files)? {
        for piece in document.pieces() {
            for (start, _) in piece.text.match_indices(API) {
                let path = &piece.text[start + API.len()..];
                let end = path.find(['?', '\'', '"', ' ']).unwrap_or(path.len());
                let path = path[..end].trim_end_matches(['/', '.']);
                if !path.is_empty() && !routes.iter().any(|route| fits(route, path)) {
                    wrong.push(format!("{}: no handler serves {API}{path}", piece.location));
                }
            }
        }
    }
    expect_none(&wrong)
}

#[test]
fn every_other_documented_name_occurs_in_the_sources() -> Result<()> {
    let files = files()?;
    let sources = Sources::of(&files);
    let mut wrong = Vec::new();
    for (_, document) in documents(&files)? {
        for piece in &document.spans {
            let text = piece.text.trim_end_matches("()");
            let is_there = match program(text) {
                "cargo" => is_cargo_call(&files, text),
                // Other tests check these.
                "./dev" => true,
                first if BINARY.contains(&first) || text.starts_with("DAYBOOK_") => true,
                _ if text.contains(API) => true,
                _ => is_path(&sources, text) || sources.know(text),
            };
            if !is_there {
                wrong.push(format!("{}: `{text}` is in no source", piece.location));
            }
        }
    }
    expect_none(&wrong)
}

#[test]
fn no_source_or_document_has_a_banned_phrase() -> Result<()> {
    expect_none(&banned_phrases(&files()?))
}

#[test]
fn sentences_begin_with_their_subject() -> Result<()> {
    expect_none(&inverted_sentences(&files()?))
}

#[test]
fn no_file_has_a_path_of_one_machine() -> Result<()> {
    let mut wrong = Vec::new();
    for file in files()? {
        for (index, line) in file.text.lines().enumerate() {
            let mut hits = LOCAL_PATH_PREFIXES
                .iter()
                .flat_map(|path| line.match_indices(path));
            if hits.any(|(start, _)| !continues_a_path(&line[..start])) {
                wrong.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    expect_none(&wrong)
}

/// Fails with all findings.
fn expect_none(wrong: &[String]) -> Result<()> {
    ensure!(
        wrong.is_empty(),
        "{} findings:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// The Markdown files of the root and of `bench`, and every ADR. Other Markdown files describe data.
fn documents(files: &[File]) -> Result<Vec<(&File, Document)>> {
    let is_document = |path: &str| {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        path.ends_with(".md") && (["", "bench"].contains(&folder) || is_adr(path))
    };
    for name in [GUIDE, ARCHITECTURE, "CONTRIBUTING.md"] {
        let is_there = files.iter().any(|file| file.path == name);
        ensure!(is_there, "{name} does not exist");
    }
    let documents = files.iter().filter(|file| is_document(&file.path));
    documents
        .map(|file| Ok((file, Document::read(&file.path, &file.text)?)))
        .collect()
}

/// Whether a file is in the folder `adr` of a crate: the reasons and details of a decision.
fn is_adr(path: &str) -> bool {
    let folders = path.rsplit_once('/').map(|(folders, _)| folders);
    path.ends_with(".md") && folders.is_some_and(|folders| folders.ends_with("/adr"))
}

/// Whether a path exists, up to the first placeholder.
fn is_path(sources: &Sources, path: &str) -> bool {
    let path = path.trim_end_matches([':', ',', '.']);
    let placeholder = PLACEHOLDERS.iter().filter_map(|mark| path.find(mark)).min();
    let path = match placeholder {
        Some(start) => path[..start]
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder),
        None => path,
    };
    // `sources` has texts only, so compressed data is looked up in the file system.
    let is_there = || path.contains('/') && !path.starts_with('/') && root().join(path).exists();
    sources.has_path(path) || MADE_LATER.iter().any(|made| path.starts_with(made)) || is_there()
}

/// The lines of `./dev help` that name a command.
fn dev_usage() -> Result<Vec<String>> {
    // A copy of the tree has only texts, so its scripts are not executable.
    let output = std::process::Command::new("bash")
        .arg(root().join("dev"))
        .arg("help")
        .output()
        .context("./dev help")?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| line.starts_with("./dev "));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    ensure!(!lines.is_empty(), "./dev help names no commands");
    Ok(lines)
}

fn dev_command(usage: &str) -> &str {
    usage.split_whitespace().nth(1).unwrap_or_default()
}

/// The paths of all handlers, below [`API`].
fn routes(files: &[File]) -> Vec<String> {
    let is_ours = |path: &str| path.starts_with("src/") || path.contains("/src/");
    let rust = files.iter().filter(|file| is_ours(&file.path));
    let paths = rust.flat_map(|file| file.text.split("path = \"").skip(1));
    let paths = paths.filter_map(|text| text.split('"').next());
    let paths = paths.filter(|path| path.starts_with('/'));
    let paths = paths.map(|path| path.strip_prefix(API).unwrap_or(path));
    paths.map(str::to_owned).collect()
}

/// Whether a path matches a route; a segment in braces matches any segment.
fn fits(route: &str, path: &str) -> bool {
    let (route, path): (Vec<&str>, Vec<&str>) =
        (route.split('/').collect(), path.split('/').collect());
    let fits = |(wanted, found): (&&str, &&str)| wanted.starts_with('{') || wanted == found;
    route.len() == path.len() && route.iter().zip(&path).all(fits)
}

/// Whether the packages and tests in a call of cargo exist.
fn is_cargo_call(files: &[File], call: &str) -> bool {
    let words: Vec<&str> = call.split_whitespace().collect();
    words.windows(2).all(|pair| match pair {
        ["-p" | "--package", name] => {
            let line = format!("name = \"{name}\"\n");
            let mut manifests = files
                .iter()
                .filter(|file| file.path.ends_with("Cargo.toml"));
            manifests.any(|file| file.text.contains(&line))
        }
        ["--test", name] => {
            let ends = [
                format!("/tests/{name}.rs"),
                format!("/tests/{name}/main.rs"),
            ];
            let mut paths = files.iter().map(|file| &file.path);
            paths.any(|path| ends.iter().any(|end| path.ends_with(end)))
        }
        _ => true,
    })
}

/// Whether a slash after this text is in the middle of a path or an address.
fn continues_a_path(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || "._-}$~*)>".contains(c))
}
