//! The builds that answer queries, as far as this process knows them.

use super::{Build, BuildId, Entry, State};
use schemas::Timestamp;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The serving build of each view. Cheap to clone.
///
/// After a switch, a process may answer from the previous build for one interval of the supervisor. The previous build
/// is still projected, so its answers are complete.
#[derive(Debug, Clone)]
pub struct Serving {
    builds: Arc<watch::Sender<BTreeMap<String, Known>>>,
}

/// A serving build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    number: i32,
    /// After a loss of the list, another build may have the same number.
    created_at: Timestamp,
    /// The progress of the build; `None` once it has caught up.
    catch_up: Option<CatchUp>,
}

/// The progress of a build that is projected from the start. Until the build has caught up, its rows are only a part of
/// the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatchUp {
    /// Number of offsets that the build has read.
    pub read: i64,
    /// Number of offsets that the build must read; 0 until it is measured.
    pub end: i64,
}

impl Default for Serving {
    /// No view has a build yet.
    fn default() -> Self {
        Self {
            builds: Arc::new(watch::Sender::new(BTreeMap::new())),
        }
    }
}

impl Serving {
    /// The build of a view that answers queries, if it is known. It may not have caught up.
    pub fn build(&self, view: &'static str) -> Option<Build> {
        let number = self.builds.borrow().get(view)?.number;
        Some(Build { view, number })
    }

    /// The same build as [`Self::build`], identified for good.
    pub fn id(&self, view: &'static str) -> Option<BuildId> {
        let builds = self.builds.borrow();
        let known = builds.get(view)?;
        let number = known.number;
        Some(BuildId {
            build: Build { view, number },
            created_at: known.created_at,
        })
    }

    /// The progress of a view's serving build; `None` if the build has caught up, or if no build is known.
    pub fn catch_up(&self, view: &str) -> Option<CatchUp> {
        self.builds.borrow().get(view)?.catch_up
    }

    /// Waits until the build of a view that answers queries is known. Cancel-safe.
    pub async fn known(&self, view: &'static str) -> Build {
        let mut builds = self.builds.subscribe();
        loop {
            if let Some(known) = builds.borrow_and_update().get(view) {
                let number = known.number;
                return Build { view, number };
            }
            // Never happens, because `self` owns the sender.
            if builds.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the known build of one of these views has not caught up. Cancel-safe.
    pub async fn is_behind(&self, views: &[&str]) {
        let mut builds = self.builds.subscribe();
        let is_behind = |builds: &BTreeMap<String, Known>| {
            let known = views.iter().filter_map(|view| builds.get(*view));
            let mut catch_ups = known.map(|known| known.catch_up);
            catch_ups.any(|catch_up| catch_up.is_some())
        };
        // Never fails, because `self` owns the sender.
        if builds.wait_for(is_behind).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sets the serving builds to those of the entries. A build that is known to have caught up keeps this state,
    /// because the entries may be older.
    pub fn set(&self, entries: &[Entry]) {
        let serving = entries.iter().filter(|one| one.state == State::Serving);
        self.builds.send_if_modified(|known| {
            let builds = serving.map(|entry| {
                let before = known.get(&entry.view).filter(|before| {
                    (before.number, before.created_at) == (entry.build, entry.created_at)
                });
                let catch_up = match entry.has_caught_up {
                    true => None,
                    false => before.map_or(Some(CatchUp::default()), |before| before.catch_up),
                };
                let build = Known {
                    number: entry.build,
                    created_at: entry.created_at,
                    catch_up,
                };
                (entry.view.clone(), build)
            });
            let next: BTreeMap<String, Known> = builds.collect();
            let is_changed = *known != next;
            *known = next;
            is_changed
        });
    }

    /// Records the progress of a serving build; `None` if the build has caught up.
    pub fn set_catch_up(&self, build: BuildId, catch_up: Option<CatchUp>) {
        let id = (build.build.number, build.created_at);
        self.builds.send_if_modified(|builds| {
            let known = builds.get_mut(build.build.view);
            let Some(known) = known.filter(|known| (known.number, known.created_at) == id) else {
                return false;
            };
            let is_changed = known.catch_up.is_some() && known.catch_up != catch_up;
            if is_changed {
                known.catch_up = catch_up;
            }
            is_changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const VIEW: &str = "orders_v2";

    fn entry(build: i32, created_at: i64, has_caught_up: bool) -> Entry {
        Entry {
            view: VIEW.to_owned(),
            build,
            state: State::Serving,
            created_at: Timestamp(created_at),
            changed_at: Timestamp(0),
            has_tables: true,
            has_caught_up,
        }
    }

    fn build(number: i32) -> Build {
        Build { view: VIEW, number }
    }

    fn id(number: i32, created_at: i64) -> BuildId {
        BuildId {
            build: build(number),
            created_at: Timestamp(created_at),
        }
    }

    #[test]
    fn a_build_that_replaces_another_has_not_caught_up() {
        let serving = Serving::default();
        serving.set(&[entry(1, 0, true)]);
        assert_eq!(serving.catch_up(VIEW), None);
        serving.set(&[entry(2, 5, false)]);
        assert_eq!(serving.build(VIEW), Some(build(2)));
        assert_eq!(serving.catch_up(VIEW), Some(CatchUp::default()));
        let half = CatchUp { read: 5, end: 10 };
        serving.set_catch_up(id(2, 5), Some(half));
        // A later reading of the list keeps the measured progress.
        serving.set(&[entry(2, 5, false)]);
        assert_eq!(serving.catch_up(VIEW), Some(half));
    }

    #[test]
    fn a_build_that_has_caught_up_stays_so_although_an_older_list_is_read() {
        let serving = Serving::default();
        serving.set(&[entry(2, 5, false)]);
        serving.set_catch_up(id(1, 5), None);
        assert_eq!(serving.catch_up(VIEW), Some(CatchUp::default()));
        serving.set_catch_up(id(2, 5), None);
        serving.set(&[entry(2, 5, false)]);
        assert_eq!(serving.catch_up(VIEW), None);
        serving.set_catch_up(id(2, 5), Some(CatchUp::default()));
        assert_eq!(serving.catch_up(VIEW), None);
    }

    #[test]
    fn a_build_with_the_number_of_a_lost_one_has_not_caught_up() {
        let serving = Serving::default();
        serving.set(&[entry(1, 0, true)]);
        serving.set(&[entry(1, 9, false)]);
        assert_eq!(serving.id(VIEW), Some(id(1, 9)));
        assert_eq!(serving.catch_up(VIEW), Some(CatchUp::default()));
        // A late measurement of the lost build changes nothing.
        serving.set_catch_up(id(1, 0), None);
        assert_eq!(serving.catch_up(VIEW), Some(CatchUp::default()));
    }

    #[tokio::test]
    async fn only_the_named_views_count_as_behind() {
        let serving = Serving::default();
        serving.set(&[entry(1, 0, false)]);
        assert_eq!(serving.is_behind(&["unknown_v1"]).now_or_never(), None);
        let behind = serving.is_behind(&["unknown_v1", VIEW]).now_or_never();
        assert_eq!(behind, Some(()));
    }
}
