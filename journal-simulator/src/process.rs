//! A process that can be paused, as by SIGSTOP: its future is not polled, though its timers expire and
//! its messages arrive.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Pauses and resumes a future.
#[derive(Default)]
pub(super) struct PauseSwitch {
    is_paused: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl PauseSwitch {
    pub fn pause(&self) {
        self.is_paused.store(true, Ordering::Relaxed);
    }

    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    pub fn resume(&self) {
        self.is_paused.store(false, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().expect("no holder panics").take() {
            waker.wake();
        }
    }
}

/// A future that can be paused.
pub(super) struct SuspendableProcess<F> {
    inner: Pin<Box<F>>,
    switch: Arc<PauseSwitch>,
}

impl<F> SuspendableProcess<F> {
    pub fn new(inner: F, switch: Arc<PauseSwitch>) -> Self {
        Self {
            inner: Box::pin(inner),
            switch,
        }
    }
}

impl<F: Future> Future for SuspendableProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.switch.is_paused() {
            let waker = context.waker().clone();
            *self.switch.waker.lock().expect("no holder panics") = Some(waker);
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}
