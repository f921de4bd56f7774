//! The only crate that names rdkafka: settings, appender, batch consumer, admin, registry, codec.
