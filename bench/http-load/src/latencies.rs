//! Latencies of many tasks, and their figures.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// The highest latency of the histogram, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Latencies in microseconds.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// Creates an empty histogram.
    ///
    /// # Errors
    /// Never: the bounds are constants.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_max(LATENCY_US_MAX, 3)?))
    }

    /// Adds a latency.
    pub fn add(&mut self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.0.saturating_record(latency_us);
    }

    /// Adds all latencies of another task.
    ///
    /// # Errors
    /// Never: all histograms have the same bounds.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// The number of latencies.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// A latency in milliseconds; `quantile` is from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The figures with a name as prefix: the rate over `time`, and quantiles.
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    pub fn figures(&self, name: &str, time: Duration) -> Value {
        json!({
            (format!("{name}.per_second")): (self.count() as f64 / time.as_secs_f64()).round(),
            (format!("{name}.p50_ms")): self.quantile_ms(0.5),
            (format!("{name}.p99_ms")): self.quantile_ms(0.99),
            (format!("{name}.max_ms")): self.quantile_ms(1.0),
        })
    }
}
