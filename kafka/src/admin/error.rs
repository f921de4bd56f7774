//! Errors about topics, and which of the brokers' error codes are transient.

use crate::settings::SettingsError;
use rdkafka::types::RDKafkaErrorCode;
use schemas::topics::TopicSpec;

/// Why a topic can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The brokers do not answer; another attempt may help.
    #[error("kafka at {brokers} does not answer: {reason}")]
    Unreachable {
        /// The bootstrap servers.
        brokers: String,
        /// The client library's message.
        reason: String,
    },
    /// The broker does not know the topic or does not lead the partition, perhaps not yet: brokers learn of a
    /// new topic or leader one after the other. Another attempt may help.
    #[error("topic {topic} is not ready at the brokers: {reason}")]
    NotSettled {
        /// The topic.
        topic: String,
        /// The brokers' message.
        reason: String,
    },
    /// The brokers refuse the request.
    #[error("topic {topic}: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// The brokers' message.
        reason: String,
    },
    /// A property of the topic has a wrong value.
    #[error("topic {topic} has {property} = {found}, it must be {expected}")]
    Mismatch {
        /// The topic.
        topic: String,
        /// The property that differs.
        property: String,
        /// The value that it must have.
        expected: String,
        /// The value that it has.
        found: String,
    },
}

impl AdminError {
    /// Whether another attempt may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NotSettled { .. } => true,
            Self::Settings(_) | Self::Refused { .. } | Self::Mismatch { .. } => false,
        }
    }
}

pub(super) fn not_settled(topic: &str, reason: &dyn std::fmt::Display) -> AdminError {
    AdminError::NotSettled {
        topic: topic.to_owned(),
        reason: reason.to_string(),
    }
}

pub(super) fn refused(topic: &str, reason: &dyn std::fmt::Display) -> AdminError {
    AdminError::Refused {
        topic: topic.to_owned(),
        reason: reason.to_string(),
    }
}

/// The error for a topic whose configuration has no properties, because the principal may not read them. The client
/// library drops the brokers' error code.
pub(super) fn config_hidden(topic: &str) -> AdminError {
    let reason =
        "its configuration has no readable property; authorize the operation DescribeConfigs";
    refused(topic, &reason)
}

pub(super) fn mismatch<T: ToString>(
    spec: &TopicSpec,
    property: &str,
    expected: T,
    found: T,
) -> AdminError {
    AdminError::Mismatch {
        topic: spec.name.to_owned(),
        property: property.to_owned(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Whether the code can mean that the broker has not yet learned of the topic or its leader.
pub(super) fn is_unsettled(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
    )
}

/// Whether brokers return this error while they start. Too few brokers for the replication factor is such an
/// error, because the other brokers may still be starting.
pub(super) fn is_transient(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::BrokerNotAvailable
    )
}
