//! The SQL of the queries for products.

use super::{
    filter::{Filter, Prefix},
    sort::{After, Sort},
    tables::{CatalogView, ProductRow},
};
use crate::{
    columns::{Columns, list},
    databases::Databases,
    postgres::Instant,
    problems::QueryError,
};
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres, QueryBuilder, Transaction};

/// Minimum similarity between a search text and a part of a name, from 0 to 1. At this value, `lantern` is found with
/// two letters swapped or one letter missing; higher values find fewer misspelt words.
const SIMILARITY_MIN: &str = "0.45";
/// The words of the search text, both as stems and as they are written. The text is the statement's first parameter.
const WORDS: &str = "(plainto_tsquery('english', $1) || plainto_tsquery('simple', $1))";
/// Lower bounds of the price bands after the first one, in minor units.
pub(super) const PRICE_BANDS: [i64; 4] = [100, 500, 1_000, 5_000];

/// How products are compared with a search text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// They have all words of the text, in any form.
    Words,
    /// A part of their name is similar to the text. This is far more expensive than the comparison of words.
    Similarity,
}

/// A product that matches a filter.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(super) struct Match {
    #[sqlx(flatten)]
    pub row: ProductRow,
    /// The relevance, in millionths; 0 without a search text.
    pub relevance: i64,
}

/// The number of products in one price band of one currency; `None` counts products without a price.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(super) struct BandCount {
    pub currency: Option<String>,
    /// The index of the price band: the number of lower bounds in [`PRICE_BANDS`] up to the price.
    pub band: Option<i32>,
    pub products: i64,
}

/// Reads one row more than the page, to know whether there is a next page, and the counts of all matches if the filter
/// asks for them. Both results come from the same snapshot.
pub(super) async fn find_page(
    databases: &Databases,
    filter: &Filter,
) -> Result<(Vec<Match>, Option<Vec<BandCount>>), QueryError> {
    let table = table(databases)?;
    let mut transaction = begin(&databases.postgres).await?;
    let comparison = match &filter.search {
        Some(search) => comparison(&mut transaction, &table, search).await?,
        None => Comparison::Words,
    };
    let mut page = QueryBuilder::new("");
    push_page(&mut page, &table, filter, comparison);
    let matches = page.build_query_as().fetch_all(&mut *transaction).await?;
    let mut bands = None;
    if filter.facets {
        let mut counts = QueryBuilder::new("");
        push_band_counts(&mut counts, &table, filter, comparison);
        bands = Some(counts.build_query_as().fetch_all(&mut *transaction).await?);
    }
    transaction.commit().await?;
    Ok((matches, bands))
}

/// One product.
pub(super) async fn find_one(
    databases: &Databases,
    sku: &str,
) -> Result<Option<ProductRow>, QueryError> {
    let (columns, table) = (list(ProductRow::all()), table(databases)?);
    let statement = format!("SELECT {columns} FROM {table} WHERE sku = $1");
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(sku);
    Ok(query.fetch_optional(&databases.postgres).await?)
}

/// The first products, by name, whose names begin with a prefix.
pub(super) async fn find_by_prefix(
    databases: &Databases,
    prefix: &Prefix,
) -> Result<Vec<ProductRow>, QueryError> {
    let (columns, table, limit) = (list(ProductRow::all()), table(databases)?, prefix.limit);
    // The range of the names with this prefix, in the order of the index; no name has a character after U+10FFFF.
    let statement = format!(
        "SELECT {columns} FROM {table} WHERE name >= $1 AND name <= $1 || chr(1114111) \
         ORDER BY name, sku LIMIT {limit}"
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(&prefix.text);
    Ok(query.fetch_all(&databases.postgres).await?)
}

/// The table of the build that answers queries.
fn table(databases: &Databases) -> Result<String, QueryError> {
    Ok(databases.build::<CatalogView>()?.table(ProductRow::TABLE))
}

/// Begins a transaction in which `<%` matches texts with a similarity of at least [`SIMILARITY_MIN`].
async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT set_config('pg_trgm.word_similarity_threshold', $1, true)")
        .bind(SIMILARITY_MIN)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// The comparison that finds products: similar names count only if no product has all words.
async fn comparison(
    transaction: &mut Transaction<'static, Postgres>,
    table: &str,
    search: &str,
) -> Result<Comparison, sqlx::Error> {
    // Postgres would scan the table for a common word, because it expects to find one soon.
    sqlx::query("SELECT set_config('enable_seqscan', 'off', true)")
        .execute(&mut **transaction)
        .await?;
    let statement = format!("SELECT EXISTS (SELECT FROM {table} WHERE words @@ {WORDS})");
    let has_words: bool = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(search)
        .fetch_one(&mut **transaction)
        .await?;
    Ok(match has_words {
        true => Comparison::Words,
        false => Comparison::Similarity,
    })
}

fn push_page(
    query: &mut QueryBuilder<Postgres>,
    table: &str,
    filter: &Filter,
    comparison: Comparison,
) {
    let columns = list(ProductRow::all());
    query.push(format!("SELECT {columns}, relevance FROM ("));
    push_matches(query, table, filter, comparison);
    query.push(") AS matches");
    if let Some(after) = &filter.after {
        query.push(" WHERE ");
        push_after(query, filter.sort, after);
    }
    let order = match filter.sort {
        Sort::Relevance => "relevance DESC, sku",
        Sort::Name => "name, sku",
        Sort::PriceAsc => "price, sku",
        Sort::PriceDesc => "price DESC, sku DESC",
        Sort::Newest => "created_at DESC, sku DESC",
    };
    // The limit is a literal, because the plan depends on it.
    let count = filter.limit + 1;
    query.push(format!(" ORDER BY {order} LIMIT {count}"));
}

fn push_band_counts(
    query: &mut QueryBuilder<Postgres>,
    table: &str,
    filter: &Filter,
    comparison: Comparison,
) {
    let bounds = list(PRICE_BANDS.map(|bound| bound.to_string()));
    query.push(format!(
        "SELECT currency, width_bucket(price, ARRAY[{bounds}]::bigint[]) AS band, \
         count(*) AS products FROM ("
    ));
    push_matches(query, table, filter, comparison);
    query.push(") AS matches GROUP BY currency, band ORDER BY currency, band");
}

/// Appends a query for all products that match the filter. Call this before another parameter is bound: [`WORDS`]
/// refers to the search text as the statement's first parameter.
fn push_matches(
    query: &mut QueryBuilder<Postgres>,
    table: &str,
    filter: &Filter,
    comparison: Comparison,
) {
    let columns = list(ProductRow::all());
    query.push(format!("SELECT {columns}, "));
    match (&filter.search, comparison) {
        // Every product with the words is more relevant than a similar one: if another product gets the words between
        // two pages, the next page does not repeat products.
        (Some(search), Comparison::Words) => query
            .push("(1000000 * (1 + ts_rank(words, plainto_tsquery('english', ")
            .push_bind(search.clone())
            .push(format!(
                ") || plainto_tsquery('simple', $1))))::bigint AS relevance FROM {table} WHERE words @@ {WORDS}"
            )),
        (Some(search), Comparison::Similarity) => query
            .push("(1000000 * word_similarity(")
            .push_bind(search.clone())
            .push(format!(
                ", name))::bigint AS relevance FROM {table} WHERE $1 <% name"
            )),
        (None, _) => query.push(format!("0::bigint AS relevance FROM {table} WHERE true")),
    };
    if let Some(currency) = &filter.currency {
        query.push(" AND currency = ").push_bind(currency.clone());
    }
    if let Some(min) = filter.price_min {
        query.push(" AND price >= ").push_bind(min);
    }
    if let Some(max) = filter.price_max {
        query.push(" AND price <= ").push_bind(max);
    }
    // Exactly the products with a price have a currency.
    query.push(match (filter.priced, filter.currency.is_some()) {
        (Some(true), false) => " AND price IS NOT NULL",
        (Some(false), false) => " AND price IS NULL",
        (Some(false), true) => " AND false",
        (Some(true), true) | (None, _) => "",
    });
    if filter.search.is_some() {
        // Finds the matches with the indexes of words and trigrams, whatever the sort order is. Without this, Postgres
        // may read the index of the sort order and compare every name on the way to the page's last match.
        query.push(" OFFSET 0");
    }
}

/// Appends the condition that selects the rows after the previous page's last row.
fn push_after(query: &mut QueryBuilder<Postgres>, sort: Sort, after: &After) {
    match after {
        After::Relevance(key) => query
            .push("(relevance < ")
            .push_bind(key.relevance)
            .push(" OR (relevance = ")
            .push_bind(key.relevance)
            .push(" AND sku > ")
            .push_bind(key.sku.clone())
            .push("))"),
        After::Name(key) => query
            .push("(name, sku) > (")
            .push_bind(key.name.clone())
            .push(", ")
            .push_bind(key.sku.clone())
            .push(")"),
        After::Price(key) => query
            .push(match sort {
                Sort::PriceDesc => "(price, sku) < (",
                Sort::PriceAsc | Sort::Relevance | Sort::Name | Sort::Newest => "(price, sku) > (",
            })
            .push_bind(key.price)
            .push(", ")
            .push_bind(key.sku.clone())
            .push(")"),
        After::Newest(key) => query
            .push("(created_at, sku) < (")
            .push_bind(Instant(key.created_at))
            .push(", ")
            .push_bind(key.sku.clone())
            .push(")"),
    };
}
