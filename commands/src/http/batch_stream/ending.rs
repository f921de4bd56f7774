//! Interruptions of a batch, and the last line that reports them.

use axum::http::StatusCode;
use service::problem::Problem;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Longest time in which the client neither sends a line nor reads an answer.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The reason why no further line is read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interruption {
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// The client neither sent nor read anything for too long.
    #[error("no line came and no answer was read for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
    /// The body can't be read.
    #[error("the body broke off: {0}")]
    CutOff(String),
}

/// The last line of a response whose request was not read to its end.
pub(super) struct LastLine {
    /// The first line that was not taken.
    pub(super) number: u64,
    pub(super) reason: Interruption,
}

impl LastLine {
    /// The line.
    pub(super) fn text(&self) -> Vec<u8> {
        let (status, code, advice) = match self.reason {
            Interruption::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "BATCH_STOPPED",
                "to another node, or to this one after its restart",
            ),
            Interruption::Idle => (
                StatusCode::REQUEST_TIMEOUT,
                "BATCH_IDLE",
                "and read answers while you send",
            ),
            Interruption::CutOff(_) => {
                (StatusCode::BAD_REQUEST, "BATCH_CUT_OFF", "as a whole body")
            }
        };
        let Self { number, reason } = self;
        let detail = format!(
            "{reason}: every line before line {number} has its answer; send line {number} and all lines after it \
             again under the same keys, {advice}"
        );
        let problem = Problem::new(status, code, detail).with("line", number);
        let mut text = problem.body().to_string().into_bytes();
        text.push(b'\n');
        text
    }
}

/// The last time at which a line came or an answer was read.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    /// Activity that begins now.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Records that a line came or an answer was read.
    pub(super) fn note(&self) {
        *self.0.lock().expect("no holder of this lock panics") = Instant::now();
    }

    /// Returns once there has been no activity for [`IDLE_TIMEOUT`].
    pub(super) async fn idle(&self) {
        loop {
            let last = *self.0.lock().expect("no holder of this lock panics");
            let deadline = last + IDLE_TIMEOUT;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}
