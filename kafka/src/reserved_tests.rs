//! Every property that our clients set is either refused in `kafka.properties` or replaced by the user's value.

use crate::{
    appender,
    consumer::{self, Ends, Fetch},
    group, publisher,
    settings::{GroupProtocol, KafkaSettings, RESERVED, SettingsError},
};
use rdkafka::ClientConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Properties with a default of ours, which the user's value replaces.
const SETTABLE: [&str; 4] = [
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "log.connection.close",
    "max.in.flight.requests.per.connection",
];

/// A client that measures ends reads from leaders only, so it has no rack. All other clients have the user's rack.
const MEASURING_ONLY: &str = "client.rack";

/// The configuration of each kind of client.
fn configs(settings: &KafkaSettings) -> Vec<ClientConfig> {
    let group = |group_protocol| {
        let settings = KafkaSettings {
            group_protocol,
            ..settings.clone()
        };
        group::config(&settings, "a group", "a member")
    };
    vec![
        settings.client("admin"),
        settings.reading_client("watcher"),
        appender::config(settings, 1_000),
        publisher::config(settings, "publisher"),
        consumer::config(settings, "reader", Fetch::Ahead, Ends::BehindRecords),
        consumer::config(settings, "reader", Fetch::Small, Ends::All),
        group(GroupProtocol::Classic),
        group(GroupProtocol::Consumer),
    ]
}

fn with(name: &str, value: &str) -> KafkaSettings {
    KafkaSettings {
        properties: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..KafkaSettings::default()
    }
}

#[test]
fn a_property_that_a_client_sets_is_refused_or_settable() {
    let configs = configs(&KafkaSettings::default());
    let set: BTreeSet<&str> = configs
        .iter()
        .flat_map(|config| config.config_map().into_keys())
        .collect();
    let known: BTreeSet<&str> = RESERVED
        .into_iter()
        .chain(SETTABLE)
        .chain([MEASURING_ONLY])
        .collect();
    let unknown: Vec<&&str> = set.difference(&known).collect();
    assert!(
        unknown.is_empty(),
        "neither refused nor settable: {unknown:?}"
    );
}

#[test]
fn each_reserved_property_is_refused_by_its_name() {
    for name in RESERVED {
        let refused = SettingsError::Reserved { name: name.into() };
        assert_eq!(with(name, "1").check(), Err(refused));
    }
}

#[test]
fn a_settable_property_has_the_users_value_in_every_client() {
    for name in SETTABLE {
        let settings = with(name, "7");
        assert_eq!(settings.check(), Ok(()));
        for config in self::configs(&settings) {
            assert_eq!(config.get(name), Some("7"), "{name}: {config:?}");
        }
    }
    let appender = appender::config(&with("max.in.flight", "7"), 1_000);
    assert_eq!(appender.get("max.in.flight"), Some("7"));
    assert_eq!(appender.get("max.in.flight.requests.per.connection"), None);
}
