//! A deployment that several tests share. The first test starts it, and [`Shared::stop`] ends it.

use anyhow::{Result, anyhow};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A value that is created when the first test needs it.
pub struct Shared<T> {
    value: RwLock<Option<Result<T, String>>>,
}

impl<T> Shared<T> {
    /// A value that is not created yet.
    pub const fn new() -> Self {
        Self {
            value: RwLock::const_new(None),
        }
    }

    /// Access for a test that only reads. The first test runs `make`; if it fails, every test fails with its
    /// error.
    pub async fn read(
        &self,
        make: impl Future<Output = Result<T>>,
    ) -> Result<RwLockReadGuard<'_, T>> {
        self.make(make).await;
        RwLockReadGuard::try_map(self.value.read().await, |value| {
            value.as_ref()?.as_ref().ok()
        })
        .map_err(|value| reason(&value))
    }

    /// Exclusive access, for a test that changes the value.
    pub async fn write(
        &self,
        make: impl Future<Output = Result<T>>,
    ) -> Result<tokio::sync::RwLockMappedWriteGuard<'_, T>> {
        self.make(make).await;
        RwLockWriteGuard::try_map(self.value.write().await, |value| {
            value.as_mut()?.as_mut().ok()
        })
        .map_err(|value| reason(&value))
    }

    async fn make(&self, make: impl Future<Output = Result<T>>) {
        if self.value.read().await.is_some() {
            return;
        }
        let mut value = self.value.write().await;
        if value.is_none() {
            *value = Some(make.await.map_err(|error| format!("{error:#}")));
        }
    }

    /// Drops the value.
    pub async fn stop(&self) {
        *self.value.write().await = None;
    }
}

fn reason<T>(value: &Option<Result<T, String>>) -> anyhow::Error {
    match value {
        Some(Err(reason)) => anyhow!("the shared deployment could not be created: {reason}"),
        Some(Ok(_)) | None => anyhow!("the shared deployment has been stopped"),
    }
}
