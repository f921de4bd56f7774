//! Products: created, priced.

use super::headers::{CommandHeaders, respond};
use crate::{
    call::{Call, Command, PriceChange},
    contexts,
    identity::Principal,
    metrics as names,
    outcome::settle,
    wire::{self, FieldError, PriceBody, ProductBody},
    write_side::{ANSWER_TIMEOUT, WriteSide},
};
use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use journal::owner::Machine;
use schemas::ContextEvent;
use serde_json::json;
use service::{
    extract::{ApiJson, ApiPath},
    problem::Problem,
    trace::{TraceContext, name_command},
};

/// The journal topic of products.
const TOPIC: &str = <contexts::catalog::Catalog as Machine>::Event::CONTEXT.topic;

/// Puts a product on the books.
///
/// Asked again for the same product it is already so; a product described otherwise is a 409.
#[utoipa::path(post, path = "/products", tag = "catalog", request_body = ProductBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same command."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; the commit joins that trace.")),
    responses(
        (status = 201, description = "The product is on the books."),
        (status = 200, description = "It was so already."),
        (status = 400, description = "Malformed.", body = Problem),
        (status = 409, description = "PRODUCT_EXISTS: described otherwise.", body = Problem),
        (status = 422, description = "A field can't be taken, or the key was used for another command.", body = Problem),
        (status = 503, description = "The journal is not available; try again.", body = Problem)))]
pub async fn create(
    write_side: WriteSide,
    trace: TraceContext,
    headers: HeaderMap,
    ApiJson(body): ApiJson<ProductBody>,
) -> Result<Response, Problem> {
    let headers = CommandHeaders::read(&headers)?;
    let command = headers.command(&Principal::import(), &trace, Call::CreateProduct(body));
    run(&write_side, command).await
}

/// Sets what a product costs from now on.
#[utoipa::path(put, path = "/products/{sku}/price", tag = "catalog", request_body = PriceBody,
    params(("sku" = String, Path, description = "The product."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry the same command."),
        ("If-Match" = Option<String>, Header, description = "The version that the product must have, as its ETag."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; the commit joins that trace.")),
    responses(
        (status = 201, description = "It costs that from now on."),
        (status = 200, description = "It was so already."),
        (status = 404, description = "PRODUCT_NOT_FOUND", body = Problem),
        (status = 412, description = "VERSION_MISMATCH: says the version it has.", body = Problem),
        (status = 422, description = "A field can't be taken, or PRICE_NOT_POSITIVE.", body = Problem),
        (status = 503, description = "The journal is not available; try again.", body = Problem)))]
pub async fn change_price(
    write_side: WriteSide,
    trace: TraceContext,
    ApiPath(sku): ApiPath<String>,
    headers: HeaderMap,
    ApiJson(body): ApiJson<PriceBody>,
) -> Result<Response, Problem> {
    let headers = CommandHeaders::read(&headers)?;
    let sku = wire::sku(&sku).map_err(field_problem)?.to_string();
    let price = body.price;
    let call = Call::ChangePrice(PriceChange { sku, price });
    let command = headers.command(&Principal::import(), &trace, call);
    run(&write_side, command).await
}

async fn run(write_side: &WriteSide, command: Command) -> Result<Response, Problem> {
    let arrived = std::time::Instant::now();
    let name = command.call.name();
    // A command from outside begins a story of its own.
    name_command(&command.id.0, &command.id.0);
    let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
    let journey = write_side.router.journey(command, deadline);
    let journey = journey.map_err(field_problem)?;
    let key = journey.key().to_owned();
    let settled = settle(write_side.router.run(journey).await);
    let status = settled
        .as_ref()
        .map_or_else(|problem| problem.status, |done| done.status);
    metrics::counter!(names::COMMANDS, "command" => name, "status" => status.as_u16().to_string())
        .increment(1);
    metrics::histogram!(names::COMMAND_SECONDS, "command" => name).record(arrived.elapsed());
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
