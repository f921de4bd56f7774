//! `ChangePrice`: sets a product's price.
//!
//! It has two bodies. `ChangePrice` is the whole command, in the form that a batch has, that is hashed, and that other
//! nodes get, so it contains the product. The route has the product in its path, and `NewPrice` is the rest: with the
//! whole command as its body, a request could name two products.

use super::create::ProductAnswer;
use crate::{
    api_command::ApiCommand,
    command::Target,
    fields::{MoneyField, Sku},
    request::{CommandHeaders, Executor},
};
use axum::{extract::State, response::Response};
use domain::{Product, product};
use serde::{Deserialize, Serialize};
use service::{
    extract::{ApiJson, PathField},
    problem::Problem,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A product's new price.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePrice {
    /// The product.
    sku: Sku,
    /// The price from now on.
    price: MoneyField,
}

/// The body of the route, which has the product in its path.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPrice {
    /// The price from now on.
    price: MoneyField,
}

impl ApiCommand for ChangePrice {
    type Aggregate = Product;
    const NAME: &'static str = "ChangePrice";

    fn target(&self) -> Target<'_> {
        Target::Named(self.sku.as_str())
    }

    fn to_domain(&self) -> product::Command {
        product::Command::ChangePrice {
            new: self.price.into(),
        }
    }

    fn routes() -> OpenApiRouter<Executor> {
        OpenApiRouter::new().routes(routes!(handle))
    }
}

/// Sets a product's price.
#[utoipa::path(put, path = "/products/{sku}/price", tag = "catalog", operation_id = "change_price",
    params(("sku" = String, Path, description = "The product.", example = "85123A"), CommandHeaders),
    request_body = NewPrice,
    responses(
        (status = 201, description = "The price was changed.", body = ProductAnswer),
        (status = 200, description = "The product has this price already.", body = ProductAnswer),
        (status = 404, description = "PRODUCT_NOT_FOUND", body = Problem),
        (status = 422, description = "PRICE_NOT_POSITIVE. FIELD_INVALID or BODY_INVALID: the path or the body has a field that is missing, unknown or invalid.", body = Problem)))]
async fn handle(
    State(executor): State<Executor>,
    PathField(sku): PathField<Sku>,
    headers: CommandHeaders,
    ApiJson(body): ApiJson<NewPrice>,
) -> Result<Response, Problem> {
    let command = ChangePrice {
        sku,
        price: body.price,
    };
    executor.answer(headers, command, ProductAnswer::new).await
}
