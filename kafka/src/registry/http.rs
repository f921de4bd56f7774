//! Requests to the registry over HTTP. What an answer means is told by its status, never by its text.

use super::error::RegistryError;
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// A client of the registry's HTTP interface.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    /// With credentials, if the settings have some.
    url: Arc<str>,
    /// Without them, for messages.
    shown: Arc<str>,
}

/// An answer that another attempt would get again.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub status: StatusCode,
    /// The registry's message.
    pub text: String,
}

impl Http {
    /// A client; it asks the registry nothing yet.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, RegistryError> {
        let shown = without_credentials(url);
        let client = Client::builder().timeout(timeout).build();
        let client = client.map_err(|error| RegistryError::Refused {
            url: shown.clone(),
            what: "a client".into(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            client,
            url: url.trim_end_matches('/').into(),
            shown: shown.into(),
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

    /// The error of a request that was rejected.
    pub fn refused(&self, what: String, rejection: Rejection) -> RegistryError {
        let Rejection { status, text } = rejection;
        RegistryError::Refused {
            url: self.url(),
            what,
            reason: format!("{status} {text}"),
        }
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Result<T, Rejection>, RegistryError> {
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
        if !status.is_success() {
            return Ok(Err(Rejection { status, text }));
        }
        // Something else than a registry answers, such as a proxy before it.
        let read = serde_json::from_str(&text);
        read.map(Ok)
            .map_err(|error| self.silent(format!("its answer can't be read: {error}")))
    }

    fn unreachable(&self, error: reqwest::Error) -> RegistryError {
        self.silent(chain(&error.without_url()))
    }

    fn silent(&self, reason: String) -> RegistryError {
        let url = self.url();
        RegistryError::Unreachable { url, reason }
    }
}

/// Whether a status is that of an error that passes: of the registry or a proxy, or of too many requests.
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
    // Only an address without a host has no place for them.
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
