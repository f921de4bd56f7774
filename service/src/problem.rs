//! Problem details (RFC 9457): the shape of every error response.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{OpenApi, RefOr, path::Operation},
};

/// The media type of problem details.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// The media type of other bodies.
const JSON: &str = "application/json";
/// Shortest code of a problem, in characters. Abbreviations in descriptions are shorter.
const CODE_LENGTH_MIN: usize = 8;
/// The code of a problem about `Content-Encoding`.
pub const ENCODING_NOT_IDENTITY: &str = "CONTENT_ENCODING_NOT_IDENTITY";

/// An error response. `code` is stable and for programs; `detail` is for people.
#[derive(Debug, Clone, PartialEq, ToSchema)]
pub struct Problem {
    /// HTTP status.
    #[schema(value_type = u16)]
    pub status: StatusCode,
    /// Stable, upper-case name of the error.
    #[schema(value_type = String)]
    pub code: &'static str,
    /// The reason in words, for this request.
    pub detail: String,
    /// Further members.
    #[schema(ignore)]
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem without further members.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            members: Map::new(),
        }
    }

    /// Adds a member. A value that can't be serialised is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.members.insert(name.to_owned(), value);
        }
        self
    }

    /// The body: `type`, `title`, `status`, `code`, `detail`, then the further members.
    pub fn body(&self) -> Value {
        let mut body = body(self.status, self.code, &self.detail);
        if let Some(object) = body.as_object_mut() {
            object.extend(self.members.clone());
        }
        body
    }
}

/// Adds the problems `P` to each operation of an OpenAPI document. If the operation documents a problem with the same
/// status, its own description comes first. The macro `utoipa::path` keeps only the last description of a status.
pub fn add_problems<P: IntoResponses>(document: &mut OpenApi) {
    for operation in operations(document) {
        let responses = &mut operation.responses.responses;
        for (status, added) in P::responses() {
            if let (Some(RefOr::T(own)), RefOr::T(added)) = (responses.get_mut(&status), &added) {
                own.description = format!("{} {}", own.description, added.description);
            } else {
                responses.insert(status, added);
            }
        }
    }
}

/// Completes every problem in an OpenAPI document. It gets its media type, because the macros declare
/// `application/json` for the body of a response, and an example, whose `code` is the first one that the response's
/// description names. If the description names no code, the problem gets no example.
pub fn describe_problems(document: &mut OpenApi) {
    let problem = format!("#/components/schemas/{}", Problem::name());
    for operation in operations(document) {
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else {
                continue;
            };
            let is_problem = response.content.get(JSON).is_some_and(|content| {
                let RefOr::T(content) = content else {
                    return false;
                };
                matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location == problem)
            });
            if !is_problem {
                continue;
            }
            if let Some(mut content) = response.content.shift_remove(JSON) {
                if let RefOr::T(content) = &mut content {
                    content.example = example(status, &response.description);
                }
                response.content.insert(MEDIA_TYPE.to_owned(), content);
            }
        }
    }
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    let paths = document.paths.paths.values_mut();
    paths.flat_map(|path| {
        let methods = [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.delete,
        ];
        methods.into_iter().flatten()
    })
}

/// A problem with this status and the first code in the description.
fn example(status: &str, description: &str) -> Option<Value> {
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    let code = codes(description).next()?;
    Some(body(status, code, description))
}

/// The codes that a description names: words of at least [`CODE_LENGTH_MIN`] upper-case letters and underscores.
fn codes(description: &str) -> impl Iterator<Item = &str> {
    let is_of_code = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    let words = description.split(|letter: char| letter.is_whitespace() || ":;,.".contains(letter));
    words.filter(move |word| word.len() >= CODE_LENGTH_MIN && word.chars().all(is_of_code))
}

/// The members that every problem has.
fn body(status: StatusCode, code: &str, detail: &str) -> Value {
    json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    })
}

impl IntoResponse for Problem {
    /// A 503 always has `Retry-After`. A 415 for an unsupported encoding has `Accept-Encoding`.
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.code == ENCODING_NOT_IDENTITY {
            let identity = HeaderValue::from_static("identity");
            headers.insert(header::ACCEPT_ENCODING, identity);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_type_status_code_and_detail() {
        let problem = Problem::new(StatusCode::CONFLICT, "PRICE_CHANGED", "it rose").with("old", 1);
        assert_eq!(
            problem.body(),
            json!({"type": "about:blank", "title": "Conflict", "status": 409,
                   "code": "PRICE_CHANGED", "detail": "it rose", "old": 1})
        );
        let response = problem.into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    }

    #[test]
    fn a_document_has_the_media_type_and_an_example_of_problems() {
        #[utoipa::path(get, path = "/", responses(
            (status = 200, body = String),
            (status = 404, description = "ORDER_NOT_FOUND or PAGE_NOT_FOUND: the API has none.", body = Problem),
            (status = 503, description = "The API has no code for this.", body = Problem)))]
        #[expect(dead_code, reason = "only its description is used")]
        fn handler() {}

        #[derive(utoipa::OpenApi)]
        #[openapi(paths(handler))]
        struct Document;

        let mut document = <Document as utoipa::OpenApi>::openapi();
        describe_problems(&mut document);
        let document = serde_json::to_value(document).unwrap();
        let responses = &document["paths"]["/"]["get"]["responses"];
        let types = |status: &str| {
            let content = responses[status]["content"].as_object().unwrap();
            content.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(types("404"), [MEDIA_TYPE]);
        assert_ne!(types("200"), [MEDIA_TYPE]);
        let example = |status: &str| responses[status]["content"][MEDIA_TYPE]["example"].clone();
        let detail = "ORDER_NOT_FOUND or PAGE_NOT_FOUND: the API has none.";
        let expected = Problem::new(StatusCode::NOT_FOUND, "ORDER_NOT_FOUND", detail);
        assert_eq!(example("404"), expected.body());
        assert_eq!(example("503"), Value::Null);
    }

    #[test]
    fn an_added_problem_keeps_the_operations_own_description() {
        #[derive(utoipa::IntoResponses)]
        #[expect(dead_code, reason = "it is only documented")]
        enum Added {
            /// JOURNAL_FORBIDDEN: ask an operator.
            #[response(status = 403)]
            Forbidden(Problem),
            /// JOURNAL_UNAVAILABLE: try again.
            #[response(status = 503)]
            Unavailable(Problem),
        }

        #[utoipa::path(put, path = "/", responses(
            (status = 403, description = "PRICE_LOCKED: wait.", body = Problem)))]
        #[expect(dead_code, reason = "only its description is used")]
        fn handler() {}

        #[derive(utoipa::OpenApi)]
        #[openapi(paths(handler))]
        struct Document;

        let mut document = <Document as utoipa::OpenApi>::openapi();
        add_problems::<Added>(&mut document);
        let document = serde_json::to_value(document).unwrap();
        let responses = &document["paths"]["/"]["put"]["responses"];
        let description = |status: &str| responses[status]["description"].clone();
        let both = "PRICE_LOCKED: wait. JOURNAL_FORBIDDEN: ask an operator.";
        assert_eq!(description("403"), both);
        assert_eq!(description("503"), "JOURNAL_UNAVAILABLE: try again.");
    }

    #[test]
    fn a_problem_about_an_encoding_names_the_accepted_one() {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let encoding = Problem::new(status, ENCODING_NOT_IDENTITY, "").into_response();
        assert_eq!(encoding.headers()[header::ACCEPT_ENCODING], "identity");
        let other = Problem::new(status, "OTHER", "").into_response();
        assert_eq!(other.headers().get(header::ACCEPT_ENCODING), None);
    }
}
