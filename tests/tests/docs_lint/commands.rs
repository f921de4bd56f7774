//! The commands that a document tells its reader to type.

use super::{Document, Piece};

/// One call of a program.
#[derive(Debug)]
pub struct Command {
    /// The document and the line.
    pub location: String,
    /// The words after the program.
    pub arguments: Vec<String>,
}

/// Characters that end a call in a line of shell.
const ENDS: [char; 6] = ['|', '&', ';', '(', ')', '>'];

/// Every call of one of `programs`, in spans that begin with the program and in lines of shell.
pub fn commands(document: &Document, programs: &[&str]) -> Vec<Command> {
    let spans = document.spans.iter().cloned();
    let lines = joined(&document.shell);
    let pieces = spans.chain(lines.into_iter().flat_map(calls));
    pieces
        .filter_map(|piece| command(&piece, programs))
        .collect()
}

fn command(piece: &Piece, programs: &[&str]) -> Option<Command> {
    let mut words = call_words(&piece.text);
    let program = words.next()?;
    programs.contains(&program).then(|| Command {
        location: piece.location.clone(),
        arguments: words.map(str::to_owned).collect(),
    })
}

/// The program of a call; empty if there is no program.
pub fn program(call: &str) -> &str {
    call_words(call).next().unwrap_or_default()
}

/// The words of a call, without variable assignments before the program.
fn call_words(call: &str) -> impl Iterator<Item = &str> {
    let words = call.split_whitespace();
    let words = words.map(|word| word.trim_matches(['[', ']', '\'', '"']));
    words.skip_while(|word| word.contains('='))
}

/// The calls in a line, without its comment.
fn calls(line: Piece) -> Vec<Piece> {
    let text = line.text.split(" #").next().unwrap_or_default();
    let calls = text
        .split(ENDS)
        .map(str::trim)
        .filter(|call| !call.is_empty());
    let piece = |call: &str| Piece {
        location: line.location.clone(),
        text: call.to_owned(),
    };
    calls.map(piece).collect()
}

/// Joins each line that ends in a backslash with the next one.
fn joined(lines: &[Piece]) -> Vec<Piece> {
    let mut whole: Vec<Piece> = Vec::new();
    let mut continues = false;
    for line in lines {
        let text = line.text.trim_end();
        let (text, ends_open) = match text.strip_suffix('\\') {
            Some(text) => (text, true),
            None => (text, false),
        };
        match whole.last_mut().filter(|_| continues) {
            Some(last) => last.text.push_str(text),
            None => whole.push(Piece {
                location: line.location.clone(),
                text: text.to_owned(),
            }),
        }
        continues = ends_open;
    }
    whole
}
