//! A context without business rules, for tests and the simulator: counters that change, and notes. It has
//! the frame and the record format of every context, and is not in [`schemas::CONTEXTS`].

use kafka::{Encoder, Registry, RegistrySettings};
use schemas::{Context, ContextEvent};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The context.
pub const PROBE: Context = Context::new(
    "probe",
    "journal.probe",
    "journal.probe-value",
    r#"[
        {
            "type": "record",
            "name": "CounterChanged",
            "fields": [
                { "name": "old", "type": ["null", "long"] },
                { "name": "new", "type": "long" }
            ]
        },
        {
            "type": "record",
            "name": "Noted",
            "fields": [{ "name": "text", "type": "string" }]
        }
    ]"#,
);

/// The id of the context's schema in the registry of [`codec`].
pub const SCHEMA_ID: u32 = 7;

static CODEC: LazyLock<(Registry, Encoder)> = LazyLock::new(|| {
    let schema = Event::CONTEXT.schema();
    let registry = Registry::new(&RegistrySettings::default()).expect("it does no I/O");
    registry
        .remember(SCHEMA_ID, &schema)
        .expect("our own schema is valid");
    let encoder = Encoder::new(SCHEMA_ID, &schema).expect("our own schema is valid");
    (registry, encoder)
});

/// A registry that knows the context's schema, so that no server is asked for it, and the encoder of the context's
/// records.
pub fn codec() -> &'static (Registry, Encoder) {
    &CODEC
}

/// The context's events. A reader gets the full name of a record, which has the context's namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A counter has another value from now on.
    #[serde(rename(deserialize = "daybook.probe.CounterChanged"))]
    CounterChanged(CounterChanged),
    /// A note was taken.
    #[serde(rename(deserialize = "daybook.probe.Noted"))]
    Noted(Noted),
}

/// A counter has another value from now on. It has both values, so the log shows a decision on a wrong state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterChanged {
    /// `None`: the counter had no value.
    pub old: Option<i64>,
    /// The value from now on.
    pub new: i64,
}

/// A note was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noted {
    /// Its text, of any length.
    pub text: String,
}

impl ContextEvent for Event {
    const CONTEXT: &'static Context = &PROBE;
    const NAMES: &'static [&'static str] = &["CounterChanged", "Noted"];
    const AGGREGATE_TYPES: &'static [&'static str] = &["counter", "note"];

    fn name(&self) -> &'static str {
        match self {
            Self::CounterChanged(_) => "CounterChanged",
            Self::Noted(_) => "Noted",
        }
    }

    fn aggregate_type(&self) -> &'static str {
        match self {
            Self::CounterChanged(_) => "counter",
            Self::Noted(_) => "note",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::CONTEXTS;

    #[test]
    fn the_probe_is_not_a_registered_context() {
        let names: Vec<_> = CONTEXTS.iter().map(|context| context.name).collect();
        assert!(!names.contains(&PROBE.name), "{} in {names:?}", PROBE.name);
        let topics: Vec<_> = CONTEXTS.iter().map(|context| context.topic).collect();
        assert!(
            !topics.contains(&PROBE.topic),
            "{} in {topics:?}",
            PROBE.topic
        );
    }
}
