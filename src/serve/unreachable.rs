//! Clients of servers that do not exist, for tests of what is answered without them: nothing listens on port 1.

use kafka::{Admin, KafkaSettings};
use projections::{CqlSettings, Databases, PostgresSettings};

/// A client of an unreachable Kafka.
pub fn admin() -> Admin {
    let settings = KafkaSettings {
        brokers: "127.0.0.1:1".into(),
        ..KafkaSettings::default()
    };
    Admin::new(&settings).unwrap()
}

/// Clients of an unreachable Postgres and of an unreachable CQL store.
pub fn databases() -> Databases {
    let postgres = PostgresSettings {
        url: "postgres://daybook@127.0.0.1:1/daybook".into(),
        ..PostgresSettings::default()
    };
    let cql = CqlSettings {
        nodes: "127.0.0.1:1".into(),
        ..CqlSettings::default()
    };
    Databases::connect_lazily(&postgres, &cql).unwrap()
}
