//! Conditional GET for every query: a 200 has a strong `ETag`, and a request whose `If-None-Match` names this tag gets
//! a 304 without a body.
//!
//! The tag of a single resource is its version, as in the answers of commands ([`Versioned`]). Every other answer is
//! tagged with a hash of its body. Answers that are streamed or longer than [`TAGGED_BYTES_MAX`] have no tag.

use axum::{
    Json,
    body::{Body, HttpBody, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use schemas::ContentHash;
use serde::Serialize;
use service::problem::Problem;
use utoipa::openapi::{
    HeaderBuilder, ObjectBuilder, RefOr, ResponseBuilder, Schema,
    path::{Operation, ParameterBuilder, ParameterIn},
    schema::Type,
};
use utoipa_axum::router::OpenApiRouter;

/// Longest body that is hashed, in bytes. A page of 100 rows has less than a tenth of this size.
pub const TAGGED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A single resource as JSON, tagged with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The aggregate's version.
    pub version: i64,
    /// The resource.
    pub body: T,
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let tag = format!("\"{}\"", self.version);
        ([(header::ETAG, tag)], Json(self.body)).into_response()
    }
}

/// Makes the GET routes of a router conditional, and documents this in OpenAPI.
pub fn conditional(router: OpenApiRouter) -> OpenApiRouter {
    let mut router = router.layer(middleware::from_fn(revalidate));
    let paths = router.get_openapi_mut().paths.paths.values_mut();
    paths
        .filter_map(|path| path.get.as_mut())
        .for_each(document);
    router
}

async fn revalidate(request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let asked: Vec<HeaderValue> = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .cloned()
        .collect();
    let response = next.run(request).await;
    if !is_get || response.status() != StatusCode::OK {
        return response;
    }
    let response = match response.headers().contains_key(header::ETAG) {
        true => response,
        false => tag(response).await,
    };
    match response.headers().get(header::ETAG) {
        Some(tag) if asked.iter().any(|value| names(value, tag)) => not_modified(response),
        Some(_) | None => response,
    }
}

/// Adds the hash of the body as the tag.
async fn tag(response: Response) -> Response {
    let size = response.body().size_hint().exact();
    let fits = size.is_some_and(|size| size <= TAGGED_BYTES_MAX as u64);
    if !fits {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, TAGGED_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "failed to read the body of an answer");
            let detail = "the query failed: report the time of this answer; the service's log has the reason";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Problem::new(status, "INTERNAL_ERROR", detail).into_response();
        }
    };
    let hash = hex::encode(ContentHash::of(&bytes.as_ref()).as_bytes());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{hash}\"")) {
        parts.headers.insert(header::ETAG, tag);
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether a value of `If-None-Match` names a tag. The comparison is weak (RFC 9110, section 13.1.2), because a proxy
/// that compresses answers may have weakened the tag. Our tags contain no comma, so the value can be split at commas.
fn names(value: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(value), Ok(tag)) = (value.to_str(), tag.to_str()) else {
        return false;
    };
    value.split(',').map(str::trim).any(|named| {
        let strong = named.strip_prefix("W/").unwrap_or(named);
        named == "*" || strong == tag
    })
}

/// A 304 has the headers of the 200, except those about its body.
fn not_modified(response: Response) -> Response {
    let mut headers: HeaderMap = response.into_parts().0.headers;
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

/// Adds the tag, the condition and the 304 to the description of a GET route.
fn document(operation: &mut Operation) {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let condition = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "The `ETag` of an earlier answer. If the answer has not changed, the service sends a 304 without a body.",
        ))
        .schema(Some(text().examples(["\"3\""])))
        .build();
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::T(condition));
    let responses = &mut operation.responses.responses;
    if let Some(RefOr::T(found)) = responses.get_mut("200") {
        let tag = HeaderBuilder::new()
            .schema(Some(Schema::from(text().build())))
            .description(Some("Changes whenever the answer changes."))
            .build();
        found.headers.insert("ETag".to_owned(), RefOr::T(tag));
    }
    let unchanged = ResponseBuilder::new()
        .description("The answer has the tag that `If-None-Match` names.")
        .build();
    responses.insert("304".to_owned(), RefOr::T(unchanged));
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Bytes, routing::get};
    use futures_util::stream;
    use tower::ServiceExt;

    async fn answer(path: &str, condition: Option<&str>) -> (StatusCode, Option<String>, Bytes) {
        let versioned = || async {
            Versioned {
                version: 3,
                body: "order",
            }
        };
        let streamed = || async { Body::from_stream(stream::iter([Ok::<_, String>("a")])) };
        let router = OpenApiRouter::new()
            .route("/list", get(|| async { Json(["a", "b"]) }))
            .route("/other", get(|| async { Json(["a", "c"]) }))
            .route("/order", get(versioned))
            .route("/stream", get(streamed))
            .route("/long", get(|| async { "a".repeat(TAGGED_BYTES_MAX + 1) }))
            .route("/missing", get(|| async { StatusCode::NOT_FOUND }));
        let (router, _) = conditional(router).split_for_parts();
        let mut request = Request::builder().uri(path);
        if let Some(condition) = condition {
            request = request.header(header::IF_NONE_MATCH, condition);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let tag = response.headers().get(header::ETAG);
        let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, tag, body)
    }

    #[tokio::test]
    async fn a_resource_is_tagged_with_its_version_and_a_list_with_its_content() {
        let (_, order, _) = answer("/order", None).await;
        assert_eq!(order.as_deref(), Some("\"3\""));
        let (_, list, body) = answer("/list", None).await;
        assert_eq!(body, r#"["a","b"]"#);
        assert_eq!(answer("/list", None).await.1, list);
        assert_ne!(answer("/other", None).await.1, list);
        let list = list.unwrap();
        assert_eq!((list.starts_with('"'), list.len()), (true, 34), "{list}");
    }

    #[tokio::test]
    async fn a_conditional_get_of_an_unchanged_resource_returns_304() {
        let known = ["\"3\"", "W/\"3\"", "\"2\", \"3\"", "*"];
        for condition in known {
            let (status, tag, body) = answer("/order", Some(condition)).await;
            assert_eq!(status, StatusCode::NOT_MODIFIED, "{condition}");
            assert_eq!((tag.as_deref(), body.len()), (Some("\"3\""), 0));
        }
        let tag = answer("/list", None).await.1.unwrap();
        assert_eq!(
            answer("/list", Some(&tag)).await.0,
            StatusCode::NOT_MODIFIED
        );
        for condition in ["\"2\"", "3", ""] {
            let (status, _, body) = answer("/order", Some(condition)).await;
            assert_eq!(status, StatusCode::OK, "{condition}");
            assert_eq!(body, "\"order\"");
        }
    }

    #[tokio::test]
    async fn streams_long_answers_and_problems_have_no_tag() {
        for (path, status) in [
            ("/stream", StatusCode::OK),
            ("/long", StatusCode::OK),
            ("/missing", StatusCode::NOT_FOUND),
        ] {
            let (found, tag, _) = answer(path, Some("*")).await;
            assert_eq!((found, tag), (status, None), "{path}");
        }
    }
}
