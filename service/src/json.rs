//! Reads JSON into a type. An error names the path of the field, such as `lines[3].sku`.

use crate::problem::Problem;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

/// JSON that can't be read as the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON.
    #[error("{reason}")]
    Malformed {
        /// The error, with line and column.
        reason: String,
    },
    /// The body as a whole does not fit the type: it is not an object, or a field is missing.
    #[error("{reason}")]
    Body {
        /// The error, with line and column.
        reason: String,
    },
    /// A field has the wrong type, or a value that can't be accepted.
    #[error("{path}: {reason}")]
    Field {
        /// The path of the field, such as `lines[3].sku`.
        path: String,
        /// The error.
        reason: String,
    },
}

/// Reads a value from JSON text.
///
/// # Errors
/// The text is not JSON, or does not fit the type.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    // Tracking the path costs time, so it is done only after an error.
    serde_json::from_slice(text).or_else(|_| read_with_path(text))
}

fn read_with_path<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let source = error.into_inner();
        let reason = source.to_string();
        match source.classify() {
            serde_json::error::Category::Data if path == "." => JsonError::Body { reason },
            serde_json::error::Category::Data => JsonError::Field {
                path,
                reason: without_position(&source),
            },
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => JsonError::Malformed { reason },
        }
    })?;
    deserializer.end().map_err(|error| JsonError::Malformed {
        reason: error.to_string(),
    })?;
    Ok(value)
}

/// The error's text without its position: the path already locates the field.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

impl From<JsonError> for Problem {
    /// 400 for text that is not JSON, 422 for JSON that can't be accepted.
    fn from(error: JsonError) -> Self {
        let detail = error.to_string();
        match error {
            JsonError::Malformed { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "BODY_MALFORMED", detail)
            }
            JsonError::Body { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "BODY_INVALID", detail)
            }
            JsonError::Field { path, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "FIELD_INVALID", detail)
                    .with("field", path)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Order {
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Line {
        quantity: u32,
    }

    #[test]
    fn an_error_names_the_field_by_its_path() {
        for (text, code, part) in [
            (r#"{"lines":["#, "BODY_MALFORMED", "column"),
            (r#"{"lines":[]} x"#, "BODY_MALFORMED", "trailing characters"),
            ("[]", "BODY_INVALID", "Order"),
            ("7", "BODY_INVALID", "Order"),
            ("{}", "BODY_INVALID", "missing field `lines`"),
            (r#"{"lines":[],"more":1}"#, "FIELD_INVALID", "more"),
            (
                r#"{"lines":[{"quantity":1},{"quantity":-1}]}"#,
                "FIELD_INVALID",
                "lines[1].quantity: ",
            ),
            (
                r#"{"lines":[{}]}"#,
                "FIELD_INVALID",
                "lines[0]: missing field `quantity`",
            ),
        ] {
            let problem = Problem::from(read::<Order>(text.as_bytes()).unwrap_err());
            assert_eq!(problem.code, code, "{text}: {}", problem.detail);
            assert!(
                problem.detail.contains(part),
                "{text}: no {part:?} in: {}",
                problem.detail
            );
        }
    }
}
