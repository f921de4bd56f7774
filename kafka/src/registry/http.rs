//! Requests to the registry over HTTP. The meaning of an answer depends on its status, never on its text.
//!
//! The client library fetches and registers schemas. Its errors contain the status as a number in their text, which
//! [`Http::rejection`] parses. The library can't read or set a subject's compatibility, and can't find a schema without
//! registering it, so we send those requests ourselves.

use super::error::RegistryError;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use schema_registry_converter::{async_impl::schema_registry::SrSettings, error::SRCError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// A client of the registry's HTTP interface.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    /// The registry's address, with credentials if the settings have some.
    url: Arc<str>,
    /// The address without credentials, for messages.
    shown: Arc<str>,
    /// For the client library.
    pub settings: Arc<SrSettings>,
}

/// A permanent error: another attempt would get the same answer.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub status: StatusCode,
    /// The registry's message.
    pub text: String,
}

impl Http {
    /// Creates a client, without a request to the registry.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, RegistryError> {
        let shown = without_credentials(url);
        let refused = |reason: String| RegistryError::Refused {
            url: shown.clone(),
            what: "a client".into(),
            reason,
        };
        let client = Client::builder().timeout(timeout).build();
        let client = client.map_err(|error| refused(error.to_string()))?;
        let url = url.trim_end_matches('/');
        let settings = SrSettings::new_builder(url.to_owned())
            .set_timeout(timeout)
            .build();
        let settings = settings.map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            client,
            url: url.into(),
            shown: shown.into(),
            settings: Arc::new(settings),
        })
    }

    /// The registry's address, without credentials.
    pub fn url(&self) -> String {
        self.shown.to_string()
    }

    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        self.answer(self.client.get(self.address(path))).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        self.answer(self.client.post(self.address(path)).json(body))
            .await
    }

    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        self.answer(self.client.put(self.address(path)).json(body))
            .await
    }

    /// Posts a zip file to another interface of the same server. `beside` is the path prefix of the interface in the
    /// settings, and `path` replaces it.
    pub async fn post_archive(
        &self,
        beside: &str,
        path: &str,
        archive: Vec<u8>,
    ) -> Result<Result<(), Rejection>, RegistryError> {
        let server = self.url.split(beside).next().unwrap_or_default();
        let request = self.client.post(format!("{server}{path}"));
        let request = request
            .header("content-type", "application/zip")
            // Records contain content ids, so only content ids must be preserved.
            .header("X-Registry-Preserve-ContentId", "true")
            .header("X-Registry-Preserve-GlobalId", "false")
            .body(archive);
        Ok(self.text(request).await?.map(drop))
    }

    /// The error of a request that was rejected.
    pub fn refused(&self, what: String, rejection: Rejection) -> RegistryError {
        let Rejection { status, text } = rejection;
        RegistryError::Refused {
            url: self.url(),
            what,
            reason: format!("{status} {text}"),
        }
    }

    /// Converts an error of the client library to a rejection. An error that is not a rejection is transient.
    pub fn rejection(&self, error: &SRCError) -> Result<Rejection, RegistryError> {
        let text = match &error.cause {
            Some(cause) => format!("{}: {cause}", error.error),
            None => error.error.clone(),
        };
        match status_of(&error.error) {
            Some(status) if !is_transient(status) => Ok(Rejection { status, text }),
            _ => Err(self.silent(text)),
        }
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Result<T, Rejection>, RegistryError> {
        let text = match self.text(request).await? {
            Ok(text) => text,
            Err(rejection) => return Ok(Err(rejection)),
        };
        // The answer may not come from a registry but from a proxy in front of it.
        let read = serde_json::from_str(&text);
        read.map(Ok)
            .map_err(|error| self.silent(format!("its answer can't be read: {error}")))
    }

    async fn text(
        &self,
        request: RequestBuilder,
    ) -> Result<Result<String, Rejection>, RegistryError> {
        let answer = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let text = answer.text().await;
        let text = text.map_err(|error| self.unreachable(error))?;
        if is_transient(status) {
            let reason = format!("{status} {text}");
            return Err(self.silent(reason));
        }
        match status.is_success() {
            true => Ok(Ok(text)),
            false => Ok(Err(Rejection { status, text })),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> RegistryError {
        self.silent(chain(&error.without_url()))
    }

    fn silent(&self, reason: String) -> RegistryError {
        let url = self.url();
        RegistryError::Unreachable { url, reason }
    }
}

/// The status in a message of the client library: `... failed with status 404 Not Found`.
fn status_of(message: &str) -> Option<StatusCode> {
    let (_, status) = message.split_once(" failed with status ")?;
    let number = status.split(' ').next()?.parse().ok()?;
    StatusCode::from_u16(number).ok()
}

/// Whether a status reports a transient error: a failure of the registry or a proxy, or too many requests.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
}

fn without_credentials(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return url.to_owned();
    };
    if parsed.username().is_empty() && parsed.password().is_none() {
        return url.trim_end_matches('/').to_owned();
    }
    // This fails only for an address without a host, which has no credentials.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.as_str().trim_end_matches('/').to_owned()
}

/// An error with all its causes: the client's own message is often just "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_is_transient_and_a_client_error_is_not() {
        for (status, transient) in [
            (500, true),
            (504, true),
            (429, true),
            (404, false),
            (409, false),
            (422, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_transient(status), transient, "{status}");
        }
    }

    #[test]
    fn the_status_of_a_library_error_is_parsed_from_its_message() {
        let message = "HTTP request to schema registry failed with status 404 Not Found";
        assert_eq!(status_of(message), Some(StatusCode::NOT_FOUND));
        for other in ["404", "failed with status", "schema id 404 is not known"] {
            assert_eq!(status_of(other), None, "{other}");
        }
    }

    #[test]
    fn messages_have_the_address_without_its_password() {
        for (url, shown) in [
            ("http://127.0.0.1:8081/v7/", "http://127.0.0.1:8081/v7"),
            ("https://me:hunter2@registry/v7", "https://registry/v7"),
        ] {
            let http = Http::new(url, Duration::from_secs(1)).unwrap();
            assert_eq!(http.url(), shown);
        }
    }
}
