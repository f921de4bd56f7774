//! What every process needs: config, telemetry, problem details, health, shutdown.
