//! Writes logs to standard error, provides metrics for Prometheus, and sends spans to a collector.

use crate::otlp::{OtlpError, SpanExport, TelemetrySettings};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Time between two folds of samples into histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The log's content and format.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Format of log lines: `json`, with one object per line, or `text`, for people. Default: `json` in
    /// services, `text` in tools.
    pub format: Option<LogFormat>,
    /// Spans and events to log, in the syntax of `tracing-subscriber`'s `EnvFilter`. Default: `info` in
    /// services, `warn` in tools.
    pub filter: Option<String>,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Reasons why telemetry can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter can't be parsed.
    #[error("log.filter {filter:?}: {reason}")]
    Filter {
        /// The setting's value.
        filter: String,
        /// The parser's message.
        reason: String,
    },
    /// The export of spans can't be started.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The process has already set up telemetry.
    #[error("telemetry is already set up: {0}")]
    Twice(String),
}

/// The reader of the log, which decides the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A log store: everything, as JSON.
    Service,
    /// A person at a terminal: warnings and errors, as text.
    Person,
}

/// Sets up the process's logs, and the export of spans if an endpoint is set. The export runs until it is
/// dropped.
///
/// # Errors
/// The filter can't be parsed, the export can't be started, or the process has already set up its logs.
pub fn init_logs(
    settings: &LogSettings,
    telemetry: &TelemetrySettings,
    reader: Reader,
) -> Result<Option<SpanExport>, TelemetryError> {
    let (format, filter) = match reader {
        Reader::Service => (LogFormat::Json, "info"),
        Reader::Person => (LogFormat::Text, "warn"),
    };
    let filter = settings.filter.as_deref().unwrap_or(filter);
    let filter = EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let export = match &telemetry.otlp_endpoint {
        Some(endpoint) => Some(SpanExport::start(endpoint)?),
        None => None,
    };
    let tracer = export.as_ref().map(SpanExport::tracer);
    // The layer for the export is added only if spans are exported, because even an empty layer costs time
    // for each span.
    match (settings.format.unwrap_or(format), tracer) {
        (LogFormat::Json, None) => builder.json().flatten_event(true).finish().try_init(),
        (LogFormat::Json, Some(tracer)) => builder
            .json()
            .flatten_event(true)
            .finish()
            .with(tracing_opentelemetry::layer().with_tracer(tracer))
            .try_init(),
        (LogFormat::Text, None) => builder.finish().try_init(),
        (LogFormat::Text, Some(tracer)) => builder
            .finish()
            .with(tracing_opentelemetry::layer().with_tracer(tracer))
            .try_init(),
    }
    .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    Ok(export)
}

/// Sets up metrics for the process; the handle renders them for `/metrics`. [`keep_metrics`] must run as long
/// as the process.
///
/// # Errors
/// The process has already set up its metrics.
pub fn init_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// Folds samples into their histograms at intervals. Otherwise only a scrape would fold them, and memory
/// would grow without scrapes.
pub async fn keep_metrics(handle: PrometheusHandle, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL))
        .await
        .is_some()
    {
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn samples_are_folded_without_a_scrape() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (handle, stop) = (recorder.handle(), CancellationToken::new());
        metrics::with_local_recorder(&recorder, || metrics::histogram!("seconds").record(1.0));
        // Rendering folds samples, so the test must look at the recorder's debug output.
        let nothing_folded = "distributions: RwLock { data: {}";
        assert!(
            format!("{handle:?}").contains(nothing_folded),
            "no {nothing_folded:?} in: {handle:?}"
        );
        let upkeep = tokio::spawn(keep_metrics(handle.clone(), stop.clone()));
        tokio::time::sleep(UPKEEP_INTERVAL * 2).await;
        let folded = format!("{handle:?}");
        assert!(
            !folded.contains(nothing_folded),
            "{nothing_folded:?} in: {folded}"
        );
        stop.cancel();
        upkeep.await.unwrap();
    }
}
