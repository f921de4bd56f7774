//! Waits for a condition with a time limit; the error after the limit has the last state.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The result of one poll.
#[derive(Debug)]
pub enum Poll<T> {
    /// The condition holds.
    Ready(T),
    /// The condition does not hold yet; the state that was found.
    Pending(String),
}

impl Poll<()> {
    /// Ready if `holds`; else pending, with the state that was found.
    pub fn of(holds: bool, state: impl FnOnce() -> String) -> Self {
        match holds {
            true => Self::Ready(()),
            false => Self::Pending(state()),
        }
    }
}

/// Polls until the condition holds, at most for `limit`. An error of a poll ends the wait.
pub async fn until<T>(
    condition: &str,
    limit: Duration,
    mut poll: impl AsyncFnMut() -> Result<Poll<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = "no poll has ended".to_owned();
    loop {
        match timeout_at(deadline, poll()).await {
            Ok(Ok(Poll::Ready(value))) => return Ok(value),
            Ok(Ok(Poll::Pending(state))) => last = state,
            Ok(Err(error)) => return Err(error.context(format!("while waiting for {condition}"))),
            Err(_) => last = format!("the last poll did not end; before it: {last}"),
        }
        if Instant::now() + POLL_INTERVAL >= deadline {
            bail!(
                "{condition}: not within {} s; last state: {last}",
                limit.as_secs()
            );
        }
        sleep(POLL_INTERVAL).await;
    }
}
