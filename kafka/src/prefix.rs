//! Logical topic names inside the process, prefixed ones at the brokers and in the registry.
//!
//! Code, errors, logs, positions, checkpoints and the hash chain use logical names (`journal.orders`). Only
//! this crate adds the prefix to names that it sends and strips it from names that it receives. So a chain that
//! begins with its topic's name verifies under any prefix: a mirror's `us-west.journal.orders` is read with the
//! prefix `us-west.`.

use crate::settings::KafkaSettings;
use std::sync::Arc;

/// The prefix of a deployment's topics, subjects and consumer groups; empty by default.
#[derive(Debug, Clone)]
pub(crate) struct TopicPrefix(Arc<str>);

impl TopicPrefix {
    pub fn of(settings: &KafkaSettings) -> Self {
        Self(settings.topic_prefix.as_str().into())
    }

    /// The prefixed name.
    pub fn add(&self, logical: &str) -> String {
        format!("{}{logical}", self.0)
    }

    /// The logical name. A name without the prefix belongs to another deployment and is returned unchanged.
    pub fn strip<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&*self.0).unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> TopicPrefix {
        TopicPrefix::of(&KafkaSettings {
            topic_prefix: text.into(),
            ..KafkaSettings::default()
        })
    }

    #[test]
    fn strips_what_it_added() {
        for text in ["", "us-west.", "journal."] {
            let prefix = prefix(text);
            let name = prefix.add("journal.orders");
            assert_eq!(name, format!("{text}journal.orders"));
            assert_eq!(prefix.strip(&name), "journal.orders");
        }
    }

    #[test]
    fn a_name_of_another_deployment_stays_as_it_is() {
        assert_eq!(
            prefix("us-west.").strip("us-east.journal.orders"),
            "us-east.journal.orders"
        );
    }
}
