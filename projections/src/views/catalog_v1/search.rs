//! The conditions of a search, for the statements of the list and of its facets.
//!
//! A product matches a text if it has all words of the text, in any form (full-text search), or a passage that is
//! spelled almost like the text (trigrams).

use sqlx::{Postgres, QueryBuilder};

/// Weight of a full match of words and of a full match of spelling in [`push_relevance`].
const RELEVANCE_ONE: i64 = 1_000_000;
/// The configuration of the words in `schema.sql`.
const LANGUAGE: &str = "english";

/// Adds the condition that a product matches a text.
pub(super) fn push_matches(query: &mut QueryBuilder<Postgres>, text: &str) {
    query.push("(search @@ ");
    push_words(query, text);
    // Each side of the `OR` has an index, and Postgres merges what they find.
    query.push(" OR description %> ").push_bind(text.to_owned());
    query.push(")");
}

/// Adds the relevance of a product for a text, as a whole number: a cursor has it, and whole numbers are exact.
pub(super) fn push_relevance(query: &mut QueryBuilder<Postgres>, text: &str) {
    query.push(format!("({RELEVANCE_ONE} * (ts_rank(search, "));
    push_words(query, text);
    query
        .push(") + word_similarity(")
        .push_bind(text.to_owned())
        .push(", description)))::bigint");
}

fn push_words(query: &mut QueryBuilder<Postgres>, text: &str) {
    // This function accepts any text, as web search engines do.
    query
        .push(format!("websearch_to_tsquery('{LANGUAGE}', "))
        .push_bind(text.to_owned())
        .push(")");
}
