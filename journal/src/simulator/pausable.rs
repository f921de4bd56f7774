//! A process that can stand still, as after SIGSTOP: it is not polled, though its timers run out and
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

/// Holds a future back, or lets it go on.
#[derive(Default)]
pub(super) struct Gate {
    shut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    pub fn shut(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    pub fn open(&self) {
        self.shut.store(false, Ordering::Relaxed);
        if let Some(waker) = self.waker.lock().expect("no holder panics").take() {
            waker.wake();
        }
    }
}

/// A future behind a gate.
pub(super) struct Pausable<F> {
    inner: Pin<Box<F>>,
    gate: Arc<Gate>,
}

impl<F> Pausable<F> {
    pub fn new(inner: F, gate: Arc<Gate>) -> Self {
        Self {
            inner: Box::pin(inner),
            gate,
        }
    }
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.gate.is_shut() {
            let waker = context.waker().clone();
            *self.gate.waker.lock().expect("no holder panics") = Some(waker);
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}
