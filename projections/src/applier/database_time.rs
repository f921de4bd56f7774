//! Measures the time for which a batch waits for its database.
//!
//! All other work on a batch, such as the fold, is synchronous, so it happens within the polls of the batch's future.

use std::{future::poll_fn, pin::pin, time::Duration};
use tokio::time::Instant;

/// Runs a future to its end. Returns its output, and the time between its polls, for which it waited.
pub(super) async fn with_waiting_time<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut waited = Duration::ZERO;
    let mut waiting_since: Option<Instant> = None;
    let output = poll_fn(|context| {
        if let Some(since) = waiting_since.take() {
            waited += since.elapsed();
        }
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            waiting_since = Some(Instant::now());
        }
        polled
    })
    .await;
    (output, waited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const ANSWER_TIME: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn the_waits_for_several_answers_are_added() {
        let begun = Instant::now();
        let work = async {
            sleep(ANSWER_TIME).await;
            sleep(ANSWER_TIME).await;
            7
        };
        let measured = with_waiting_time(work).await;
        assert_eq!(measured, (7, begun.elapsed()));
        assert!(measured.1 >= 2 * ANSWER_TIME, "{measured:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_never_waits_has_no_waiting_time() {
        advance(ANSWER_TIME).await;
        assert_eq!(with_waiting_time(async { 7 }).await, (7, Duration::ZERO));
    }
}
