//! Reasons why a take-over failed, and whether and when the owner makes another attempt.

use super::handle::Reason;
use crate::{
    reader::ReadError,
    rule::{Alarm, Breach},
    store::StoreError,
};
use kafka::ConsumerError;
use std::time::Duration;

/// Wait before the next attempt of an owner that declined its partition.
pub(super) const DECLINED_RETRY: Duration = Duration::from_secs(10);

/// The reason for a failed take-over, by its consequence.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt may succeed.
    Retry(String),
    /// Another attempt may succeed after this wait.
    RetryAfter(Duration, Reason),
    /// The brokers reject this owner's records until an operator grants the right.
    Forbidden(String),
    /// This node can't serve the partition now. Another attempt after this wait may succeed.
    Decline(Duration, Reason),
    /// The state store can't be used.
    Store(StoreError),
    /// No attempt can succeed.
    End(Reason),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::HashKeyMismatch { .. } => Self::Decline(
                DECLINED_RETRY,
                Reason::suspecting_this_node(error.to_string()),
            ),
            StoreError::InUse { .. }
            | StoreError::ForeignDirectory { .. }
            | StoreError::Unavailable { .. }
            | StoreError::Reopened { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Unwritable { .. } => Self::Store(error),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let another_log = || {
            Reason::from(format!(
                "{error}; if this is the right log, delete the state store's directory, and it is \
                 rebuilt from the log"
            ))
        };
        match &error {
            // The log lost records, or the store belongs to another log. This owner keeps the partition, because
            // another node would continue without the lost records, and nobody would notice the loss. If the broker
            // reports the full log again, this owner serves.
            ReadError::Probe(_) | ReadError::LogTooShort { .. } => {
                Self::Decline(DECLINED_RETRY, another_log())
            }
            ReadError::Consumer(ConsumerError::OffsetOutOfRange { .. }) => {
                Self::Decline(DECLINED_RETRY, another_log())
            }
            // Each attempt creates its own client, so the next attempt may succeed.
            ReadError::Consumer(_) | ReadError::Admin(_) | ReadError::Codec { .. } => {
                Self::Retry(error.to_string())
            }
            // A node with newer software could read this record.
            ReadError::Unreadable { .. }
            | ReadError::Alarm(Alarm::ChainBroken {
                breach: Breach::NewerRule { .. },
                ..
            }) => Self::Decline(
                DECLINED_RETRY,
                Reason::suspecting_this_node(error.to_string()),
            ),
            ReadError::Alarm(_) => Self::End(error.to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka::admin::AdminError;

    #[test]
    fn a_record_that_needs_newer_software_declines_the_partition_and_suspects_this_node() {
        let error = ReadError::Unreadable {
            topic: "journal.probe".into(),
            partition: 1,
            offset: 7,
            reason: "unknown event".into(),
        };
        let failure = Failure::from(error);
        let Failure::Decline(_, reason) = &failure else {
            panic!("{failure:?} instead of Decline");
        };
        assert!(
            reason.suspects_this_node(),
            "does not suspect this node: {reason}"
        );
    }

    /// Clients fail for lack of threads or descriptors, for example.
    #[test]
    fn no_client_error_ends_the_owner() {
        let (topic, reason) = ("journal.probe".to_owned(), "no room".to_owned());
        let (on, because) = (topic.clone(), reason.clone());
        let errors = [
            ReadError::Consumer(ConsumerError::NotStarted { topic, reason }),
            ReadError::Consumer(ConsumerError::Fatal {
                topic: on.clone(),
                reason: because.clone(),
            }),
            ReadError::Admin(AdminError::Refused {
                topic: on.clone(),
                reason: because.clone(),
            }),
        ];
        for error in errors {
            let failure = Failure::from(error);
            assert!(
                matches!(failure, Failure::Retry(_)),
                "{failure:?} instead of Retry"
            );
        }
        let lost = ReadError::Consumer(ConsumerError::OffsetOutOfRange {
            topic: on,
            reason: because,
        });
        let failure = Failure::from(lost);
        assert!(
            matches!(failure, Failure::Decline(..)),
            "{failure:?} instead of Decline"
        );
    }

    #[test]
    fn a_log_that_lost_records_declines_the_partition_and_suspects_no_node() {
        let error = ReadError::LogTooShort {
            topic: "journal.probe".into(),
            partition: 1,
            end: 7,
            next_offset: 8,
        };
        let failure = Failure::from(error);
        let Failure::Decline(_, reason) = &failure else {
            panic!("{failure:?} instead of Decline");
        };
        assert!(!reason.suspects_this_node(), "suspects this node: {reason}");
    }
}
