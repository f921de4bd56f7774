//! `GET /api/v1/analytics/series`: queries the job's windows in memory.

use crate::{
    window::{JOB, Window},
    windows::{Selection, Windows},
};
use axum::{Json, extract::State, http::StatusCode, middleware::from_fn_with_state};
use schemas::{
    CONTEXTS, ContentHash, Currency, Timestamp, aggregates::RevenueByCountry, text::normalised,
};
use serde::{Deserialize, Serialize};
use service::{
    consistency::{PositionLayer, View, document_positions, wait_for_positions},
    extract::ApiQuery,
    problem::Problem,
    progress::Progress,
};
use std::{
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Maximum number of windows in one answer.
pub const LIMIT_MAX: usize = 100;
/// Number of windows in one answer if the query has no `limit`.
pub const LIMIT_DEFAULT: usize = 100;
/// First byte of a cursor: its layout's version. The hash of the list's filters and the last window of the page, as
/// text, follow. The cursor is written in hexadecimal digits.
const LAYOUT: u8 = 1;
/// Length of the hash of a list's filters, in bytes.
const LIST_BYTES: usize = 8;

/// The job's windows. The job updates them, and queries read them.
#[derive(Debug, Clone, Default)]
pub struct Series {
    state: Arc<RwLock<Shared>>,
    /// The offsets before which the windows include all records. Queries wait for them.
    applied: Progress,
}

#[derive(Debug, Default)]
struct Shared {
    windows: Windows,
    phase: Phase,
}

/// The job's phase, which decides whether queries are answered.
#[derive(Debug, Default)]
enum Phase {
    /// Queries are rejected: the windows include only a part of the journal's history.
    #[default]
    CatchingUp,
    /// Queries are answered: the windows follow the journal.
    Following,
    /// Queries are rejected: the job has stopped permanently, for this reason.
    Stopped(String),
}

/// The query string.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesParameters {
    /// The stream job.
    #[param(example = "revenue_by_country")]
    job: String,
    /// The size of the windows: `hour` or `day`, UTC.
    #[param(example = "day")]
    window: String,
    /// Only windows of this country, spelled as in the sales.
    #[param(example = "France")]
    country: Option<String>,
    /// Only windows that start at this time (RFC 3339) or later.
    #[param(example = "2010-12-01T00:00:00Z")]
    from: Option<String>,
    /// Only windows that start before this time (RFC 3339).
    #[param(example = "2011-01-01T00:00:00Z")]
    to: Option<String>,
    /// Windows per page, 1 to 100; 100 by default.
    #[param(example = 20, minimum = 1, maximum = 100, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page.
    #[param(example = "cursor-of-the-next-page")]
    cursor: Option<String>,
}

/// A page of windows, ordered by start, country and currency.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesAnswer {
    /// The stream job.
    #[schema(example = "revenue_by_country")]
    job: &'static str,
    /// The size of the windows.
    #[schema(example = "day")]
    window: &'static str,
    /// At most `limit` windows.
    series: Vec<WindowAnswer>,
    /// The cursor of the next page; `null` on the last page.
    #[schema(example = "cursor-of-the-next-page")]
    next_cursor: Option<String>,
}

/// One country's sales in one currency in one window.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowAnswer {
    /// The start of the window, inclusive.
    #[schema(example = "2010-12-01T00:00:00Z")]
    window_start: String,
    /// The end of the window, exclusive.
    #[schema(example = "2010-12-02T00:00:00Z")]
    window_end: String,
    /// The country, spelled as in the sales.
    #[schema(example = "France")]
    country: String,
    /// The currency of `revenue`, ISO 4217.
    #[schema(example = "GBP")]
    currency: &'static str,
    /// Number of sales.
    #[schema(example = 34)]
    orders: i64,
    /// Number of credit notes.
    #[schema(example = 1)]
    credit_notes: i64,
    /// Number of lines of sales and credit notes.
    #[schema(example = 312)]
    lines: i64,
    /// Sales plus credit notes, which are negative.
    revenue: Revenue,
}

/// An amount of money.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revenue {
    /// Minor units, signed.
    #[schema(example = 1999)]
    amount: i64,
    /// ISO 4217.
    #[schema(example = "GBP")]
    currency: &'static str,
}

/// The errors of the query.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is only documented")]
enum SeriesProblems {
    /// UNKNOWN_JOB, UNKNOWN_WINDOW, INVALID_TIME, INVALID_LIMIT, INVALID_CURSOR or UNKNOWN_OR_INVALID_PARAMETER.
    #[response(status = 400)]
    Refused(Problem),
    /// JOB_NOT_READY: the job is still reading the journal's history; JOB_STOPPED: the job has stopped at an event that
    /// it can't add up.
    #[response(status = 503)]
    Unavailable(Problem),
}

impl Series {
    /// Changes the windows. Only the job calls this.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Windows) -> T) -> T {
        change(&mut self.write().windows)
    }

    /// Number of windows of a size.
    pub(crate) fn count(&self, window: Window) -> usize {
        self.read().windows.count(window)
    }

    /// The offsets before which the windows include all records.
    pub(crate) fn applied(&self) -> &Progress {
        &self.applied
    }

    /// Answers queries from now on.
    pub(crate) fn caught_up(&self) {
        self.write().phase = Phase::Following;
    }

    /// Rejects queries from now on, for this reason.
    pub(crate) fn stop(&self, reason: String) {
        self.write().phase = Phase::Stopped(reason);
    }

    fn query(&self, selection: &Selection) -> Result<Vec<RevenueByCountry>, Problem> {
        let shared = self.read();
        let unavailable =
            |code, detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        match &shared.phase {
            Phase::Following => Ok(shared.windows.series(selection)),
            Phase::CatchingUp => {
                let detail = format!(
                    "job {JOB} is still reading the journal's history; send the request again later"
                );
                Err(unavailable("JOB_NOT_READY", detail))
            }
            Phase::Stopped(reason) => {
                let detail = format!("job {JOB} has stopped, report it to the operator: {reason}");
                Err(unavailable("JOB_STOPPED", detail))
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.state.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.state.write().expect("no holder of this lock panics")
    }
}

/// The query's route. A query waits until the windows include the positions in its request, for `wait_max` at most. The
/// windows are in this process's memory, so only the job of this process advances them.
pub fn routes(series: Series, wait_max: Duration) -> OpenApiRouter {
    let layer = PositionLayer::new(View {
        reader: JOB,
        progress: series.applied().clone(),
        journals: CONTEXTS.iter().map(|context| context.topic).collect(),
        stored: None,
        wait_max,
    });
    let mut routes = OpenApiRouter::new()
        .routes(routes!(get_series))
        .with_state(series);
    document_positions(routes.get_openapi_mut());
    routes.layer(from_fn_with_state(layer, wait_for_positions))
}

/// A stream job's windows, ordered by start, country and currency.
///
/// The values are the current ones of the node that answers; the aggregate topic has the same values
/// shortly after.
#[utoipa::path(get, path = "/analytics/series", tag = "analytics",
    params(SeriesParameters), responses(
        (status = 200, description = "The selected windows; the list may be empty.", body = SeriesAnswer),
        SeriesProblems))]
async fn get_series(
    State(series): State<Series>,
    ApiQuery(parameters): ApiQuery<SeriesParameters>,
) -> Result<Json<SeriesAnswer>, Problem> {
    let (mut selection, limit) = parameters.selection()?;
    let (window, list) = (selection.window, list(&selection));
    // One window beyond the limit shows whether there is a next page.
    selection.count_max = limit + 1;
    let mut results = series.query(&selection)?;
    let is_last = results.len() <= limit;
    results.truncate(limit);
    let last = results.last().filter(|_| !is_last);
    let next_cursor = last.map(|result| format!("{list}{}", cursor_after(result)));
    Ok(Json(SeriesAnswer {
        job: JOB,
        window: window.name(),
        series: results.into_iter().map(WindowAnswer::from).collect(),
        next_cursor,
    }))
}

impl SeriesParameters {
    /// The selection and the limit; an error names the invalid parameter.
    fn selection(self) -> Result<(Selection, usize), Problem> {
        if self.job != JOB {
            return Err(invalid(
                "UNKNOWN_JOB",
                format!("unknown job {:?}: use {JOB}", self.job),
            ));
        }
        let window = Window::named(&self.window).ok_or_else(|| {
            let names = Window::ALL.map(Window::name).join(" or ");
            invalid(
                "UNKNOWN_WINDOW",
                format!("unknown window {:?}: use {names}", self.window),
            )
        })?;
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(invalid(
                "INVALID_LIMIT",
                format!("invalid limit {limit}: use 1 to {LIMIT_MAX}"),
            ));
        }
        let mut selection = Selection {
            window,
            country: self.country.as_deref().map(normalised),
            from: self.from.as_deref().map(time).transpose()?,
            to: self.to.as_deref().map(time).transpose()?,
            after: None,
            count_max: limit,
        };
        if let Some(text) = &self.cursor {
            let of_list = text.strip_prefix(&list(&selection));
            selection.after = Some(cursor(of_list.ok_or_else(invalid_cursor)?)?);
        }
        Ok((selection, limit))
    }
}

fn invalid(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

fn time(text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|error| invalid("INVALID_TIME", error.to_string()))
}

/// The beginning of each cursor of a list. A cursor is valid only with the filters of its page, because with other
/// filters it would skip windows.
fn list(selection: &Selection) -> String {
    let Selection {
        window,
        country,
        from,
        to,
        after: _,
        count_max: _,
    } = selection;
    let hash = ContentHash::of(&(window.name(), country, from, to));
    hex::encode([&[LAYOUT], &hash.as_bytes()[..LIST_BYTES]].concat())
}

/// The cursor of the page after a window. Opaque to clients.
fn cursor_after(result: &RevenueByCountry) -> String {
    let (start, country) = (result.window_start.0, &result.country);
    hex::encode(format!("{start}/{country}/{}", result.currency))
}

/// The window start, country and currency in a cursor.
fn cursor(text: &str) -> Result<(Timestamp, String, Currency), Problem> {
    let read = || {
        let plain = String::from_utf8(hex::decode(text).ok()?).ok()?;
        // A country may contain a slash, the other fields can't.
        let (start, rest) = plain.split_once('/')?;
        let (country, currency) = rest.rsplit_once('/')?;
        let start = Timestamp(start.parse().ok()?);
        Some((start, country.to_owned(), Currency::parse(currency).ok()?))
    };
    read().ok_or_else(invalid_cursor)
}

fn invalid_cursor() -> Problem {
    let detail = "invalid cursor: pass the next_cursor of the previous page unchanged, with the same filters";
    invalid("INVALID_CURSOR", detail.to_owned())
}

impl From<RevenueByCountry> for WindowAnswer {
    fn from(result: RevenueByCountry) -> Self {
        let currency = result.currency.code();
        Self {
            window_start: result.window_start.to_string(),
            window_end: result.window_end.to_string(),
            country: result.country,
            currency,
            orders: result.orders,
            credit_notes: result.credit_notes,
            lines: result.lines,
            revenue: Revenue {
                amount: result.revenue,
                currency,
            },
        }
    }
}

#[cfg(test)]
mod tests;
