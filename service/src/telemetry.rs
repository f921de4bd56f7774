//! Logs to standard error, metrics for Prometheus.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How often samples are folded into histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What is logged, and how.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `json`, one object a line, or `text`, for people. Default: `json` in services, `text` in tools.
    pub format: Option<LogFormat>,
    /// Which spans and events, as `tracing-subscriber` has it. Default: `info` in services, `warn`
    /// in tools.
    pub filter: Option<String>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Telemetry that can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a filter.
    #[error("log.filter {filter:?}: {reason}")]
    Filter {
        /// What was set.
        filter: String,
        /// Why not.
        reason: String,
    },
    /// Something else in this process has set it up already.
    #[error("telemetry is set up already: {0}")]
    Twice(String),
}

/// Who reads the log, where the settings don't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A log store: everything, as JSON.
    Service,
    /// A person at a terminal: what is wrong, as text.
    Person,
}

/// Sets up logging for the process.
pub fn init_logs(settings: &LogSettings, reader: Reader) -> Result<(), TelemetryError> {
    let (format, filter) = match reader {
        Reader::Service => (LogFormat::Json, "info"),
        Reader::Person => (LogFormat::Text, "warn"),
    };
    let filter = settings.filter.as_deref().unwrap_or(filter);
    let filter = EnvFilter::try_new(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = match settings.format.unwrap_or(format) {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.try_init(),
    };
    result.map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// Sets up metrics for the process; the handle renders what `/metrics` shows. Run [`keep_metrics`]
/// beside it.
pub fn init_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// Folds samples into their histograms, which otherwise only a scrape does: they would grow while
/// nobody scrapes.
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
    async fn samples_are_folded_though_nobody_scrapes() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let (handle, stop) = (recorder.handle(), CancellationToken::new());
        metrics::with_local_recorder(&recorder, || metrics::histogram!("seconds").record(1.0));
        // Rendering would fold them itself, so that only the recorder's insides tell.
        let nothing_folded = "distributions: RwLock { data: {}";
        assert!(format!("{handle:?}").contains(nothing_folded), "{handle:?}");
        let upkeep = tokio::spawn(keep_metrics(handle.clone(), stop.clone()));
        tokio::time::sleep(UPKEEP_INTERVAL * 2).await;
        assert!(!format!("{handle:?}").contains(nothing_folded));
        stop.cancel();
        upkeep.await.unwrap();
    }
}
