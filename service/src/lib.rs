//! The parts that every process needs: configuration, telemetry, traces, problem details, health, shutdown,
//! and the bounds of HTTP.

pub mod budget;
pub mod config;
pub mod connection;
pub mod consistency;
pub mod extract;
pub mod health;
pub mod hosts;
pub mod json;
pub mod media_type;
pub mod otlp;
pub mod problem;
pub mod progress;
pub mod shutdown;
pub mod telemetry;
pub mod trace;

pub use backoff::Backoff;
