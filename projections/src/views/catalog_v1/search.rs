//! The products that match a search, for the statements of the list and of its facets.
//!
//! A product matches a text if it has all words of the text, in any form (full-text search). If no product has them, a
//! product matches that has a passage spelled almost like the text (trigrams). Spelling is expensive to compare, so it
//! is not compared without need.

use super::tables::ProductRow;
use crate::columns::Columns;
use sqlx::{Postgres, QueryBuilder};

/// The relevance of a full match: relevances are whole numbers, because a cursor has one, and whole numbers are exact.
const RELEVANCE_ONE: i64 = 1_000_000;
/// The configuration of the words in `schema.sql`.
const LANGUAGE: &str = "english";

/// A search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'q> {
    /// `None` matches every product.
    pub text: Option<&'q str>,
    /// Whether the column `relevance` is computed; it is 0 otherwise.
    pub is_ranked: bool,
}

/// Adds a statement that selects the given columns and `relevance` of the matching products. `push_filters` adds further
/// conditions, each of which begins with ` AND `.
pub(super) fn push_matching(
    query: &mut QueryBuilder<Postgres>,
    search: Search<'_>,
    columns: &str,
    push_filters: impl Fn(&mut QueryBuilder<Postgres>),
) {
    let table = ProductRow::TABLE;
    query.push(format!("SELECT {columns}, "));
    let Some(text) = search.text else {
        query.push(format!("0::bigint AS relevance FROM {table} WHERE true"));
        push_filters(query);
        return;
    };
    push_relevance(query, search, |query| {
        query.push("ts_rank(search, ");
        push_words(query, text);
        query.push(")");
    });
    query.push(format!(" FROM {table} WHERE search @@ "));
    push_words(query, text);
    push_filters(query);

    query.push(format!(" UNION ALL SELECT {columns}, "));
    push_relevance(query, search, |query| {
        query.push("word_similarity(");
        query.push_bind(text.to_owned()).push(", description)");
    });
    // This subquery is evaluated once, before the rows are searched.
    query.push(format!(
        " FROM {table} WHERE NOT EXISTS (SELECT FROM {table} WHERE search @@ "
    ));
    push_words(query, text);
    query.push(") AND description %> ");
    query.push_bind(text.to_owned());
    push_filters(query);
}

fn push_relevance(
    query: &mut QueryBuilder<Postgres>,
    search: Search<'_>,
    push_part_of_one: impl Fn(&mut QueryBuilder<Postgres>),
) {
    match search.is_ranked {
        true => {
            query.push(format!("({RELEVANCE_ONE} * "));
            push_part_of_one(query);
            query.push(")::bigint AS relevance");
        }
        false => {
            query.push("0::bigint AS relevance");
        }
    }
}

fn push_words(query: &mut QueryBuilder<Postgres>, text: &str) {
    // This function accepts any text, as web search engines do.
    query
        .push(format!("websearch_to_tsquery('{LANGUAGE}', "))
        .push_bind(text.to_owned())
        .push(")");
}
