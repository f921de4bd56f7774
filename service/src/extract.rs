//! axum's extractors, with problem details for the requests that they reject.

use crate::{
    json::{self, JsonError},
    media_type,
    problem::Problem,
};
use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use serde::de::{
    DeserializeOwned, IntoDeserializer,
    value::{self, StringDeserializer},
};

/// A JSON body. Rejections: 400 for malformed JSON, 413 for a body that is too large, 415 for another media
/// type, charset or encoding, 422 for JSON that does not fit the type.
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

/// The query string. An unknown name or an invalid value is a 400.
#[derive(Debug, Clone, Copy)]
pub struct ApiQuery<T>(pub T);

/// The parameters of a query that has none: any parameter is a 400, like an unknown parameter of other queries.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// A middleware for commands, which have no parameters in the query string: any parameter is a 400. Otherwise a client
/// would not notice that the service ignores a parameter such as `dry_run`.
pub async fn refuse_parameters(
    ApiQuery(NoParameters {}): ApiQuery<NoParameters>,
    request: Request,
    next: Next,
) -> Response {
    next.run(request).await
}

/// Path parameters. An invalid value is a 400.
#[derive(Debug, Clone, Copy)]
pub struct ApiPath<T>(pub T);

/// The only parameter of a path, which checks itself like a field of a body: an invalid value is a 422 that names the
/// parameter. A text that is not UTF-8 is a 400. The handler panics if its route has no parameter, or several.
#[derive(Debug, Clone, Copy)]
pub struct PathField<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let other_type = ("CONTENT_TYPE_NOT_JSON", "send the body as application/json");
        media_type::check(request.headers(), is_json, other_type)?;
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|rejection| bytes_problem(&rejection))?;
        Ok(Self(json::read(&body)?))
    }
}

/// Whether a media type is `application/json` or `application/*+json`.
fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(query_problem(&rejection)),
        }
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(path_problem(&rejection)),
        }
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathField<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = ApiPath::<Vec<(String, String)>>::from_request_parts(parts, state).await?;
        let [(name, text)] = <[(String, String); 1]>::try_from(parameters.0)
            .expect("a route with a `PathField` has one parameter");
        Ok(Self(path_field(name, text)?))
    }
}

fn path_field<T: DeserializeOwned>(name: String, text: String) -> Result<T, JsonError> {
    let text: StringDeserializer<value::Error> = text.into_deserializer();
    serde::Deserialize::deserialize(text).map_err(|error| JsonError::Field {
        path: name,
        reason: error.to_string(),
    })
}

fn bytes_problem(rejection: &BytesRejection) -> Problem {
    let status = rejection.status();
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "BODY_TOO_LARGE",
        _ => "BODY_MALFORMED",
    };
    Problem::new(status, code, rejection.body_text())
}

fn query_problem(rejection: &QueryRejection) -> Problem {
    let status = StatusCode::BAD_REQUEST;
    Problem::new(
        status,
        "UNKNOWN_OR_INVALID_PARAMETER",
        rejection.body_text(),
    )
}

fn path_problem(rejection: &PathRejection) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "PATH_INVALID",
        rejection.body_text(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::post};
    use serde::Deserialize;
    use tower::ServiceExt;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        #[expect(dead_code, reason = "only its deserialisation is tested")]
        count: u32,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
    }

    async fn send(query: &str, content_type: &str, body: &str) -> (StatusCode, String) {
        let handler = |_: ApiQuery<Input>, _: ApiJson<Input>| async {};
        let request = axum::http::Request::post(format!("/?{query}"))
            .header("content-type", content_type)
            .body(Body::from(body.to_owned()))
            .unwrap();
        answer(Router::new().route("/", post(handler)), request).await
    }

    async fn send_path(path: &str) -> (StatusCode, String) {
        let handler = |_: PathField<Colour>| async {};
        let request = axum::http::Request::post(path);
        let request = request.body(Body::empty()).unwrap();
        answer(Router::new().route("/{colour}", post(handler)), request).await
    }

    async fn answer(router: Router, request: Request) -> (StatusCode, String) {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_rejection_has_a_code_and_names_the_field() {
        const JSON: &str = "application/json";
        for (query, content_type, body, status, part) in [
            ("count=1", JSON, "{\"count\":1}", 200, ""),
            ("count=1", JSON, "{\"count\":", 400, "BODY_MALFORMED"),
            ("count=1", JSON, "{\"count\":\"1\"}", 422, "count"),
            ("count=1", JSON, "{\"count\":-1}", 422, "FIELD_INVALID"),
            ("count=1", JSON, "{\"count\":1,\"more\":2}", 422, "more"),
            ("count=1", "text/plain", "{}", 415, "CONTENT_TYPE_NOT_JSON"),
            ("count=1&more=1", JSON, "{\"count\":1}", 400, "more"),
            (
                "count=x",
                JSON,
                "{\"count\":1}",
                400,
                "UNKNOWN_OR_INVALID_PARAMETER",
            ),
        ] {
            let (found, text) = send(query, content_type, body).await;
            assert_eq!(found.as_u16(), status, "{query} {body}: {text}");
            assert!(
                text.contains(part),
                "{query} {body}: no {part:?} in: {text}"
            );
        }
    }

    #[tokio::test]
    async fn an_invalid_path_field_is_named_like_a_field_of_a_body() {
        for (path, status, part) in [
            ("/red", 200, ""),
            ("/blue", 422, "\"field\":\"colour\""),
            ("/blue", 422, "colour: unknown variant `blue`"),
            ("/%FF", 400, "PATH_INVALID"),
        ] {
            let (found, text) = send_path(path).await;
            assert_eq!(found.as_u16(), status, "{path}: {text}");
            assert!(text.contains(part), "{path}: no {part:?} in: {text}");
        }
    }
}
