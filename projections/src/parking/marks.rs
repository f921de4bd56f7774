//! Marks the answers of a view that lack the events of parked aggregates.
//!
//! The supervisor reads the parked aggregates every second. An answer about one of them has `Daybook-Stale: parked`. Every
//! answer of a view with parked aggregates, such as a list or totals, has their number in `Daybook-Parked`.

use super::table::ParkedAggregate;
use crate::{builds::Build, databases::Databases};
use axum::{
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderName, HeaderValue},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;
use utoipa::openapi::{HeaderBuilder, ObjectBuilder, RefOr, schema::Type};
use utoipa_axum::router::OpenApiRouter;

const DAYBOOK_PARKED: HeaderName = HeaderName::from_static("daybook-parked");
const DAYBOOK_STALE: HeaderName = HeaderName::from_static("daybook-stale");
/// The value of `Daybook-Stale` in an answer about a parked aggregate.
const PARKED: HeaderValue = HeaderValue::from_static("parked");
/// Maximum number of parked aggregates of all builds that a process knows by name. Beyond this number, every answer about
/// a single aggregate counts as one about a parked aggregate.
pub const KNOWN_MAX: i64 = 10_000;

/// The parked and discarded aggregates of each build, as this process knows them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Marks {
    builds: Arc<watch::Sender<BTreeMap<(String, i32), Parked>>>,
}

/// The parked aggregates of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Parked {
    count: usize,
    /// Their keys, and their ids: a key without its aggregate type.
    names: BTreeSet<String>,
    /// Whether every parked aggregate has its name here.
    is_complete: bool,
}

impl Default for Marks {
    /// No aggregate is parked.
    fn default() -> Self {
        Self {
            builds: Arc::new(watch::Sender::new(BTreeMap::new())),
        }
    }
}

impl Marks {
    /// Replaces the known aggregates. More than [`KNOWN_MAX`] aggregates are an incomplete list.
    pub fn set(&self, aggregates: &[ParkedAggregate]) {
        let is_complete = aggregates.len() <= usize::try_from(KNOWN_MAX).unwrap_or(usize::MAX);
        let mut builds: BTreeMap<(String, i32), Parked> = BTreeMap::new();
        for aggregate in aggregates {
            let build = (aggregate.view_name.clone(), aggregate.build);
            let parked = builds.entry(build).or_default();
            parked.is_complete = is_complete;
            parked.count += 1;
            if let Some((_, id)) = aggregate.key.split_once('_') {
                parked.names.insert(id.to_owned());
            }
            parked.names.insert(aggregate.key.clone());
        }
        self.builds.send_if_modified(|known| {
            let is_changed = *known != builds;
            *known = builds;
            is_changed
        });
    }

    /// The number of parked aggregates of a build, and whether one of these names is among them; `None` if no aggregate is
    /// parked.
    fn find<'n>(
        &self,
        build: Build,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<(usize, bool)> {
        let builds = self.builds.borrow();
        let parked = builds.get(&(build.view.to_owned(), build.number))?;
        let is_parked = names.any(|name| !parked.is_complete || parked.names.contains(name));
        Some((parked.count, is_parked))
    }
}

/// The middleware's state.
#[derive(Clone)]
struct OfView {
    view: &'static str,
    databases: Databases,
}

/// Marks the answers of a view's routes, and describes the marks in their OpenAPI document.
pub fn mark_parked(
    view: &'static str,
    databases: &Databases,
    mut routes: OpenApiRouter,
) -> OpenApiRouter {
    let paths = routes.get_openapi_mut().paths.paths.values_mut();
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
    let state = OfView {
        view,
        databases: databases.clone(),
    };
    routes.layer(from_fn_with_state(state, mark))
}

async fn mark(
    State(OfView { view, databases }): State<OfView>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let Some(build) = databases.serving.build(view) else {
        return response;
    };
    let names = parameters.iter().flatten().map(|(_, value)| value);
    if let Some((count, is_parked)) = databases.marks.find(build, names) {
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
        marks.set(&[aggregate(1, "order_a"), aggregate(2, "product_B_C")]);
        assert_eq!(find("order_a"), Some((1, false)));
        assert_eq!(find("product_B_C"), Some((1, true)));
        assert_eq!(find("B_C"), Some((1, true)));
        assert_eq!(find("C"), Some((1, false)));
        marks.set(&[]);
        assert_eq!(find("B_C"), None);
    }

    #[test]
    fn every_aggregate_counts_as_parked_if_not_all_are_known() {
        let marks = Marks::default();
        let count = usize::try_from(KNOWN_MAX).unwrap() + 1;
        let many: Vec<_> = (0..count)
            .map(|number| aggregate(2, &format!("order_{number}")))
            .collect();
        marks.set(&many);
        assert_eq!(
            marks.find(BUILD, ["other"].into_iter()),
            Some((count, true))
        );
        // A list names no aggregate.
        assert_eq!(marks.find(BUILD, [].into_iter()), Some((count, false)));
    }
}
