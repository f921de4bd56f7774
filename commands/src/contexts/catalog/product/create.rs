//! `CreateProduct`: adds a product to the catalog.

use crate::{
    api_command::ApiCommand,
    command::Target,
    fields::{Description, Sku},
    request::{CommandHeaders, Executor},
};
use axum::{extract::State, response::Response};
use domain::{Product, product};
use serde::{Deserialize, Serialize};
use service::{extract::ApiJson, problem::Problem};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A new product.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProduct {
    /// The product's id: 1 to 64 printable ASCII characters. Case counts.
    sku: Sku,
    /// The product's description. It may be empty.
    #[schema(value_type = String, max_length = 500, example = "WHITE HANGING HEART T-LIGHT HOLDER")]
    description: Description,
}

/// The body of the answer to a command for a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProductAnswer {
    /// The product.
    #[schema(example = "85123A")]
    pub sku: String,
    /// The product's version after the command.
    #[schema(example = 1)]
    pub version: i64,
}

impl ProductAnswer {
    /// The answer of a product.
    pub fn new(sku: String, version: i64) -> Self {
        Self { sku, version }
    }
}

impl ApiCommand for CreateProduct {
    type Aggregate = Product;
    const NAME: &'static str = "CreateProduct";

    fn target(&self) -> Target<'_> {
        Target::Named(self.sku.as_str())
    }

    fn to_domain(&self) -> product::Command {
        product::Command::Create {
            sku: self.sku.get().clone(),
            description: (&self.description).into(),
        }
    }

    fn routes() -> OpenApiRouter<Executor> {
        OpenApiRouter::new().routes(routes!(handle))
    }
}

/// Adds a product to the catalog.
///
/// Creating the same product again changes nothing and answers 200. Another description is a conflict.
#[utoipa::path(post, path = "/products", tag = "catalog", operation_id = "create_product",
    params(CommandHeaders), request_body = CreateProduct,
    responses(
        (status = 201, description = "The product was created.", body = ProductAnswer),
        (status = 200, description = "The product already exists with this description.", body = ProductAnswer),
        (status = 409, description = "PRODUCT_EXISTS: the product exists with another description.", body = Problem),
        (status = 422, description = "FIELD_INVALID or BODY_INVALID: the body has a field that is missing, unknown or invalid.", body = Problem)))]
async fn handle(
    State(executor): State<Executor>,
    headers: CommandHeaders,
    ApiJson(command): ApiJson<CreateProduct>,
) -> Result<Response, Problem> {
    executor.answer(headers, command, ProductAnswer::new).await
}
