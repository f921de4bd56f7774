//! Why a take-over failed, and whether and when this owner makes another attempt.

use super::handle::Reason;
use crate::{
    reader::ReadError,
    rule::{Alarm, Breach},
    store::StoreError,
};
use kafka::ConsumerError;
use std::time::Duration;

/// Wait of an owner that declined its partition before the next attempt.
pub(super) const DECLINED_RETRY: Duration = Duration::from_secs(10);

/// Why a take-over failed.
pub(super) enum Failure {
    /// Another attempt may succeed.
    Retry(String),
    /// Another attempt may succeed after this wait.
    RetryAfter(Duration, Reason),
    /// The brokers take no record of this owner; an operator may allow it.
    Forbidden(String),
    /// This node can't serve the partition now. Another attempt after this wait may succeed.
    Decline(Duration, Reason),
    /// The state store can't be used.
    Store(StoreError),
    /// No attempt can succeed.
    End(Reason),
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
            // The log lost records, or the store belongs to another log. If another node took the partition
            // over, it would continue without the lost records, and the loss would stay unnoticed. The broker
            // may report the full log again later; then this owner serves.
            ReadError::Probe(_) | ReadError::LogTooShort { .. } => {
                Self::Decline(DECLINED_RETRY, another_log())
            }
            ReadError::Consumer(ConsumerError::OffsetOutOfRange { .. }) => {
                Self::Decline(DECLINED_RETRY, another_log())
            }
            // Each attempt has a client of its own, so another one may succeed.
            ReadError::Consumer(_) | ReadError::Admin(_) | ReadError::Codec { .. } => {
                Self::Retry(error.to_string())
            }
            // A newer node could read further.
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
        let Failure::Decline(_, reason) = Failure::from(error) else {
            panic!("the owner would end, or try again at once");
        };
        assert!(reason.suspects_this_node(), "{reason}");
    }

    /// For want of threads or descriptors, for example.
    #[test]
    fn no_error_of_a_client_ends_the_owner() {
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
            let text = error.to_string();
            assert!(matches!(Failure::from(error), Failure::Retry(_)), "{text}");
        }
        let lost = ReadError::Consumer(ConsumerError::OffsetOutOfRange {
            topic: on,
            reason: because,
        });
        assert!(matches!(Failure::from(lost), Failure::Decline(..)));
    }

    #[test]
    fn a_log_that_lost_records_declines_the_partition_and_suspects_no_node() {
        let error = ReadError::LogTooShort {
            topic: "journal.probe".into(),
            partition: 1,
            end: 7,
            next_offset: 8,
        };
        let Failure::Decline(_, reason) = Failure::from(error) else {
            panic!("the owner would end, or try again at once");
        };
        assert!(!reason.suspects_this_node(), "{reason}");
    }
}
