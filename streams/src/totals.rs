//! Totals of the aggregate topics: sums over the last record of every key, read from the brokers.
//!
//! The totals do not come from the job, so they are those that any other consumer gets. A window whose last
//! publication is older than the topic's retention is missing from the topic and from the sum; a start of
//! the job publishes every window.

use crate::{window::Window, windows::WINDOWS_MAX};
use bytes::Bytes;
use kafka::{
    Admin, BoundedReadError, BoundedReader, CodecError, Decoder, KafkaSettings, Record, Registry,
};
use schemas::{Currency, aggregates::RevenueByCountry};
use std::collections::HashMap;

/// Sums over sales and credit notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Sales.
    pub sales: i64,
    /// Credit notes.
    pub credit_notes: i64,
    /// Lines of sales and credit notes.
    pub lines: i64,
    /// Minor units: sales plus credit notes, which are negative.
    pub total_minor: i64,
}

/// The sums of each of the job's topics, which must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicTotals {
    /// Sums over the windows of an hour.
    pub hour: Totals,
    /// Sums over the windows of a day.
    pub day: Totals,
}

/// Why the totals can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The topic can't be read to its end.
    #[error(transparent)]
    Read(#[from] BoundedReadError),
    /// A record that the job does not write.
    #[error("{topic}/{partition}@{offset}: {reason}")]
    Record {
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The reason.
        reason: String,
    },
    /// The registry does not answer, or the bytes do not match the schema.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Codec {
        /// The topic.
        topic: &'static str,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The decoder's error.
        source: CodecError,
    },
    /// The topic has more keys than the job can write.
    #[error("topic {topic} has more than {WINDOWS_MAX} keys")]
    TooMany {
        /// The topic.
        topic: &'static str,
    },
    /// Windows in several currencies can't be summed.
    #[error("topic {topic} has windows in {first} and in {second}")]
    Currencies {
        /// The topic.
        topic: &'static str,
        /// One currency.
        first: Currency,
        /// Another currency.
        second: Currency,
    },
    /// A sum overflows 64 bits.
    #[error("topic {topic}: a sum overflows 64 bits")]
    Overflow {
        /// The topic.
        topic: &'static str,
    },
}

/// Adds up both topics of the job, from their first offsets to their current end offsets.
pub async fn topic_totals(
    settings: &KafkaSettings,
    registry: &Registry,
    admin: &Admin,
) -> Result<TopicTotals, TotalsError> {
    Ok(TopicTotals {
        hour: totals_of(Window::Hour, settings, registry, admin).await?,
        day: totals_of(Window::Day, settings, registry, admin).await?,
    })
}

async fn totals_of(
    window: Window,
    settings: &KafkaSettings,
    registry: &Registry,
    admin: &Admin,
) -> Result<Totals, TotalsError> {
    let topic = window.topic();
    let mut latest = Latest::new(topic.name);
    let decoder = Decoder::new(registry.clone());
    let mut reader = BoundedReader::open(settings, admin, "totals", topic.name).await?;
    while let Some(records) = reader.next().await? {
        for record in records {
            latest.add(&record, &decoder).await?;
        }
    }
    latest.totals()
}

/// The last value of every key.
struct Latest {
    topic: &'static str,
    values: HashMap<Bytes, RevenueByCountry>,
}

impl Latest {
    fn new(topic: &'static str) -> Self {
        Self {
            topic,
            values: HashMap::new(),
        }
    }

    async fn add(&mut self, record: &Record, decoder: &Decoder) -> Result<(), TotalsError> {
        let (topic, partition, offset) = (self.topic, record.partition, record.offset);
        let invalid = |reason: &str| TotalsError::Record {
            topic,
            partition,
            offset,
            reason: reason.to_owned(),
        };
        let (Some(key), Some(value)) = (&record.key, &record.value) else {
            return Err(invalid("the record has no key or no value"));
        };
        let value: RevenueByCountry =
            decoder
                .decode(value)
                .await
                .map_err(|source| TotalsError::Codec {
                    topic,
                    partition,
                    offset,
                    source,
                })?;
        if value.key().as_bytes() != key {
            return Err(invalid("the record's key is not the key of its window"));
        }
        self.insert(key.clone(), value)
    }

    fn insert(&mut self, key: Bytes, value: RevenueByCountry) -> Result<(), TotalsError> {
        self.values.insert(key, value);
        match self.values.len() > WINDOWS_MAX {
            true => Err(TotalsError::TooMany { topic: self.topic }),
            false => Ok(()),
        }
    }

    fn totals(&self) -> Result<Totals, TotalsError> {
        let topic = self.topic;
        let mut totals = Totals::default();
        let mut currency = None;
        for value in self.values.values() {
            let first = *currency.get_or_insert(value.currency);
            if first != value.currency {
                return Err(TotalsError::Currencies {
                    topic,
                    first,
                    second: value.currency,
                });
            }
            totals = totals
                .checked_add(value)
                .ok_or(TotalsError::Overflow { topic })?;
        }
        Ok(totals)
    }
}

impl Totals {
    fn checked_add(self, window: &RevenueByCountry) -> Option<Self> {
        let invoices = window.orders.checked_add(window.credit_notes)?;
        Some(Self {
            invoices: self.invoices.checked_add(invoices)?,
            sales: self.sales.checked_add(window.orders)?,
            credit_notes: self.credit_notes.checked_add(window.credit_notes)?,
            lines: self.lines.checked_add(window.lines)?,
            total_minor: self.total_minor.checked_add(window.revenue)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Timestamp;

    fn window(country: &str, orders: i64, revenue: i64) -> RevenueByCountry {
        RevenueByCountry {
            window_start: Timestamp(0),
            window_end: Timestamp(Window::Day.width_us()),
            country: country.into(),
            currency: Currency::GBP,
            orders,
            credit_notes: 1,
            lines: 10,
            revenue,
        }
    }

    fn latest(values: &[RevenueByCountry]) -> Latest {
        let mut latest = Latest::new("aggregates.revenue_by_country_day");
        for value in values {
            let key = Bytes::from(value.key());
            latest.insert(key, value.clone()).unwrap();
        }
        latest
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        let values = [
            window("France", 1, 100),
            window("EIRE", 2, 30),
            window("France", 4, -7),
        ];
        assert_eq!(
            latest(&values).totals().unwrap(),
            Totals {
                invoices: 8,
                sales: 6,
                credit_notes: 2,
                lines: 20,
                total_minor: 23
            }
        );
        assert_eq!(latest(&[]).totals().unwrap(), Totals::default());
    }

    #[test]
    fn mixed_currencies_and_overflows_are_errors() {
        let euros = RevenueByCountry {
            currency: Currency::parse("EUR").unwrap(),
            ..window("EIRE", 1, 1)
        };
        for pounds in ["France", "EIRE"] {
            let mixed = latest(&[window(pounds, 1, 1), euros.clone()]).totals();
            assert!(matches!(mixed, Err(TotalsError::Currencies { .. })));
        }
        let large = latest(&[window("France", 1, i64::MAX), window("EIRE", 1, 1)]).totals();
        assert!(matches!(large, Err(TotalsError::Overflow { .. })));
    }
}
