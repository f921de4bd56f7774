//! Records of the aggregate topics: the results of stream jobs.

use crate::{money::Currency, time::Timestamp};
use serde::{Deserialize, Serialize};

/// The Avro schema of [`RevenueByCountry`], as JSON text.
pub const REVENUE_BY_COUNTRY_AVSC: &str = include_str!("../avro/revenue_by_country.avsc");

/// Sales of one country in one currency in one window of event time. The latest record of a key has the
/// window's whole value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevenueByCountry {
    /// Inclusive.
    pub window_start: Timestamp,
    /// Exclusive.
    pub window_end: Timestamp,
    /// The country's name, as in the events.
    pub country: String,
    /// The currency of `revenue`.
    pub currency: Currency,
    /// Number of sales.
    pub orders: i64,
    /// Number of credit notes.
    pub credit_notes: i64,
    /// Lines of sales and of credit notes.
    pub lines: i64,
    /// Minor units: sales plus credit notes, which are below zero.
    pub revenue: i64,
}

impl RevenueByCountry {
    /// The record's key: `<window start>/<country>/<currency>`. A country may contain a `/`, the other parts
    /// can't. The key is plain text, because an Avro key would change with its schema's id.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.window_start, self.country, self.currency)
    }
}
