//! An HTTP client of a node, and its answers.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Body, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for one answer: longer than any time limit of the service.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// A client of one node.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Method and path of the request, for messages.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Client {
    /// A client of the node at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: String) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, base })
    }

    /// The node's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request without a body; `path` begins with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http.request(method, url).timeout(ANSWER_TIMEOUT)
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        send(self.request(Method::GET, path)).await
    }

    /// Sends a GET request; returns the JSON body of a 200.
    pub async fn get_json(&self, path: &str) -> Result<Value> {
        self.get(path).await?.expect(200)?.json()
    }

    /// Sends a POST request with a JSON body, and with the idempotency key if one is given.
    pub async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Answer> {
        let request = self.request(Method::POST, path).json(body);
        send(match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        })
        .await
    }

    /// Sends lines to the batch endpoint; returns the lines of the answer.
    pub async fn post_lines(&self, body: impl Into<Body>) -> Result<Vec<Value>> {
        let request = self
            .request(Method::POST, "/api/v1/admin/commands")
            .header("content-type", "application/x-ndjson")
            .body(body);
        let answer = send(request).await?;
        let lines = answer.expect(200)?.text.lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("answer {line:?}")))
            .collect()
    }

    /// The sum of a metric over all its labels; 0 if the node has not exposed it yet.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        self.metric_with(name, "").await
    }

    /// The sum of a metric over its labels with this text, such as `view="orders_v2"`; 0 if the node has not exposed
    /// such a label yet.
    pub async fn metric_with(&self, name: &str, label: &str) -> Result<f64> {
        let samples = self.samples(name).await?;
        let with_label = samples.iter().filter(|(labels, _)| labels.contains(label));
        Ok(with_label.map(|(_, value)| value).sum())
    }

    /// The values of a metric, each with the text of its labels, such as `{view="orders_v2",build="1"}`.
    pub async fn samples(&self, name: &str) -> Result<Vec<(String, f64)>> {
        let answer = self.get("/metrics").await?;
        let lines = answer.expect(200)?.text.lines();
        let samples = lines.filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let samples = samples.map(|line| -> Result<(String, f64)> {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let value = value.parse::<f64>().with_context(|| line.to_owned())?;
            Ok((series[name.len()..].to_owned(), value))
        });
        samples.collect()
    }
}

/// Sends a request and reads the whole answer.
pub async fn send(request: RequestBuilder) -> Result<Answer> {
    let (http, request) = request.build_split();
    let request = request?;
    let name = format!("{} {}", request.method(), request.url().path());
    let response = http.execute(request).await.with_context(|| name.clone())?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.with_context(|| name.clone())?,
        request: name,
    })
}

impl Answer {
    /// The answer, if it has this status.
    pub fn expect(&self, status: u16) -> Result<&Self> {
        if self.status == status {
            return Ok(self);
        }
        bail!(
            "{}: {} instead of {status}: {}",
            self.request,
            self.status,
            self.text
        )
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{}: {}", self.request, self.text))
    }

    /// A header's text; empty if the answer does not have the header.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// The body of an error: it must be problem details with this status and code, and a 503 must have
    /// `Retry-After`.
    pub fn problem(&self, status: u16, code: &str) -> Result<Value> {
        let body = self.expect(status)?.json()?;
        let media_type = self.header("content-type");
        ensure!(
            media_type == "application/problem+json",
            "{}: {media_type:?} instead of problem details",
            self.request
        );
        check_problem(&body, status, code).with_context(|| self.request.clone())?;
        let has_retry_after = !self.header("retry-after").is_empty();
        ensure!(
            status != 503 || has_retry_after,
            "{}: no Retry-After",
            self.request
        );
        Ok(body)
    }
}

/// Checks that a JSON object is problem details with this status and code.
pub fn check_problem(body: &Value, status: u16, code: &str) -> Result<()> {
    ensure!(body["status"] == status, "status is not {status}: {body}");
    ensure!(body["code"] == code, "code is not {code}: {body}");
    for member in ["type", "title", "detail"] {
        ensure!(body[member].is_string(), "{member} is not a text: {body}");
    }
    Ok(())
}
