//! Shutdown: one token that every task watches, then a bounded wait for the tasks to end.

use futures_util::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest wait for tasks to end after the signal.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for connections to end, once no more requests are accepted. The remaining connections are
/// then closed, so that a client that stops reading can't delay the end of the process.
pub const CONNECTIONS_TIMEOUT: Duration = Duration::from_millis(1_750);

/// Whether a supervised task has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Returns a token that is cancelled at SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// If the process can't listen for signals.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let cancelled = token.clone();
    tokio::spawn(async move {
        for count in 1..=2 {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!(count, "received a signal to stop");
            match count {
                1 => cancelled.cancel(),
                _ => std::process::exit(130),
            }
        }
    });
    Ok(token)
}

/// Runs a task of the process until `stop`. If the task panics, the process ends, because it would otherwise
/// look healthy without the task. If the task ends by itself, this is logged; the task's component reports
/// the reason.
pub async fn supervise(
    name: &'static str,
    stop: CancellationToken,
    task: impl Future<Output = ()>,
) {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(()) if stop.is_cancelled() => {}
        Ok(()) => tracing::error!(
            task = name,
            "a task ended by itself; the other tasks continue"
        ),
        Err(_) => {
            tracing::error!(task = name, "a task panicked; the process ends");
            PANICKED.store(true, Ordering::Relaxed);
            stop.cancel();
        }
    }
}

/// Waits for all tasks; returns `false` if some did not end in time, or one has panicked.
pub async fn wait_for(tasks: &TaskTracker) -> bool {
    tasks.close();
    let ended = tokio::time::timeout(SHUTDOWN_TIMEOUT, tasks.wait())
        .await
        .is_ok();
    if !ended {
        tracing::error!(tasks = tasks.len(), "some tasks did not end in time");
    }
    ended && !PANICKED.load(Ordering::Relaxed)
}
