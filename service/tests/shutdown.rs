//! Tests the effect of a task's end on its process. The test is a program of its own, because the process
//! remembers that a task has panicked.

#![allow(
    clippy::unwrap_used,
    reason = "a test program; clippy knows only its test functions"
)]

use service::shutdown::{supervise, wait_for};
use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The log messages since the last call.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a task to its end under supervision; returns whether the process would exit successfully.
async fn ended_well(stop: &CancellationToken, task: impl Future<Output = ()>) -> bool {
    let tasks = TaskTracker::new();
    tasks
        .track_future(supervise("the task", stop.clone(), task))
        .await;
    wait_for(&tasks).await
}

#[tokio::test]
async fn an_unrequested_end_is_reported_and_a_panic_ends_the_process() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let stop = CancellationToken::new();
    stop.cancel();
    assert!(ended_well(&stop, stop.clone().cancelled_owned()).await);
    assert_eq!(log.take(), "");

    let stop = CancellationToken::new();
    assert!(ended_well(&stop, async {}).await);
    assert!(!stop.is_cancelled());
    let words = log.take();
    for part in ["ended by itself", "the task"] {
        assert!(words.contains(part), "no {part:?} in: {words}");
    }

    assert!(!ended_well(&stop, async { panic!("on purpose") }).await);
    assert!(stop.is_cancelled());
    let words = log.take();
    for part in ["panicked", "the task"] {
        assert!(words.contains(part), "no {part:?} in: {words}");
    }
}
