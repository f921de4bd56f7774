//! Creates topics on a broker that may not know the leader of a new partition at once.

use crate::poll::{Poll, until};
use anyhow::{Result, bail};
use kafka::Admin;
use schemas::topics::TopicSpec;
use std::time::Duration;

/// Longest time to create topics.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Creates the topics that are missing; returns their names. Retries after a transient error.
///
/// # Errors
/// Any other error, or a transient one that persists.
pub async fn create_topics(admin: &Admin, topics: &[TopicSpec]) -> Result<Vec<&'static str>> {
    until(
        "the creation of topics",
        CREATE_TIMEOUT,
        async || match admin.ensure(topics).await {
            Ok(created) => Ok(Poll::Ready(created)),
            Err(error) if error.is_transient() => Ok(Poll::Pending(error.to_string())),
            Err(error) => bail!(error),
        },
    )
    .await
}
