//! Products: created, priced.

use super::headers::{CommandHeaders, respond};
use crate::{
    contexts,
    identity::Principal,
    metrics as names,
    outcome::settle,
    wire::{self, FieldError, PriceBody, ProductBody},
    write_side::{ANSWER_TIMEOUT, WriteSide, answer, submit},
};
use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use domain::{Decider, Product, product};
use journal::owner::{Machine, Request};
use schemas::ContextEvent;
use serde_json::json;
use service::{
    extract::{ApiJson, ApiPath},
    problem::Problem,
};

/// The journal topic of products.
const TOPIC: &str = <contexts::catalog::Catalog as Machine>::Event::CONTEXT.topic;

/// Puts a product on the books.
///
/// Asked again for the same product it is already so; a product described otherwise is a 409.
#[utoipa::path(post, path = "/products", tag = "catalog", request_body = ProductBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same command.")),
    responses(
        (status = 201, description = "The product is on the books."),
        (status = 200, description = "It was so already."),
        (status = 400, description = "Malformed.", body = Problem),
        (status = 409, description = "PRODUCT_EXISTS: described otherwise.", body = Problem),
        (status = 422, description = "A field can't be taken, or the key was used for another command.", body = Problem),
        (status = 503, description = "The journal is not available; try again.", body = Problem)))]
pub async fn create(
    write_side: WriteSide,
    headers: HeaderMap,
    ApiJson(body): ApiJson<ProductBody>,
) -> Result<Response, Problem> {
    let (headers, principal) = (CommandHeaders::read(&headers)?, Principal::import());
    let ask = headers.ask("CreateProduct", &principal);
    let request = create_request(&write_side, &ask, body).map_err(field_problem)?;
    run(&write_side, ask.route, request).await
}

/// Sets what a product costs from now on.
#[utoipa::path(put, path = "/products/{sku}/price", tag = "catalog", request_body = PriceBody,
    params(("sku" = String, Path, description = "The product."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same command."),
        ("If-Match" = Option<String>, Header, description = "The version that the product must have, as its ETag.")),
    responses(
        (status = 201, description = "It costs that from now on."),
        (status = 200, description = "It was so already."),
        (status = 404, description = "PRODUCT_NOT_FOUND", body = Problem),
        (status = 412, description = "VERSION_MISMATCH: says the version it has.", body = Problem),
        (status = 422, description = "A field can't be taken, or PRICE_NOT_POSITIVE.", body = Problem),
        (status = 503, description = "The journal is not available; try again.", body = Problem)))]
pub async fn change_price(
    write_side: WriteSide,
    ApiPath(sku): ApiPath<String>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<PriceBody>,
) -> Result<Response, Problem> {
    let (headers, principal) = (CommandHeaders::read(&headers)?, Principal::import());
    let ask = headers.ask("ChangePrice", &principal);
    let sku = wire::sku(&sku).map_err(field_problem)?;
    let canonical = json!({ "sku": sku, "price": body.price });
    let new = body.into_money().map_err(field_problem)?;
    let command = product::Command::ChangePrice { new };
    let key = product_key(sku.as_str());
    let request = write_side
        .about(&ask, key, &canonical, command)
        .map_err(field_problem)?;
    run(&write_side, ask.route, request).await
}

/// The request of a `CreateProduct`.
pub(super) fn create_request(
    write_side: &WriteSide,
    ask: &crate::write_side::Ask<'_>,
    body: ProductBody,
) -> Result<Request<product::Command>, FieldError> {
    let canonical = body.clone();
    let (sku, description) = body.into_parts()?;
    let key = product_key(sku.as_str());
    write_side.about(
        ask,
        key,
        &canonical,
        product::Command::Create { sku, description },
    )
}

fn product_key(sku: &str) -> String {
    format!("{}_{sku}", Product::AGGREGATE_TYPE)
}

async fn run(
    write_side: &WriteSide,
    route: &'static str,
    request: Request<product::Command>,
) -> Result<Response, Problem> {
    let arrived = std::time::Instant::now();
    let key = request.key.clone();
    let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
    let answered = match submit(&write_side.catalog, request, deadline).await {
        Ok(coming) => answer(coming, deadline).await,
        Err(refusal) => Err(refusal),
    };
    let settled = settle(answered);
    let status = settled
        .as_ref()
        .map_or_else(|problem| problem.status, |done| done.status);
    metrics::counter!(names::COMMANDS, "command" => route, "status" => status.as_u16().to_string())
        .increment(1);
    metrics::histogram!(names::COMMAND_SECONDS, "command" => route).record(arrived.elapsed());
    let done = settled?;
    let (_, sku) = schemas::ids::split_key(&key).unwrap_or_default();
    Ok(respond(
        &done,
        TOPIC,
        json!({ "sku": sku, "version": done.answer.version }),
    ))
}

/// A field that can't be taken.
pub(super) fn field_problem(error: FieldError) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "FIELD_INVALID",
        error.to_string(),
    )
    .with("field", error.field)
}
