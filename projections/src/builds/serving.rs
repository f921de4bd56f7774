//! The builds that answer queries, as far as this process knows them.

use super::{Build, BuildId, Entry, State, answering, version::view_of};
use schemas::Timestamp;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The version of each view that answers its queries, and the build of each version that does so or did so last. Cheap
/// to clone.
///
/// After a switch, a process may answer from the previous build for one interval of the supervisor. The previous build
/// is still projected, so its answers are complete. A query that began before a switch to another version ends with the
/// previous build of its own version.
#[derive(Debug, Clone)]
pub struct Serving {
    known: Arc<watch::Sender<Known>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    /// By the name of the version.
    builds: BTreeMap<String, KnownBuild>,
    /// The version that answers, by the name of the view without a version.
    versions: BTreeMap<String, String>,
}

/// The build of a version that answers queries, or did so last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KnownBuild {
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
            known: Arc::new(watch::Sender::new(Known::default())),
        }
    }
}

impl Known {
    fn answers(&self, version: &str) -> bool {
        let answering = self.versions.get(view_of(version));
        answering.is_some_and(|answering| answering == version)
    }

    /// The progress of the build that answers, if it belongs to this version and has not caught up.
    fn catch_up(&self, version: &str) -> Option<CatchUp> {
        let build = self.builds.get(version)?;
        build.catch_up.filter(|_| self.answers(version))
    }
}

impl Serving {
    /// The version that answers the queries of a view, if it is known. This program may lack it. `view` is a name
    /// without a version.
    pub fn version(&self, view: &str) -> Option<String> {
        self.known.borrow().versions.get(view).cloned()
    }

    /// Whether a version answers the queries of its view.
    pub fn answers(&self, version: &str) -> bool {
        self.known.borrow().answers(version)
    }

    /// The build of a version that answers queries, or did so last, if it is known. It may not have caught up.
    pub fn build(&self, view: &'static str) -> Option<Build> {
        let number = self.known.borrow().builds.get(view)?.number;
        Some(Build { view, number })
    }

    /// The same build as [`Self::build`], and its progress; `None` if it has caught up.
    pub fn build_and_catch_up(&self, view: &'static str) -> Option<(Build, Option<CatchUp>)> {
        let known = self.known.borrow();
        let KnownBuild {
            number, catch_up, ..
        } = *known.builds.get(view)?;
        Some((Build { view, number }, catch_up))
    }

    /// The same build as [`Self::build`], identified for good.
    pub fn id(&self, view: &'static str) -> Option<BuildId> {
        let known = self.known.borrow();
        let build = known.builds.get(view)?;
        let number = build.number;
        Some(BuildId {
            build: Build { view, number },
            created_at: build.created_at,
        })
    }

    /// The progress of the build that answers queries; `None` if the build has caught up, if no build is known, or if
    /// another version answers.
    pub fn catch_up(&self, view: &str) -> Option<CatchUp> {
        self.known.borrow().catch_up(view)
    }

    /// Waits until one of these versions answers queries; returns the build. Cancel-safe.
    pub async fn known(&self, versions: &[&'static str]) -> Build {
        let mut changes = self.known.subscribe();
        loop {
            let found = {
                let known = changes.borrow_and_update();
                let view = versions.iter().find(|version| known.answers(version));
                view.and_then(|view| Some((*view, known.builds.get(*view)?.number)))
            };
            if let Some((view, number)) = found {
                return Build { view, number };
            }
            // Never happens, because `self` owns the sender.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until a build that answers queries, of one of these versions, has not caught up. Cancel-safe.
    pub async fn is_behind(&self, versions: &[&str]) {
        let mut changes = self.known.subscribe();
        let is_behind = |known: &Known| {
            let mut versions = versions.iter();
            versions.any(|version| known.catch_up(version).is_some())
        };
        // Never fails, because `self` owns the sender.
        if changes.wait_for(is_behind).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sets the versions and the builds to those of the entries. A build that is known to have caught up keeps this
    /// state, because the entries may be older.
    pub fn set(&self, entries: &[Entry]) {
        self.known.send_if_modified(|known| {
            let builds = last_serving(entries).map(|entry| {
                let before = known.builds.get(&entry.view).filter(|before| {
                    (before.number, before.created_at) == (entry.build, entry.created_at)
                });
                let catch_up = match entry.has_caught_up {
                    true => None,
                    false => before.map_or(Some(CatchUp::default()), |before| before.catch_up),
                };
                let build = KnownBuild {
                    number: entry.build,
                    created_at: entry.created_at,
                    catch_up,
                };
                (entry.view.clone(), build)
            });
            let versions = entries.iter().filter_map(|entry| {
                let version = answering(entries, &entry.view)?.view.clone();
                Some((view_of(&entry.view).to_owned(), version))
            });
            let next = Known {
                builds: builds.collect(),
                versions: versions.collect(),
            };
            let is_changed = *known != next;
            *known = next;
            is_changed
        });
    }

    /// Records the progress of a build; `None` if the build has caught up.
    pub fn set_catch_up(&self, build: BuildId, catch_up: Option<CatchUp>) {
        let id = (build.build.number, build.created_at);
        self.known.send_if_modified(|known| {
            let known = known.builds.get_mut(build.build.view);
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

/// For each version, the entry of its serving build, or else of the build that served last.
fn last_serving(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let rank = |entry: &Entry| match entry.state {
        State::Serving => Some((1, entry.changed_at, entry.build)),
        State::Previous => Some((0, entry.changed_at, entry.build)),
        State::Building | State::Dropped => None,
    };
    entries.iter().filter(move |entry| {
        let of_version = entries.iter().filter(|other| other.view == entry.view);
        rank(entry).is_some() && of_version.map(rank).max() == Some(rank(entry))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const VIEW: &str = "orders_v2";
    const NEXT: &str = "orders_v3";

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

    /// A build of a version, whose state changed at this time.
    fn of(view: &str, build: i32, state: State, changed_at: i64) -> Entry {
        Entry {
            view: view.to_owned(),
            state,
            changed_at: Timestamp(changed_at),
            ..entry(build, 0, true)
        }
    }

    #[test]
    fn the_version_with_the_serving_build_answers() {
        let serving = Serving::default();
        assert_eq!(serving.version("orders"), None);
        serving.set(&[
            of(VIEW, 1, State::Serving, 0),
            of(NEXT, 1, State::Building, 1),
            of("orders_by_customer_v4", 1, State::Serving, 2),
        ]);
        assert_eq!(serving.version("orders").as_deref(), Some(VIEW));
        assert_eq!(
            (serving.answers(VIEW), serving.answers(NEXT)),
            (true, false)
        );
        assert_eq!(serving.build(NEXT), None);
    }

    /// Otherwise a query that began before the switch would fail.
    #[test]
    fn a_version_that_no_longer_answers_keeps_the_build_that_served_last() {
        let serving = Serving::default();
        serving.set(&[
            of(VIEW, 1, State::Previous, 7),
            of(VIEW, 2, State::Previous, 6),
            of(VIEW, 3, State::Building, 8),
            of(NEXT, 1, State::Serving, 7),
        ]);
        assert_eq!(
            (serving.answers(VIEW), serving.answers(NEXT)),
            (false, true)
        );
        assert_eq!(serving.build(VIEW), Some(build(1)));
    }

    #[test]
    fn the_newest_of_two_serving_versions_answers() {
        let serving = Serving::default();
        let versions = ["orders_v9", "orders_v10"];
        serving.set(&versions.map(|view| of(view, 1, State::Serving, 0)));
        assert_eq!(serving.version("orders").as_deref(), Some("orders_v10"));
    }

    #[tokio::test]
    async fn a_version_that_does_not_answer_is_not_behind() {
        let serving = Serving::default();
        let former = Entry {
            state: State::Previous,
            ..entry(1, 0, false)
        };
        serving.set(&[former, of(NEXT, 1, State::Serving, 1)]);
        assert_eq!(serving.catch_up(VIEW), None);
        assert_eq!(serving.is_behind(&[VIEW, NEXT]).now_or_never(), None);
        let found = serving.build_and_catch_up(VIEW);
        assert_eq!(found, Some((build(1), Some(CatchUp::default()))));
    }

    #[tokio::test]
    async fn the_build_of_the_version_that_answers_becomes_known() {
        let serving = Serving::default();
        let versions = [VIEW, NEXT];
        serving.set(&[of("catalog_v1", 1, State::Serving, 0)]);
        assert_eq!(serving.known(&versions).now_or_never(), None);
        serving.set(&[of(NEXT, 4, State::Serving, 0)]);
        let found = serving.known(&versions).now_or_never();
        let expected = Build {
            view: NEXT,
            number: 4,
        };
        assert_eq!(found, Some(expected));
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
