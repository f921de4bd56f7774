//! Waiting for a condition, with a bound, and saying what was waited for. Nothing in these tests
//! sleeps for any other reason.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What one look found.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds.
    Done(T),
    /// It does not yet; what was seen instead.
    NotYet(String),
}

impl Look<()> {
    /// Done if `holds`; else what was seen instead.
    pub fn at(holds: bool, seen: impl FnOnce() -> String) -> Self {
        match holds {
            true => Self::Done(()),
            false => Self::NotYet(seen()),
        }
    }
}

/// Looks until the condition holds, at most for `limit`; an error of a look ends the waiting.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Look<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut seen = "nothing was seen".to_owned();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(Look::Done(value))) => return Ok(value),
            Ok(Ok(Look::NotYet(state))) => seen = state,
            Ok(Err(error)) => return Err(error.context(format!("while waiting for {what}"))),
            Err(_) => seen = format!("the last look did not end; before: {seen}"),
        }
        if Instant::now() + LOOK_INTERVAL >= deadline {
            bail!("waited {} s for {what}: {seen}", limit.as_secs());
        }
        sleep(LOOK_INTERVAL).await;
    }
}
