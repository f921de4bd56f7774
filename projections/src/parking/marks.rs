//! Marks the answers of a view that lack the events of parked aggregates.
//!
//! A projector adds an aggregate when it parks it, before queries that wait for the event's position continue. Before a
//! stored position ends the wait of a query, the aggregates that are parked at this position are read. So an answer
//! that includes a position also has the marks of it. Every second, the supervisor reads all aggregates: an answer to a
//! query without a position may lack the mark of another process for this time. An answer about a parked aggregate has
//! `Daybook-Stale: parked`. Every answer of a view with parked aggregates, such as a list or totals, has their number
//! in `Daybook-Parked`.

use super::table::ParkedAggregate;
use crate::builds::{Build, Serving};
use axum::{
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderName, HeaderValue},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::MethodRouter,
};
use schemas::ids::split_key;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use utoipa::openapi::{HeaderBuilder, ObjectBuilder, OpenApi, RefOr, schema::Type};

const DAYBOOK_PARKED: HeaderName = HeaderName::from_static("daybook-parked");
const DAYBOOK_STALE: HeaderName = HeaderName::from_static("daybook-stale");
/// The value of `Daybook-Stale` in an answer about a parked aggregate.
const PARKED: HeaderValue = HeaderValue::from_static("parked");
/// Maximum number of parked aggregates of all builds that a process knows by name. Beyond this number, every answer about
/// a single aggregate counts as one about a parked aggregate.
pub const KNOWN_MAX: i64 = 10_000;
/// Maximum number of aggregates that are remembered until they are read. If more are parked, the list is incomplete.
const RECENT_MAX: usize = 10_000;

/// The parked and discarded aggregates of each build, as this process knows them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether any aggregate is known or the list is incomplete, so that queries need no lock while none is parked.
    has_any: AtomicBool,
    known: Mutex<Known>,
}

/// The known aggregates.
#[derive(Debug, Default)]
struct Known {
    /// By view, then by the number of the build.
    builds: BTreeMap<String, BTreeMap<i32, Parked>>,
    /// Number of aggregates that were added so far.
    added: u64,
    /// The aggregates that were added since the last reading began, at most [`RECENT_MAX`], each with the number of its
    /// last addition.
    recent: BTreeMap<ParkedAggregate, u64>,
    /// The number of the last addition that was not remembered; 0 if there was none.
    forgotten: u64,
    /// Whether parked aggregates are missing, of any build.
    is_incomplete: bool,
}

/// The beginning of a reading of the parked aggregates.
#[derive(Debug, Clone, Copy)]
pub struct Reading(u64);

/// The parked aggregates of a build.
#[derive(Debug, Default)]
struct Parked {
    count: usize,
    /// Their keys, and their ids: a key without its aggregate type.
    names: BTreeSet<String>,
}

impl Parked {
    fn add(&mut self, key: &str) {
        let is_new = self.names.insert(key.to_owned());
        self.count += usize::from(is_new);
        if let Some((_, id)) = split_key(key) {
            self.names.insert(id.to_owned());
        }
    }
}

impl Known {
    fn add(&mut self, aggregate: &ParkedAggregate) {
        let builds = self.builds.entry(aggregate.view_name.clone());
        let build = builds.or_default().entry(aggregate.build);
        build.or_default().add(&aggregate.key);
    }
}

impl Marks {
    /// Adds aggregates that this process has parked, or that it has read. Queries see all of them or none.
    pub fn add(&self, aggregates: impl IntoIterator<Item = ParkedAggregate>) {
        let mut known = self.lock();
        let before = known.added;
        for aggregate in aggregates {
            known.added += 1;
            let number = known.added;
            if known.recent.len() < RECENT_MAX || known.recent.contains_key(&aggregate) {
                known.add(&aggregate);
                known.recent.insert(aggregate, number);
            } else {
                known.forgotten = number;
                known.is_incomplete = true;
            }
        }
        if known.added > before {
            self.shared.has_any.store(true, Ordering::Release);
        }
    }

    /// Call this before the parked aggregates are read, and pass the result to [`Marks::set`].
    pub fn begin(&self) -> Reading {
        Reading(self.lock().added)
    }

    /// Replaces the known aggregates by those that were read and those that were added since the reading began. More
    /// than [`KNOWN_MAX`] aggregates are an incomplete list.
    pub fn set(&self, aggregates: &[ParkedAggregate], Reading(begun): Reading) {
        let are_too_many = aggregates.len() > usize::try_from(KNOWN_MAX).unwrap_or(usize::MAX);
        let mut known = self.lock();
        known.recent.retain(|_, number| *number > begun);
        known.is_incomplete = are_too_many || known.forgotten > begun;
        known.builds.clear();
        let recent: Vec<_> = known.recent.keys().cloned().collect();
        for aggregate in aggregates.iter().chain(&recent) {
            known.add(aggregate);
        }
        let has_any = known.is_incomplete || !known.builds.is_empty();
        self.shared.has_any.store(has_any, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        let known = self.shared.known.lock();
        known.expect("no holder of this lock panics")
    }

    /// The number of parked aggregates of a build, and whether one of these names is among them; `None` if no aggregate
    /// is parked. If the list is incomplete, the number is the least possible one, and every name counts as parked.
    pub(crate) fn find<'n>(
        &self,
        build: Build,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<(usize, bool)> {
        if !self.shared.has_any.load(Ordering::Acquire) {
            return None;
        }
        let known = self.lock();
        let builds = known.builds.get(build.view);
        let parked = builds.and_then(|builds| builds.get(&build.number));
        match parked {
            None if !known.is_incomplete => None,
            None => Some((1, names.next().is_some())),
            Some(parked) => {
                let is_parked =
                    names.any(|name| known.is_incomplete || parked.names.contains(name));
                Some((parked.count, is_parked))
            }
        }
    }
}

/// The middleware's state.
#[derive(Clone)]
struct OfView {
    view: &'static str,
    serving: Serving,
    marks: Marks,
}

/// Marks the answers of a view's query.
pub fn mark_parked(
    view: &'static str,
    serving: &Serving,
    marks: &Marks,
    query: MethodRouter,
) -> MethodRouter {
    let state = OfView {
        view,
        serving: serving.clone(),
        marks: marks.clone(),
    };
    query.layer(from_fn_with_state(state, mark))
}

/// Describes the marks in the OpenAPI document of queries.
pub fn document_marks(document: &mut OpenApi) {
    let paths = document.paths.paths.values_mut();
    for query in paths.filter_map(|path| path.get.as_mut()) {
        for response in query.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                let text = ObjectBuilder::new().schema_type(Type::String).build();
                let header = HeaderBuilder::new().schema(Some(text)).description(Some(
                    "Only if the view has parked aggregates: their number. Their events wait for an operator, so lists and \
                     totals may lack them. An answer about one of these aggregates also has `Daybook-Stale: parked`.",
                ));
                let headers = &mut response.headers;
                headers.insert("Daybook-Parked".to_owned(), header.build().into());
            }
        }
    }
}

async fn mark(
    State(of_view): State<OfView>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let Some(build) = of_view.serving.build(of_view.view) else {
        return response;
    };
    let names = parameters.iter().flatten().map(|(_, value)| value);
    if let Some((count, is_parked)) = of_view.marks.find(build, names) {
        let headers = response.headers_mut();
        headers.insert(DAYBOOK_PARKED, count.into());
        if is_parked {
            headers.insert(DAYBOOK_STALE, PARKED);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: Build = Build {
        view: "orders_v2",
        number: 2,
    };

    fn aggregate(build: i32, key: &str) -> ParkedAggregate {
        ParkedAggregate {
            view_name: BUILD.view.to_owned(),
            build,
            key: key.to_owned(),
        }
    }

    #[test]
    fn an_aggregate_is_found_by_its_key_and_by_its_id_in_its_build_only() {
        let marks = Marks::default();
        let find = |name: &str| marks.find(BUILD, [name].into_iter());
        assert_eq!(find("order_a"), None);
        let read = [aggregate(1, "order_a"), aggregate(2, "product_B_C")];
        marks.set(&read, marks.begin());
        assert_eq!(find("order_a"), Some((1, false)));
        assert_eq!(find("product_B_C"), Some((1, true)));
        assert_eq!(find("B_C"), Some((1, true)));
        assert_eq!(find("C"), Some((1, false)));
        marks.set(&[], marks.begin());
        assert_eq!(find("B_C"), None);
    }

    #[test]
    fn an_aggregate_that_was_added_during_a_reading_stays_until_the_next_one() {
        let marks = Marks::default();
        let find = |name: &str| marks.find(BUILD, [name].into_iter());
        let reading = marks.begin();
        marks.add([aggregate(2, "order_a")]);
        marks.set(&[], reading);
        assert_eq!(find("order_a"), Some((1, true)));
        // The next reading finds it, and it counts once.
        marks.set(&[aggregate(2, "order_a")], marks.begin());
        assert_eq!(find("order_a"), Some((1, true)));
        marks.set(&[], marks.begin());
        assert_eq!(find("order_a"), None);
    }

    #[test]
    fn more_additions_than_are_remembered_make_every_aggregate_count_as_parked_until_a_reading() {
        let marks = Marks::default();
        let find = |name: &str| marks.find(BUILD, [name].into_iter());
        marks.add((0..=RECENT_MAX).map(|number| aggregate(1, &format!("order_{number}"))));
        assert_eq!(marks.lock().recent.len(), RECENT_MAX);
        assert_eq!(find("other"), Some((1, true)));
        marks.set(&[], marks.begin());
        assert_eq!(find("other"), None);
        assert!(marks.lock().recent.is_empty());
    }

    #[test]
    fn an_addition_that_is_not_remembered_makes_the_list_incomplete_after_a_reading_of_before() {
        let marks = Marks::default();
        let find = |name: &str| marks.find(BUILD, [name].into_iter());
        let reading = marks.begin();
        marks.add((0..=RECENT_MAX).map(|number| aggregate(1, &format!("order_{number}"))));
        marks.set(&[], reading);
        assert_eq!(find("other"), Some((1, true)));
        marks.set(&[], marks.begin());
        assert_eq!(find("other"), None);
    }

    #[test]
    fn an_aggregate_that_is_added_several_times_counts_and_is_remembered_once() {
        let marks = Marks::default();
        for _ in 0..3 {
            marks.add([aggregate(2, "order_a")]);
        }
        let found = marks.find(BUILD, ["order_a"].into_iter());
        assert_eq!((found, marks.lock().recent.len()), (Some((1, true)), 1));
    }

    #[test]
    fn a_build_without_known_aggregates_counts_as_one_with_if_not_all_are_known() {
        let marks = Marks::default();
        let count = usize::try_from(KNOWN_MAX).unwrap() + 1;
        let of_another_build: Vec<_> = (0..count)
            .map(|number| aggregate(1, &format!("order_{number}")))
            .collect();
        marks.set(&of_another_build, marks.begin());
        let found = marks.find(BUILD, ["other"].into_iter());
        assert_eq!(found, Some((1, true)));
    }

    #[test]
    fn every_aggregate_counts_as_parked_if_not_all_are_known() {
        let marks = Marks::default();
        let count = usize::try_from(KNOWN_MAX).unwrap() + 1;
        let many: Vec<_> = (0..count)
            .map(|number| aggregate(2, &format!("order_{number}")))
            .collect();
        marks.set(&many, marks.begin());
        assert_eq!(
            marks.find(BUILD, ["other"].into_iter()),
            Some((count, true))
        );
        // A list names no aggregate.
        assert_eq!(marks.find(BUILD, [].into_iter()), Some((count, false)));
    }
}
