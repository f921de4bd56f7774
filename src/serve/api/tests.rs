//! Tests the served OpenAPI document, and that the routes answer as it says. No test needs Kafka or a database, because
//! every request is refused before the service asks one. The operations are taken from the document.

use super::*;
use crate::serve::unreachable;
use axum::body::to_bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use service::budget::{BODY_BYTES_MAX, Budget};
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

/// The prefix of the paths to which the conventions for queries and commands apply.
const API: &str = "/api/v1";
/// The code of the problem for an unknown parameter.
const UNKNOWN: &str = "UNKNOWN_OR_INVALID_PARAMETER";
/// A parameter that no operation has.
const PARAMETER: &str = "colour";
/// The example of every cursor. A list accepts only cursors of its own answers with the same filters, so an example in
/// the form of a cursor would mislead.
const CURSOR: &str = "cursor-of-the-next-page";

/// A served API.
struct Served {
    base: String,
    document: Value,
}

/// One operation of the document.
struct Operation<'a> {
    document: &'a Value,
    method: Method,
    path: &'a str,
    value: &'a Value,
}

impl Served {
    /// Serves all routes. The other servers are unreachable.
    async fn start() -> Self {
        let databases = unreachable::databases();
        let budget = Budget::default();
        let read_side = ReadSide {
            live: Live::new(databases.clone(), 1, &budget),
            databases,
            series: streams::Series::default(),
            progress: Progress::default(),
            admin: unreachable::admin(),
            position_wait_max: Duration::ZERO,
        };
        let localhost = Ipv4Addr::LOCALHOST;
        let router = router(ApiState {
            write_side: WriteSideHandle::new(budget),
            read_side: Some(read_side),
            health: Health::default(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            hosts: Hosts::new(localhost.into(), "").unwrap(),
            stop: CancellationToken::new(),
        });
        let listener = TcpListener::bind((localhost, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let document = reqwest::get(format!("{base}/openapi.json")).await.unwrap();
        let document = document.json().await.unwrap();
        Self { base, document }
    }

    fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.document["paths"].as_object().unwrap();
        let mut operations = Vec::new();
        for (path, methods) in paths {
            for (method, value) in methods.as_object().unwrap() {
                if value["responses"].is_object() {
                    operations.push(Operation {
                        document: &self.document,
                        method: method.to_ascii_uppercase().parse().unwrap(),
                        path,
                        value,
                    });
                }
            }
        }
        operations
    }

    /// The queries and commands, without health.
    fn of_api(&self) -> Vec<Operation<'_>> {
        let mut operations = self.operations();
        operations.retain(|operation| operation.path.starts_with(API));
        assert!(!operations.is_empty(), "{}", self.document);
        operations
    }

    /// Sends a request with a query string; returns the status and the body as JSON.
    async fn send(
        &self,
        operation: &Operation<'_>,
        query: &str,
        body: Option<(&str, String)>,
    ) -> (u16, Value) {
        let url = format!("{}{}?{query}", self.base, operation.path_of_example());
        let mut request = reqwest::Client::new().request(operation.method.clone(), url);
        if let Some((content_type, body)) = body {
            request = request
                .header(header::CONTENT_TYPE, content_type)
                .body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, body)
    }
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        let parameters = self.value["parameters"].as_array();
        let document = self.document;
        let parameters = parameters.into_iter().flatten();
        parameters.map(move |parameter| resolved(document, parameter))
    }

    fn responses(&self) -> impl Iterator<Item = (&str, &Value)> {
        let responses = self.value["responses"].as_object().unwrap();
        let document = self.document;
        responses
            .iter()
            .map(move |(status, response)| (status.as_str(), resolved(document, response)))
    }

    fn response(&self, status: &str) -> &Value {
        resolved(self.document, &self.value["responses"][status])
    }

    /// Whether the operation takes a body of a media type.
    fn takes(&self, media_type: &str) -> bool {
        let body = resolved(self.document, &self.value["requestBody"]);
        body["content"].get(media_type).is_some()
    }

    /// The path with the example of each of its parameters.
    fn path_of_example(&self) -> String {
        let in_path = self
            .parameters()
            .filter(|parameter| parameter["in"] == "path");
        in_path.fold(self.path.to_owned(), |path, parameter| {
            let name = parameter["name"].as_str().unwrap();
            path.replace(&format!("{{{name}}}"), &text_of_example(parameter))
        })
    }

    /// The required parameters of the query string with their examples; each ends with `&`.
    fn required_query(&self) -> String {
        let required = self
            .parameters()
            .filter(|parameter| parameter["in"] == "query" && parameter["required"] == true);
        let pairs = required.map(|parameter| {
            let name = parameter["name"].as_str().unwrap();
            format!("{name}={}&", text_of_example(parameter))
        });
        pairs.collect()
    }
}

fn text_of_example(parameter: &Value) -> String {
    let example = &parameter["example"];
    let text = example.as_str().map(str::to_owned);
    text.unwrap_or_else(|| example.to_string())
}

/// The value itself, or the component that it refers to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else {
        return value;
    };
    let pointer = reference.trim_start_matches('#');
    let found = document.pointer(pointer);
    found.unwrap_or_else(|| panic!("the document has no {reference}"))
}

/// Whether a parameter, a schema or the content of a response has an example of its own.
fn has_own_example(value: &Value) -> bool {
    let is_list = |name: &str| match &value[name] {
        Value::Array(list) => !list.is_empty(),
        Value::Object(named) => !named.is_empty(),
        _ => false,
    };
    !value["example"].is_null() || is_list("examples")
}

/// The parts of a schema that have no example, as paths that begin with `path`.
fn parts_without_example(document: &Value, schema: &Value, path: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    // The symbols of an enumeration are its examples.
    if has_own_example(schema) || schema["enum"].is_array() || schema["type"] == "null" {
        return Vec::new();
    }
    let mut parts: Vec<(String, &Value)> = Vec::new();
    for combined in ["allOf", "anyOf", "oneOf"] {
        let schemas = schema[combined].as_array().into_iter().flatten();
        parts.extend(schemas.map(|part| (path.to_owned(), part)));
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    parts.extend(properties.map(|(name, part)| (format!("{path}.{name}"), part)));
    if schema["items"].is_object() {
        parts.push((format!("{path}[]"), &schema["items"]));
    }
    if parts.is_empty() {
        return vec![path.to_owned()];
    }
    let missing = parts.into_iter();
    missing
        .flat_map(|(path, part)| parts_without_example(document, part, &path))
        .collect()
}

/// Whether HTTP allows no body with a status.
fn has_no_body(status: &str) -> bool {
    status.starts_with('1') || ["204", "304"].contains(&status)
}

#[tokio::test]
async fn every_parameter_has_an_example() {
    let served = Served::start().await;
    let mut missing = Vec::new();
    for operation in served.operations() {
        for parameter in operation.parameters() {
            let schema = &parameter["schema"];
            let path = format!("{}: {}", operation.name(), parameter["name"]);
            if !has_own_example(parameter) {
                missing.extend(parts_without_example(&served.document, schema, &path));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[tokio::test]
async fn every_response_has_an_example() {
    let served = Served::start().await;
    let mut missing = Vec::new();
    for operation in served.operations() {
        for (status, response) in operation.responses() {
            let path = format!("{}: {status}", operation.name());
            let content = response["content"].as_object();
            let content: Vec<_> = content.into_iter().flatten().collect();
            if content.is_empty() != has_no_body(status) {
                missing.push(format!("{path} has {} bodies", content.len()));
            }
            for (media_type, content) in content {
                let path = format!("{path} {media_type}");
                if !has_own_example(content) {
                    let schema = &content["schema"];
                    missing.extend(parts_without_example(&served.document, schema, &path));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[tokio::test]
async fn the_example_of_a_cursor_says_where_a_cursor_comes_from() {
    let served = Served::start().await;
    let mut examples = Vec::new();
    for operation in served.operations() {
        let mut parameters = operation.parameters();
        if let Some(cursor) = parameters.find(|parameter| parameter["name"] == "cursor") {
            examples.push((operation.name(), cursor["example"].clone()));
        }
    }
    let schemas = served.document["components"]["schemas"].as_object();
    for (name, schema) in schemas.into_iter().flatten() {
        let cursor = &schema["properties"]["next_cursor"];
        if cursor.is_object() {
            examples.push((name.clone(), cursor["example"].clone()));
        }
    }
    assert!(!examples.is_empty(), "no operation has a cursor");
    examples.retain(|(_, example)| example != CURSOR);
    assert_eq!(examples, Vec::<(String, Value)>::new());
}

#[tokio::test]
async fn the_example_of_a_problem_has_a_code_of_its_response() {
    let served = Served::start().await;
    let mut examples = 0;
    for operation in served.operations() {
        for (status, response) in operation.responses() {
            let example = &response["content"][problem::MEDIA_TYPE]["example"];
            if let Some(code) = example["code"].as_str() {
                let (name, described) = (operation.name(), &response["description"]);
                let is_described = described.as_str().is_some_and(|text| text.contains(code));
                assert!(is_described, "{name}: {status}: no {code} in {described}");
                let of_example = example["status"].to_string();
                assert_eq!(of_example, status, "{name}: {example}");
                examples += 1;
            }
        }
    }
    assert!(examples > 0, "no problem has an example");
}

#[tokio::test]
async fn every_query_with_a_json_answer_declares_its_tag_and_304() {
    let served = Served::start().await;
    let operations = served.of_api();
    let queries = operations.iter().filter(|operation| {
        let answer = &operation.response("200")["content"];
        operation.method == Method::GET && answer.get("application/json").is_some()
    });
    let mut count = 0;
    for query in queries {
        let name = query.name();
        let headers = &query.response("200")["headers"];
        assert!(headers["ETag"].is_object(), "{name}: no ETag in {headers}");
        let unchanged = query.response("304");
        assert!(unchanged.is_object(), "{name}: no 304");
        let mut conditions = query.parameters();
        let has_condition = conditions.any(|parameter| parameter["name"] == "If-None-Match");
        assert!(has_condition, "{name}: no If-None-Match");
        count += 1;
    }
    assert!(count > 0, "no query answers with JSON");
}

#[tokio::test]
async fn every_operation_declares_and_refuses_an_unknown_parameter() {
    let served = Served::start().await;
    for operation in served.of_api() {
        let name = operation.name();
        let declared = &operation.response("400")["description"];
        let is_declared = declared.as_str().is_some_and(|text| text.contains(UNKNOWN));
        assert!(is_declared, "{name}: no {UNKNOWN} in {declared}");
        let query = format!("{}{PARAMETER}=red", operation.required_query());
        let (status, body) = served.send(&operation, &query, None).await;
        let code = body["code"].as_str();
        assert_eq!((status, code), (400, Some(UNKNOWN)), "{name}: {body}");
        let detail = body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(PARAMETER), "{name}: {body}");
    }
}

#[tokio::test]
async fn every_command_declares_and_refuses_another_media_type_and_a_long_body() {
    let served = Served::start().await;
    let mut operations = served.of_api();
    operations.retain(|operation| operation.takes("application/json"));
    assert!(!operations.is_empty(), "no operation takes JSON");
    let other_type = ("text/plain", "{}".to_owned());
    let long = ("application/json", " ".repeat(BODY_BYTES_MAX + 1));
    for operation in operations {
        let name = operation.name();
        for (body, status, code) in [
            (&other_type, "415", "CONTENT_TYPE_NOT_JSON"),
            (&long, "413", "BODY_TOO_LARGE"),
        ] {
            let declared = &operation.response(status)["description"];
            let is_declared = declared.as_str().is_some_and(|text| text.contains(code));
            assert!(is_declared, "{name}: no {code} in {declared}");
            let (found, answer) = served.send(&operation, "", Some(body.clone())).await;
            let found = (found.to_string(), answer["code"].as_str());
            assert_eq!(found, (status.to_owned(), Some(code)), "{name}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_without_the_panics_message() {
    let response = panicked(Box::new("the password is 7"));
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = to_bytes(response.into_body(), 1 << 10).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "INTERNAL_ERROR");
    assert!(
        !body.to_string().contains("password"),
        "\"password\" in: {body}"
    );
}
