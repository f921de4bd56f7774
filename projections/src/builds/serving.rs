//! The builds that answer queries, as far as this process knows them.

use super::{Build, Entry, State};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The serving build of each view. Cheap to clone.
///
/// After a switch, a process may answer from the previous build for one interval of the supervisor. The previous build
/// is still projected, so its answers are complete.
#[derive(Debug, Clone)]
pub struct Serving {
    numbers: Arc<watch::Sender<BTreeMap<String, i32>>>,
}

impl Default for Serving {
    /// No view has a build yet.
    fn default() -> Self {
        Self {
            numbers: Arc::new(watch::Sender::new(BTreeMap::new())),
        }
    }
}

impl Serving {
    /// The build of a view that answers queries, if it is known.
    pub fn build(&self, view: &'static str) -> Option<Build> {
        let number = self.numbers.borrow().get(view).copied()?;
        Some(Build { view, number })
    }

    /// Waits until the build of a view that answers queries is known. Cancel-safe.
    pub async fn known(&self, view: &'static str) -> Build {
        let mut numbers = self.numbers.subscribe();
        loop {
            if let Some(number) = numbers.borrow_and_update().get(view).copied() {
                return Build { view, number };
            }
            // Never happens, because `self` owns the sender.
            if numbers.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sets the serving builds to those of the entries.
    pub fn set(&self, entries: &[Entry]) {
        let serving = entries.iter().filter(|one| one.state == State::Serving);
        let numbers = serving.map(|one| (one.view.clone(), one.build)).collect();
        self.numbers.send_if_modified(|known| {
            let is_changed = *known != numbers;
            *known = numbers;
            is_changed
        });
    }
}
