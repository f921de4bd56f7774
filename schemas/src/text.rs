//! The canonical form of texts that people write: countries, customers, descriptions.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// A text in the form in which it is stored and compared: without white space at either end, and composed
/// (Unicode's NFC). So a letter with an accent is the same text however it was typed.
pub fn normalised(text: &str) -> String {
    let text = text.trim();
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.to_owned(),
        IsNormalized::No | IsNormalized::Maybe => text.nfc().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_trimmed_and_composed() {
        for (text, expected) in [
            ("EIRE", "EIRE"),
            (" United  Kingdom\u{a0}\n", "United  Kingdom"),
            ("Re\u{301}union", "R\u{e9}union"),
            ("R\u{e9}union", "R\u{e9}union"),
            ("\u{212b}land", "\u{c5}land"),
            (" ", ""),
        ] {
            assert_eq!(normalised(text), expected, "{text:?}");
            assert_eq!(normalised(expected), expected);
        }
    }
}
