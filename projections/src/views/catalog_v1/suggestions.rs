//! `GET /api/v1/products/suggestions`.

use super::{query, tables::ProductRow};
use crate::{
    columns::Columns,
    paging,
    problems::{ListProblems, QueryError, answer_list},
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::{extract::ApiQuery, problem::Problem};
use sqlx::{FromRow, PgPool};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The greatest character: no text that begins with a prefix comes after the prefix with this character.
const LAST_CHARACTER: &str = "\u{10ffff}";

/// The beginning of a product.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SuggestionsQuery {
    /// The beginning of a description, in any case, or of a SKU.
    #[param(example = "white han")]
    prefix: String,
    /// Most suggestions, 1 to 100; 20 by default.
    limit: Option<u16>,
}

/// A product whose description or SKU begins with the prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, FromRow)]
pub struct Suggestion {
    /// The product's id.
    #[schema(example = "85123A")]
    pub sku: String,
    /// May be empty.
    #[schema(example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    pub description: String,
}

/// Products that begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Suggestions {
    /// By description; then those whose SKU begins with the prefix.
    pub suggestions: Vec<Suggestion>,
}

pub(super) fn routes() -> OpenApiRouter<PgPool> {
    OpenApiRouter::new().routes(routes!(suggest_products))
}

/// Products whose description or SKU begins with a prefix.
#[utoipa::path(get, path = "/products/suggestions", tag = "catalog", params(SuggestionsQuery),
    responses((status = 200, description = "The suggestions.", body = Suggestions), ListProblems))]
async fn suggest_products(
    State(pool): State<PgPool>,
    ApiQuery(SuggestionsQuery { prefix, limit }): ApiQuery<SuggestionsQuery>,
) -> Result<Json<Suggestions>, Problem> {
    let (prefix, limit) = (query::text("prefix", &prefix)?, paging::limit(limit)?);
    let found = find_suggestions(&pool, &prefix, limit);
    let suggestions = answer_list(found, "pass a longer `prefix`").await?;
    Ok(Json(Suggestions { suggestions }))
}

/// Two ranges of two indexes, each of which reads at most `limit` rows. Postgres uses an index for `LIKE` only if the
/// pattern is not a parameter.
async fn find_suggestions(
    pool: &PgPool,
    prefix: &str,
    limit: u16,
) -> Result<Vec<Suggestion>, QueryError> {
    let table = ProductRow::TABLE;
    let range = |column: &str, prefix: &str, order: &str| {
        format!(
            "SELECT sku, description FROM {table} \
             WHERE {column} >= {prefix} AND {column} < {prefix} || $2 ORDER BY {order} LIMIT $3"
        )
    };
    let by_description = range("suggestion", "lower($1)", "suggestion, sku");
    let by_sku = range("sku", "$1", "sku");
    let find = async |statement: String| -> Result<Vec<Suggestion>, sqlx::Error> {
        sqlx::query_as(sqlx::AssertSqlSafe(statement))
            .bind(prefix)
            .bind(LAST_CHARACTER)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await
    };
    let (mut found, by_sku) = tokio::try_join!(find(by_description), find(by_sku))?;
    for suggestion in by_sku {
        if !found.contains(&suggestion) {
            found.push(suggestion);
        }
    }
    found.truncate(usize::from(limit));
    Ok(found)
}
