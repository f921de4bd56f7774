//! Inserts text at anchors of hand-written files. A file is formatted by rustfmt, so a block ends at the
//! first `}` with the indentation of its first line.

/// Maximum length of a list on one line; a longer list has a line per word.
const LINE_CHARS_MAX: usize = 100;

/// An anchor that is missing, ambiguous or not closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The anchor is missing.
    #[error("it has no line `{anchor}`")]
    Missing {
        /// The line.
        anchor: String,
    },
    /// The anchor occurs more than once.
    #[error("it has more than one line `{anchor}`")]
    Ambiguous {
        /// The line.
        anchor: String,
    },
    /// The block that the anchor begins does not end.
    #[error("the block that begins with `{anchor}` has no end")]
    Open {
        /// The line.
        anchor: String,
    },
}

/// The indices of a block's first and last line.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    last: usize,
}

/// The lines inside a block, without its first and last one. `anchors` are the first lines of the nested
/// blocks, from the outermost to the block itself.
pub fn lines_of_block<'t>(text: &'t str, anchors: &[&str]) -> Result<Vec<&'t str>, EditError> {
    let lines: Vec<&str> = text.lines().collect();
    let block = find(&lines, anchors)?;
    let inner = lines.get(block.first + 1..block.last).unwrap_or_default();
    Ok(inner.to_vec())
}

/// Adds lines at the end of a block.
pub fn append_to_block(text: &str, anchors: &[&str], addition: &str) -> Result<String, EditError> {
    let mut lines: Vec<&str> = text.lines().collect();
    let end = find(&lines, anchors)?.last;
    let addition: Vec<&str> = addition.trim_end().lines().collect();
    lines.splice(end..end, addition);
    Ok(joined(&lines))
}

/// Adds lines before the only line `anchor`.
pub fn insert_before(text: &str, anchor: &str, addition: &str) -> Result<String, EditError> {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = only_line(&lines, 0, |line| line == anchor, anchor)?;
    let addition: Vec<&str> = addition.trim_end().lines().chain([""]).collect();
    lines.splice(at..at, addition);
    Ok(joined(&lines))
}

/// Adds a word to the list `name { word, word }` in the block that `anchors` lead to.
pub fn append_word(
    text: &str,
    anchors: &[&str],
    name: &str,
    word: &str,
) -> Result<String, EditError> {
    let mut lines: Vec<&str> = text.lines().collect();
    let outer = find(&lines, anchors)?;
    let anchor = format!("{name} {{");
    let within = lines.get(..=outer.last).unwrap_or_default();
    let starts = |line: &str| line.trim_start().starts_with(&anchor);
    let first = only_line(within, outer.first + 1, starts, &anchor)?;
    let last = match lines[first].trim_end().ends_with('}') {
        true => first,
        false => end_of_block(&lines, first, &anchor)?,
    };
    let list = lines.get(first..=last).unwrap_or_default().join("\n");
    let inner = list.split_once('{').map_or("", |(_, inner)| inner);
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let words = inner
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let words: Vec<&str> = words.chain([word]).collect();
    let indentation = " ".repeat(indentation(lines[first]));
    let mut list = format!("{indentation}{name} {{ {} }}", words.join(", "));
    if list.len() > LINE_CHARS_MAX {
        let separator = format!(",\n{indentation}    ");
        let words = words.join(&separator);
        list = format!("{indentation}{name} {{\n{indentation}    {words},\n{indentation}}}");
    }
    lines.splice(first..=last, [list.as_str()]);
    Ok(joined(&lines))
}

fn find(lines: &[&str], anchors: &[&str]) -> Result<Block, EditError> {
    let mut block = Block {
        first: 0,
        last: lines.len(),
    };
    for (depth, anchor) in anchors.iter().enumerate() {
        let start = if depth == 0 { 0 } else { block.first + 1 };
        let within = lines.get(..block.last).unwrap_or_default();
        let first = only_line(within, start, |line| line.trim() == *anchor, anchor)?;
        let last = end_of_block(lines, first, anchor)?;
        block = Block { first, last };
    }
    Ok(block)
}

fn only_line(
    lines: &[&str],
    start: usize,
    is_anchor: impl Fn(&str) -> bool,
    anchor: &str,
) -> Result<usize, EditError> {
    let anchor = || anchor.to_owned();
    let numbered = lines.iter().enumerate().skip(start);
    let mut hits = numbered.filter(|(_, line)| is_anchor(line));
    match (hits.next(), hits.next()) {
        (None, _) => Err(EditError::Missing { anchor: anchor() }),
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => Err(EditError::Ambiguous { anchor: anchor() }),
    }
}

fn end_of_block(lines: &[&str], first: usize, anchor: &str) -> Result<usize, EditError> {
    let width = indentation(lines[first]);
    let numbered = lines.iter().enumerate().skip(first + 1);
    let mut ends = numbered
        .filter(|(_, line)| indentation(line) == width && line.trim_start().starts_with('}'));
    let end = ends.next().map(|(index, _)| index);
    end.ok_or_else(|| EditError::Open {
        anchor: anchor.to_owned(),
    })
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn joined(lines: &[&str]) -> String {
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "\
macro_rules! contexts {
    ($generate:ident) => {
        $generate! {
            catalog { product::Product }
            orders { order::Order }
        }
    };
}
";
    const REGISTRY_ANCHORS: [&str; 1] = ["$generate! {"];

    #[test]
    fn a_line_is_added_at_the_end_of_its_block() {
        let line = "            warehouse { shipment::Shipment }\n";
        let text = append_to_block(REGISTRY, &REGISTRY_ANCHORS, line).unwrap();
        assert_eq!(
            text,
            REGISTRY.replace("Order }\n", &format!("Order }}\n{line}"))
        );
        let lines = lines_of_block(&text, &REGISTRY_ANCHORS).unwrap();
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_word_is_added_to_its_list() {
        let text = append_word(REGISTRY, &REGISTRY_ANCHORS, "catalog", "a::A").unwrap();
        assert_eq!(
            text,
            REGISTRY.replace("product::Product }", "product::Product, a::A }")
        );
    }

    #[test]
    fn a_long_list_has_a_line_per_word() {
        let long = "w".repeat(LINE_CHARS_MAX);
        let text = append_word("a {\n    b { c }\n}\n", &["a {"], "b", &long).unwrap();
        let broken = format!("a {{\n    b {{\n        c,\n        {long},\n    }}\n}}\n");
        assert_eq!(text, broken);
        let text = append_word(&text, &["a {"], "b", "d").unwrap();
        let longer = broken.replace(&long, &format!("{long},\n        d"));
        assert_eq!(text, longer);
    }

    #[test]
    fn a_block_is_found_in_another_block() {
        let text = "fn a() {\n    match self {\n        A,\n    }\n}\nfn b() {\n    match self {\n    }\n}\n";
        let edited = append_to_block(text, &["fn b() {", "match self {"], "        B,").unwrap();
        assert_eq!(
            edited,
            text.replace("self {\n    }", "self {\n        B,\n    }")
        );
    }

    #[test]
    fn a_missing_or_repeated_anchor_is_an_error() {
        let anchor = || "x {".to_owned();
        let edit = |text| append_to_block(text, &["x {"], "y").unwrap_err();
        assert_eq!(edit(""), EditError::Missing { anchor: anchor() });
        assert_eq!(edit("x {\n"), EditError::Open { anchor: anchor() });
        let twice = EditError::Ambiguous { anchor: anchor() };
        assert_eq!(edit("x {\n}\nx {\n}\n"), twice);
        let missing = insert_before("a\n", "b", "c").unwrap_err();
        assert_eq!(missing, EditError::Missing { anchor: "b".into() });
    }
}
