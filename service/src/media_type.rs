//! Checks the media type, the charset and the encoding of a request's body. An unsupported body is refused.

use crate::problem::{ENCODING_NOT_IDENTITY, Problem};
use axum::http::{HeaderMap, StatusCode, header};

/// The code of a problem about the parameter `charset`.
pub const CHARSET_NOT_UTF_8: &str = "CHARSET_NOT_UTF_8";

/// Checks the headers of a body. `is_ours` receives the media type in lower case, without parameters.
///
/// # Errors
/// 415: another media type (with the code and the detail of `other_type`), a charset other than UTF-8, or an
/// encoding.
pub fn check(
    headers: &HeaderMap,
    is_ours: impl Fn(&str) -> bool,
    other_type: (&'static str, &str),
) -> Result<(), Problem> {
    let unsupported =
        |code, detail: &str| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail);
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (content_type, more) = (types.next(), types.next());
    let text = content_type.and_then(|value| value.to_str().ok());
    let mut parts = text.unwrap_or_default().split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    if more.is_some() || !is_ours(&media_type) {
        return Err(unsupported(other_type.0, other_type.1));
    }
    if !parts.all(has_no_other_charset) {
        let detail = "Content-Type: send the body in UTF-8";
        return Err(unsupported(CHARSET_NOT_UTF_8, detail));
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let is_identity = |text: &str| {
        let mut encodings = text.split(',').map(str::trim);
        encodings.all(|encoding| encoding.eq_ignore_ascii_case("identity"))
    };
    let mut encodings = encodings.map(|value| value.to_str().is_ok_and(is_identity));
    if !encodings.all(|is_identity| is_identity) {
        let detail = "Content-Encoding: send the body without an encoding";
        return Err(unsupported(ENCODING_NOT_IDENTITY, detail));
    }
    Ok(())
}

/// Whether a parameter of a media type is not `charset`, or is the charset UTF-8.
fn has_no_other_charset(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    !name.trim().eq_ignore_ascii_case("charset")
        || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn check_json(headers: &[(HeaderName, &str)]) -> Result<(), &'static str> {
        let headers = headers.iter().cloned();
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, HeaderValue::from_str(value).unwrap());
        }
        let is_ours = |media_type: &str| media_type == "application/json";
        check(&all, is_ours, ("OTHER", "send JSON")).map_err(|problem| problem.code)
    }

    #[test]
    fn a_supported_body_is_accepted() {
        let encoding = (header::CONTENT_ENCODING, "identity");
        for content_type in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"; version=1",
        ] {
            let content_type = (header::CONTENT_TYPE, content_type);
            assert_eq!(check_json(std::slice::from_ref(&content_type)), Ok(()));
            assert_eq!(check_json(&[content_type, encoding.clone()]), Ok(()));
        }
    }

    #[test]
    fn an_unsupported_body_is_refused() {
        let json = (header::CONTENT_TYPE, "application/json");
        assert_eq!(check_json(&[]), Err("OTHER"));
        for (content_type, code) in [
            ("text/plain", "OTHER"),
            ("", "OTHER"),
            ("application/json; charset=utf-16", CHARSET_NOT_UTF_8),
            ("application/json; Charset=latin1", CHARSET_NOT_UTF_8),
            ("application/json; charset", CHARSET_NOT_UTF_8),
        ] {
            let refused = check_json(&[(header::CONTENT_TYPE, content_type)]);
            assert_eq!(refused, Err(code), "{content_type}");
        }
        let twice = [json.clone(), (header::CONTENT_TYPE, "text/plain")];
        assert_eq!(check_json(&twice), Err("OTHER"));
        for encoding in ["gzip", "identity, br", ""] {
            let refused = check_json(&[json.clone(), (header::CONTENT_ENCODING, encoding)]);
            assert_eq!(refused, Err(ENCODING_NOT_IDENTITY), "{encoding}");
        }
    }
}
