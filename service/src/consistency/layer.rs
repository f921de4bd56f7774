//! The middleware of a view's queries.

use super::{
    polls::{Polls, ReadStored},
    positions::{DAYBOOK_LAG, DAYBOOK_STALE, Positions, invalid},
};
use crate::{problem::Problem, progress::Progress};
use axum::{
    extract::{Request, State},
    http::HeaderValue,
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Longest wait of a query in milliseconds, unless the settings say otherwise.
pub const WAIT_MS_DEFAULT: u64 = 2_000;
/// Maximum number of requests that wait for one view at once. Further requests are answered without a wait, and marked
/// as stale if necessary.
pub const WAITS_MAX: usize = 10_000;

/// A view or job whose queries wait for positions.
pub struct View {
    /// The name under which it reports its progress.
    pub reader: &'static str,
    /// The progress of the readers of this process.
    pub progress: Progress,
    /// The names of all journals. A position in a topic that is not a journal is refused.
    pub journals: Vec<&'static str>,
    /// Reads the positions that are stored with the view's rows; `None` if no other process writes these rows.
    pub stored: Option<ReadStored>,
    /// Longest wait of a query.
    pub wait_max: Duration,
}

/// The middleware's state. Cheap to clone.
#[derive(Clone)]
pub struct PositionLayer {
    shared: Arc<Shared>,
}

struct Shared {
    view: View,
    polls: Option<Arc<Polls>>,
    waits: AtomicUsize,
}

/// The number of offsets by which a view is behind the positions of a request, by topic and partition; `None` if the
/// view's position is not known. The map is empty if the view has applied every position.
type Lag = BTreeMap<(String, i32), Option<i64>>;

/// Counts a waiting request.
struct Counted<'a>(&'a AtomicUsize);

impl PositionLayer {
    /// The layer of a view's queries.
    pub fn new(view: View) -> Self {
        let polls = view.stored.clone().map(|read| {
            let polls = Polls::new(view.reader, view.progress.clone(), read);
            Arc::new(polls)
        });
        Self {
            shared: Arc::new(Shared {
                view,
                polls,
                waits: AtomicUsize::new(0),
            }),
        }
    }

    /// Waits until the view has applied the positions, at most for [`View::wait_max`].
    async fn wait(&self, positions: Positions) -> Result<Lag, Problem> {
        let Positions(mut wanted) = positions;
        let view = &self.shared.view;
        let journals = &view.journals;
        if let Some((topic, _)) = wanted
            .keys()
            .find(|(topic, _)| !journals.contains(&&**topic))
        {
            let known = journals.join(", ");
            return Err(invalid(format!(
                "Daybook-Position: {topic:?} is not a journal; send positions in {known}"
            )));
        }
        let waited = timeout(view.wait_max, async {
            view.progress.started(view.reader).await;
            self.retain_known_journals(&mut wanted)?;
            Ok::<_, Problem>(self.reach(&wanted).await)
        });
        match waited.await {
            Ok(Ok(true)) => Ok(Lag::new()),
            Ok(Err(problem)) => Err(problem),
            Ok(Ok(false)) | Err(_) => Ok(self.lag(wanted)),
        }
    }

    /// Leaves out the positions of journals that the view does not read.
    fn retain_known_journals(
        &self,
        wanted: &mut BTreeMap<(String, i32), i64>,
    ) -> Result<(), Problem> {
        let view = &self.shared.view;
        let known = view.progress.partitions(view.reader);
        wanted.retain(|(topic, _), _| known.iter().any(|(read, _)| read == topic));
        match wanted.keys().find(|partition| !known.contains(*partition)) {
            None => Ok(()),
            Some((topic, partition)) => {
                let count = known.iter().filter(|(read, _)| read == topic).count();
                Err(invalid(format!(
                    "Daybook-Position: {topic} has no partition {partition}; send partitions 0 to {}",
                    count.saturating_sub(1)
                )))
            }
        }
    }

    /// Waits until the view has applied every position; returns `false` at once if too many requests wait.
    async fn reach(&self, wanted: &BTreeMap<(String, i32), i64>) -> bool {
        if self.is_reached_here(wanted) {
            return true;
        }
        let shared = &self.shared;
        let counted = Counted(&shared.waits);
        if counted.0.fetch_add(1, Ordering::Relaxed) >= WAITS_MAX {
            return false;
        }
        let _polled = shared.polls.as_ref().map(Polls::wait);
        let view = &shared.view;
        for ((topic, partition), offset) in wanted {
            let reached = view
                .progress
                .reached(view.reader, topic, *partition, offset + 1);
            reached.await;
        }
        if let Some(polls) = &shared.polls {
            polls.ended(!self.is_reached_here(wanted));
        }
        true
    }

    /// Whether this process's reader has applied every position.
    fn is_reached_here(&self, wanted: &BTreeMap<(String, i32), i64>) -> bool {
        let view = &self.shared.view;
        let next = |topic, partition| view.progress.get(view.reader, topic, partition);
        let mut wanted = wanted.iter();
        wanted.all(|((topic, partition), offset)| {
            next(topic, *partition).is_some_and(|next| next > *offset)
        })
    }

    /// The lag behind the positions that the view has not applied, as far as it is known.
    fn lag(&self, wanted: BTreeMap<(String, i32), i64>) -> Lag {
        let view = &self.shared.view;
        let own = view.progress.of_reader(view.reader);
        let lag = wanted.into_iter().filter_map(|(partition, offset)| {
            let stored = self.shared.polls.as_ref();
            let stored = stored.and_then(|polls| polls.stored(&partition));
            let next = own.get(&partition).copied().max(stored);
            let lag = next.map(|next| offset + 1 - next);
            lag.is_none_or(|lag| lag > 0).then_some((partition, lag))
        });
        lag.collect()
    }
}

/// Waits for the positions of a query, and marks an answer that does not include them all.
pub async fn wait_for_positions(
    State(layer): State<PositionLayer>,
    request: Request,
    next: Next,
) -> Response {
    let positions = match Positions::of(request.headers()) {
        Ok(positions) if positions.0.is_empty() => return next.run(request).await,
        Ok(positions) => positions,
        Err(problem) => return problem.into_response(),
    };
    let lag = match layer.wait(positions).await {
        Ok(lag) => lag,
        Err(problem) => return problem.into_response(),
    };
    let mut response = next.run(request).await;
    if !lag.is_empty() {
        let headers = response.headers_mut();
        // Another value names a more specific reason.
        let stale = headers.entry(DAYBOOK_STALE);
        stale.or_insert(HeaderValue::from_static("true"));
        headers.insert(DAYBOOK_LAG, lag_value(&lag));
    }
    response
}

/// `journal.orders/3=17, journal.catalog/0=unknown`
fn lag_value(lag: &Lag) -> HeaderValue {
    let parts = lag.iter().map(|((topic, partition), lag)| {
        let lag = lag.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string());
        format!("{topic}/{partition}={lag}")
    });
    let text = parts.collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&text).expect("topics and numbers are ASCII")
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
