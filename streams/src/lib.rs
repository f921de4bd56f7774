//! The windowed-aggregation stream processor. It has one job, `revenue_by_country`.
//!
//! The job reads the valid events of `journal.orders`, adds them up by country in tumbling windows of
//! an hour and of a day (UTC, by event time), and publishes the windows of each size to an aggregate
//! topic. Each currency has its own windows, because the job does not convert money. The latest record of
//! a key has the window's whole value, so records may repeat.
//!
//! Limits:
//! - The job keeps no state: it reads the journal from offset 0 at every start. It publishes nothing until
//!   it has reached the end offsets measured at the start, because a half-read window would have a lower
//!   value than an earlier run published. Then it publishes every window once, and afterwards only changed
//!   windows.
//! - There are no transactions, and delivery is at least once: a record may be published twice, and two
//!   nodes that run the job overwrite each other's results.
//! - A window never closes. All windows stay in memory, up to [`windows::WINDOWS_MAX`].
//! - `GET /api/v1/analytics/series` answers from the job's memory, so only the node that runs the job
//!   answers it, and it may be ahead of the topics by one publication.

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
pub use totals::{TopicEnds, TopicTotals, topic_ends, topic_totals};
pub use window::{JOB, Window};
pub use windows::Windows;
