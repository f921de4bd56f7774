//! The windowed-aggregation stream processor, as far as it goes: one job, `revenue_by_country`.
//!
//! The job reads the valid events of `journal.orders`, adds them up by country in tumbling windows of
//! an hour and of a day (UTC, by the events' own time), and publishes the windows to an aggregate
//! topic each. Each currency has windows of its own, for nothing here converts money. The latest
//! record of a key holds the window's whole value, so records may repeat.
//!
//! What it does not promise:
//! - No state is kept: a start reads the journal from offset 0. Until it has come to where the log
//!   ended at the start nothing is published, for a half-read window would be below what an earlier
//!   run published; then every window is published once, and from there on those that change.
//! - There are no transactions and it is not exactly-once: a record may be published again, and two
//!   processes that run the job publish over each other.
//! - A window never closes. All stay in memory, up to [`windows::WINDOWS_MAX`].
//! - `GET /api/v1/analytics/series` answers from the job's memory, so only the process that runs the
//!   job answers it, and it may be ahead of the topics by one publication.

pub mod job;
pub mod metrics;
mod output;
mod reading;
pub mod series;
pub mod totals;
pub mod window;
pub mod windows;

pub use job::Job;
pub use series::{Series, routes};
pub use totals::{TopicTotals, Totals, topic_totals};
pub use window::Window;
pub use windows::Windows;
