//! What the aggregate topics add up to: the last record of every key, read back from the brokers.
//!
//! It asks nothing of the job, so it shows what any other consumer sees. A window that was last
//! published longer ago than the topic's retention is not in the topic any more, and not in the sum;
//! a start of the job publishes every window again.

use crate::{window::Window, windows::WINDOWS_MAX};
use bytes::Bytes;
use kafka::{
    Admin, BatchConsumer, CodecError, ConsumerError, Decoder, KafkaSettings, Record, Registry,
    admin::AdminError,
};
use schemas::{Currency, aggregates::RevenueByCountry};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// Longest wait for the next record of a topic that has not come to its end.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What one place holds of sales and credit notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Sales.
    pub sales: i64,
    /// Credit notes.
    pub credit_notes: i64,
    /// Lines of both.
    pub lines: i64,
    /// Minor units: sales plus credit notes, which are below zero.
    pub total_minor: i64,
}

/// The same sums from each of the job's topics: they must not differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicTotals {
    /// From the windows of an hour.
    pub hour: Totals,
    /// From the windows of a day.
    pub day: Totals,
}

/// Why a topic can't be added up.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The topic can't be measured.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The topic can't be read.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// Records that must be there did not come.
    #[error(
        "topic {topic}: no record came for {} s, before the end was reached{}",
        SILENCE_MAX.as_secs(),
        trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default()
    )]
    Silence {
        /// The topic.
        topic: &'static str,
        /// The last trouble that was waited out in vain.
        trouble: Option<ConsumerError>,
    },
    /// A record that the job did not write, or not so.
    #[error("{topic}/{partition}@{offset}: {reason}")]
    Record {
        /// The topic.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry, or bytes that don't fit the schema.
    #[error("{topic}/{partition}@{offset}: {source}")]
    Codec {
        /// The topic.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What is wrong.
        source: CodecError,
    },
    /// More keys than the job can have written.
    #[error("topic {topic} has more than {WINDOWS_MAX} keys")]
    TooMany {
        /// The topic.
        topic: &'static str,
    },
    /// Windows in several currencies have no sum.
    #[error("topic {topic} has windows in {first} and in {second}")]
    Currencies {
        /// The topic.
        topic: &'static str,
        /// One of them.
        first: Currency,
        /// Another.
        second: Currency,
    },
    /// Beyond 64 bits.
    #[error("topic {topic} adds up to more than 64 bits can hold")]
    Overflow {
        /// The topic.
        topic: &'static str,
    },
}

/// Adds up both topics of the job, from their beginning to their end as of now.
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
    let (mut starts, mut ends) = (Vec::new(), BTreeMap::new());
    for partition in 0..topic.partitions {
        let watermarks = admin.watermarks(topic.name, partition).await?;
        if watermarks.low < watermarks.high {
            starts.push((partition, watermarks.low));
            ends.insert(partition, watermarks.high);
        }
    }
    let mut latest = Latest::new(topic.name);
    if ends.is_empty() {
        return latest.totals();
    }
    let decoder = Decoder::new(registry.clone());
    let mut consumer = BatchConsumer::start(settings, "totals", topic.name, &starts)?;
    while !ends.is_empty() {
        for record in next(&mut consumer, topic.name).await? {
            latest.take(&record, &decoder).await?;
            if ends
                .get(&record.partition)
                .is_some_and(|end| record.offset + 1 >= *end)
            {
                ends.remove(&record.partition);
            }
        }
    }
    latest.totals()
}

/// The next records; trouble is waited out as long as silence is.
async fn next(
    consumer: &mut BatchConsumer,
    topic: &'static str,
) -> Result<Vec<Record>, TotalsError> {
    let deadline = tokio::time::Instant::now() + SILENCE_MAX;
    let mut trouble = None;
    loop {
        match tokio::time::timeout_at(deadline, consumer.next()).await {
            Ok(Ok(records)) => return Ok(records),
            Ok(Err(error)) if error.is_transient() => trouble = Some(error),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(TotalsError::Silence { topic, trouble }),
        }
    }
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

    async fn take(&mut self, record: &Record, decoder: &Decoder) -> Result<(), TotalsError> {
        let (topic, partition, offset) = (self.topic, record.partition, record.offset);
        let refused = |reason: &str| TotalsError::Record {
            topic,
            partition,
            offset,
            reason: reason.to_owned(),
        };
        let (Some(key), Some(value)) = (&record.key, &record.value) else {
            return Err(refused("the record lacks its key or its value"));
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
            return Err(refused("the record's key is not its window's"));
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
    fn what_has_no_sum_is_refused() {
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
