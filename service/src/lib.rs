//! What every process needs: config, telemetry, traces, problem details, health, shutdown.

pub mod config;
pub mod extract;
pub mod health;
pub mod problem;
pub mod progress;
pub mod shutdown;
pub mod telemetry;
pub mod trace;

/// Waits between tries of what will come back: 100 ms, doubling to 5 s, jittered, without an end.
pub fn backoff() -> impl Iterator<Item = std::time::Duration> {
    use backon::BackoffBuilder;
    backon::ExponentialBuilder::default()
        .with_min_delay(std::time::Duration::from_millis(100))
        .with_max_delay(std::time::Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}
