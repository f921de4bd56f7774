//! Problem details (RFC 9457): the shape of every error response.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{OpenApi, RefOr},
};

/// The media type of problem details.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// The media type of other bodies.
const JSON: &str = "application/json";
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
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(object) = body.as_object_mut() {
            object.extend(self.members.clone());
        }
        body
    }
}

/// Gives every problem in an OpenAPI document its media type. The macros declare `application/json` for the body of a
/// response unless each use of them names another media type.
pub fn name_media_type(document: &mut OpenApi) {
    let problem = format!("#/components/schemas/{}", Problem::name());
    let paths = document.paths.paths.values_mut();
    let operations = paths.flat_map(|path| {
        let methods = [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.delete,
        ];
        methods.into_iter().flatten()
    });
    for operation in operations {
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else {
                continue;
            };
            let is_problem = response.content.get(JSON).is_some_and(|content| {
                let RefOr::T(content) = content else {
                    return false;
                };
                matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location == problem)
            });
            if is_problem && let Some(content) = response.content.shift_remove(JSON) {
                response.content.insert(MEDIA_TYPE.to_owned(), content);
            }
        }
    }
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
    fn a_document_has_the_media_type_of_problems() {
        #[utoipa::path(get, path = "/", responses(
            (status = 200, body = String), (status = 404, body = Problem)))]
        #[expect(dead_code, reason = "only its description is used")]
        fn handler() {}

        #[derive(utoipa::OpenApi)]
        #[openapi(paths(handler))]
        struct Document;

        let mut document = <Document as utoipa::OpenApi>::openapi();
        name_media_type(&mut document);
        let document = serde_json::to_value(document).unwrap();
        let responses = &document["paths"]["/"]["get"]["responses"];
        let types = |status: &str| {
            let content = responses[status]["content"].as_object().unwrap();
            content.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(types("404"), [MEDIA_TYPE]);
        assert_ne!(types("200"), [MEDIA_TYPE]);
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
