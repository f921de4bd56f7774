//! `GET /api/v1/analytics/series`: the job's windows, from its memory.

use crate::{
    job::JOB,
    window::Window,
    windows::{Selection, Windows},
};
use axum::{Json, extract::State, http::StatusCode};
use schemas::{Currency, Timestamp, aggregates::RevenueByCountry};
use serde::{Deserialize, Serialize};
use service::{extract::ApiQuery, problem::Problem};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Most windows in one answer.
pub const LIMIT_MAX: usize = 1_000;
/// Windows in one answer unless the query says otherwise.
pub const LIMIT_DEFAULT: usize = 100;

/// The job's windows, shared by the job, which changes them, and by queries.
#[derive(Debug, Clone, Default)]
pub struct Series {
    state: Arc<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    windows: Windows,
    phase: Phase,
}

/// Whether the windows are of use to a reader.
#[derive(Debug, Default)]
enum Phase {
    /// They hold only a part of the journal's history.
    #[default]
    CatchingUp,
    /// They follow the journal.
    Following,
    /// They stand still for good, for this reason.
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
    /// The size of the windows: `hour` or `day`, of UTC.
    #[param(example = "day")]
    window: String,
    /// Only this country's, as the sales name it.
    #[param(example = "France")]
    country: Option<String>,
    /// Only windows that begin at this time (RFC 3339) or later.
    #[param(example = "2010-12-01T00:00:00Z")]
    from: Option<String>,
    /// Only windows that begin before this time (RFC 3339).
    #[param(example = "2011-01-01T00:00:00Z")]
    to: Option<String>,
    /// Most windows in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// Windows by start, then by country, then by currency.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesAnswer {
    /// The stream job.
    #[schema(example = "revenue_by_country")]
    job: &'static str,
    /// The size of the windows.
    #[schema(example = "day")]
    window: &'static str,
    /// At most `limit` of them.
    series: Vec<WindowAnswer>,
    /// Leads to the next ones; `null` at the end.
    next_cursor: Option<String>,
}

/// One country's sales in one currency in one window.
#[derive(Debug, Serialize, ToSchema)]
pub struct WindowAnswer {
    /// Inclusive.
    #[schema(example = "2010-12-01T00:00:00Z")]
    window_start: String,
    /// Exclusive.
    #[schema(example = "2010-12-02T00:00:00Z")]
    window_end: String,
    /// As the sales name it.
    #[schema(example = "France")]
    country: String,
    /// The currency of `revenue`, ISO 4217.
    #[schema(example = "GBP")]
    currency: &'static str,
    /// Number of sales.
    orders: i64,
    /// Number of credit notes.
    credit_notes: i64,
    /// Lines of both.
    lines: i64,
    /// Sales plus credit notes, which are below zero.
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

impl Series {
    /// Changes the windows. The job alone does.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Windows) -> T) -> T {
        change(&mut self.write().windows)
    }

    /// How many windows of a size there are.
    pub(crate) fn count(&self, window: Window) -> usize {
        self.read().windows.count(window)
    }

    /// From now on queries are answered.
    pub(crate) fn caught_up(&self) {
        self.write().phase = Phase::Following;
    }

    /// From now on queries are refused.
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
                let detail = format!("job {JOB} is still reading the journal's history");
                Err(unavailable("JOB_NOT_READY", detail))
            }
            Phase::Stopped(reason) => {
                let detail = format!("job {JOB} has stopped: {reason}");
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

/// The query's route.
pub fn routes(series: Series) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(get_series))
        .with_state(series)
}

/// A stream job's windows, by start, then by country, then by currency.
///
/// They are those of the process that answers, as of now: the aggregate topic has the same values
/// shortly after.
#[utoipa::path(get, path = "/analytics/series", tag = "analytics",
    params(SeriesParameters), responses(
        (status = 200, description = "The windows asked for; perhaps none.", body = SeriesAnswer),
        (status = 400, description = "UNKNOWN_JOB, UNKNOWN_WINDOW, INVALID_TIME, INVALID_LIMIT, \
            INVALID_CURSOR or UNKNOWN_OR_INVALID_PARAMETER.",
            body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "JOB_NOT_READY: the job has not read all history yet; \
            JOB_STOPPED: it met an event that it can't add up.",
            body = Problem, content_type = "application/problem+json")))]
async fn get_series(
    State(series): State<Series>,
    ApiQuery(parameters): ApiQuery<SeriesParameters>,
) -> Result<Json<SeriesAnswer>, Problem> {
    let (mut selection, limit) = parameters.selection()?;
    let window = selection.window;
    // One more than asked for tells whether there is a next page.
    selection.count_max = limit + 1;
    let mut results = series.query(&selection)?;
    let is_last = results.len() <= limit;
    results.truncate(limit);
    let next_cursor = results.last().filter(|_| !is_last).map(cursor_after);
    Ok(Json(SeriesAnswer {
        job: JOB,
        window: window.name(),
        series: results.into_iter().map(WindowAnswer::from).collect(),
        next_cursor,
    }))
}

impl SeriesParameters {
    /// What is asked for, and the limit.
    fn selection(self) -> Result<(Selection, usize), Problem> {
        if self.job != JOB {
            return Err(refused(
                "UNKNOWN_JOB",
                format!("there is no job {:?}; there is {JOB}", self.job),
            ));
        }
        let window = Window::named(&self.window).ok_or_else(|| {
            let names = Window::ALL.map(Window::name).join(" and ");
            refused(
                "UNKNOWN_WINDOW",
                format!("there is no window {:?}; there are {names}", self.window),
            )
        })?;
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(refused(
                "INVALID_LIMIT",
                format!("limit is 1 to {LIMIT_MAX}, not {limit}"),
            ));
        }
        let selection = Selection {
            window,
            country: self.country,
            from: self.from.as_deref().map(time).transpose()?,
            to: self.to.as_deref().map(time).transpose()?,
            after: self.cursor.as_deref().map(cursor).transpose()?,
            count_max: limit,
        };
        Ok((selection, limit))
    }
}

fn refused(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code, detail)
}

fn time(text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|error| refused("INVALID_TIME", error.to_string()))
}

/// An opaque text for "after this window".
fn cursor_after(result: &RevenueByCountry) -> String {
    let (start, country) = (result.window_start.0, &result.country);
    hex::encode(format!("{start}/{country}/{}", result.currency))
}

/// The window start, country and currency that a cursor holds.
fn cursor(text: &str) -> Result<(Timestamp, String, Currency), Problem> {
    let read = || {
        let plain = String::from_utf8(hex::decode(text).ok()?).ok()?;
        // A country may hold a slash, the others can't.
        let (start, rest) = plain.split_once('/')?;
        let (country, currency) = rest.rsplit_once('/')?;
        let start = Timestamp(start.parse().ok()?);
        Some((start, country.to_owned(), Currency::parse(currency).ok()?))
    };
    read().ok_or_else(|| {
        let detail = "cursor is not the next_cursor of an earlier answer".to_owned();
        refused("INVALID_CURSOR", detail)
    })
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
