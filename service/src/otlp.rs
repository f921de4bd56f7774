//! Exports spans to an OpenTelemetry collector via OTLP over HTTP with protobuf. The export is off by
//! default.
//!
//! Limits: the collector is reached over http, because this build of the HTTP client has no TLS; a local
//! collector can forward spans. A separate thread exports spans in batches. If the collector can't keep up,
//! spans are dropped, and the process is not slowed down.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use serde::Deserialize;
use std::time::Duration;

/// The path of spans in OTLP.
const TRACES_PATH: &str = "/v1/traces";
/// Longest wait for the collector to accept one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait at the end of the process for the collector to accept the last batch.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// The service's name in traces.
const SERVICE_NAME: &str = "daybook";

/// The section `telemetry`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Base address of an OTLP collector's HTTP receiver, such as `http://127.0.0.1:4318`; spans of requests
    /// that `log.filter` selects are sent to its `/v1/traces`. Default: none, so no span is exported.
    pub otlp_endpoint: Option<String>,
}

/// Reasons why spans can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint is not an http address.
    #[error("telemetry.otlp_endpoint is {endpoint:?}; it must begin with http://")]
    Endpoint {
        /// The setting's value.
        endpoint: String,
    },
    /// The exporter can't be created.
    #[error("telemetry.otlp_endpoint {endpoint:?}: {reason}")]
    Exporter {
        /// The setting's value.
        endpoint: String,
        /// The library's message.
        reason: String,
    },
}

/// A running export. When it is dropped, it exports the remaining spans within a bounded time.
pub struct SpanExport {
    provider: SdkTracerProvider,
}

impl SpanExport {
    /// Starts the export's thread.
    ///
    /// # Errors
    /// The endpoint is not an http address, or the exporter can't be created.
    pub fn start(endpoint: &str) -> Result<Self, OtlpError> {
        if !endpoint.starts_with("http://") {
            return Err(OtlpError::Endpoint {
                endpoint: endpoint.to_owned(),
            });
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| OtlpError::Exporter {
                endpoint: endpoint.to_owned(),
                reason: error.to_string(),
            })?;
        let resource = Resource::builder().with_service_name(SERVICE_NAME).build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    /// The tracer that records spans.
    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SERVICE_NAME)
    }
}

impl Drop for SpanExport {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{TraceContext, join};
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread::JoinHandle,
    };
    use tracing_subscriber::{layer::SubscriberExt, registry};

    /// A collector that receives one request; its thread returns the request's head and body.
    fn collector() -> (String, JoinHandle<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut stream);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
            request
        });
        (address, thread)
    }

    fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the request ends after {} bytes", bytes.len());
            bytes.extend_from_slice(&chunk[..count]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8(bytes[..end].to_vec())
                .unwrap()
                .to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return (head, bytes[end + 4..].to_vec());
            }
        }
    }

    #[test]
    fn a_requests_span_is_exported_with_its_callers_trace() {
        const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (endpoint, collector) = collector();
        let export = SpanExport::start(&endpoint).unwrap();
        let layer = tracing_opentelemetry::layer().with_tracer(export.tracer());
        let context = tracing::subscriber::with_default(registry().with(layer), || {
            let span = tracing::info_span!("request");
            join(&span, TraceContext::parse(CALLER))
        });
        drop(export);
        let (head, body) = collector.join().unwrap();
        assert!(
            head.starts_with("post /v1/traces "),
            "no \"post /v1/traces \" at the start of: {head}"
        );
        assert!(
            head.contains("application/x-protobuf"),
            "no \"application/x-protobuf\" in: {head}"
        );
        let contains = |hex: &str| {
            let bytes = hex::decode(hex).unwrap();
            body.windows(bytes.len()).any(|window| window == bytes)
        };
        let text = context.to_string();
        let parts: Vec<&str> = text.split('-').collect();
        assert_eq!(parts[1], "0af7651916cd43dd8448eb211c80319c");
        assert!(contains(parts[1]), "the trace");
        assert!(contains(parts[2]), "the request's span");
        assert!(contains("b7ad6b7169203331"), "the caller's span");
    }

    #[test]
    fn an_endpoint_without_http_is_refused_with_the_settings_name() {
        let error = SpanExport::start("127.0.0.1:4318").err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains("telemetry.otlp_endpoint"),
            "no \"telemetry.otlp_endpoint\" in: {text}"
        );
    }
}
