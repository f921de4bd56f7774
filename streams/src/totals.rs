//! Totals of the aggregate topics: sums over the last record of every key, read from the brokers.
//!
//! The totals do not come from the job, so any other consumer computes the same ones. A window whose last
//! publication is older than the topic's retention is missing from the topic and from the sum; a start of
//! the job publishes every window.

use crate::{window::Window, windows::WINDOWS_MAX};
use bytes::Bytes;
use kafka::{
    Admin, BoundedReadError, BoundedReader, CodecError, Decoder, Fetch, KafkaSettings, Record,
    Registry, Span, admin::AdminError,
};
use schemas::{
    Currency, Timestamp, Totals, TotalsByCurrency, aggregates::RevenueByCountry, totals::Overflow,
};
use std::collections::{BTreeMap, HashMap};

/// Maximum number of foreign records that are described one by one.
pub const FOREIGN_SHOWN_MAX: usize = 20;

/// Offsets of the aggregate topics, by topic and partition.
pub type TopicEnds = BTreeMap<(&'static str, i32), i64>;

/// The sums of one of the job's topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicTotals {
    /// Sums over the last values of all windows.
    pub totals: TotalsByCurrency,
    /// Descriptions of the first [`FOREIGN_SHOWN_MAX`] records that the job does not write.
    pub foreign: Vec<String>,
    /// Number of records that the job does not write.
    pub foreign_count: u64,
}

/// The reason why the totals can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The topic can't be measured.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The topic can't be read to its end.
    #[error(transparent)]
    Read(#[from] BoundedReadError),
    /// The registry does not answer.
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
    /// The last record of a window's key has no readable value.
    #[error("the last value of window {key} can't be read: {record}")]
    Window {
        /// The key.
        key: String,
        /// The record and the reason.
        record: String,
    },
    /// The topic has more keys than the job can write.
    #[error("topic {topic} has more than {WINDOWS_MAX} keys")]
    TooMany {
        /// The topic.
        topic: &'static str,
    },
    /// A sum overflows 64 bits.
    #[error("topic {topic}: {source}")]
    Overflow {
        /// The topic.
        topic: &'static str,
        /// The error.
        source: Overflow,
    },
}

/// The current ends of the job's topics.
///
/// # Errors
/// [`AdminError`]: Kafka does not answer, or a topic does not exist.
pub async fn topic_ends(admin: &Admin) -> Result<TopicEnds, AdminError> {
    let mut ends = TopicEnds::new();
    for window in Window::ALL {
        let topic = window.topic().name;
        for partition in 0..admin.partitions(topic).await? {
            let span = Span::measure(admin, topic, partition).await?;
            ends.insert((topic, partition), span.end);
        }
    }
    Ok(ends)
}

/// Adds up the topic of one window size, from its first offsets to the given ends.
///
/// # Errors
/// [`TotalsError`]. A record that the job does not write is not an error, unless it is the last record of a window's
/// key.
pub async fn topic_totals(
    window: Window,
    ends: &TopicEnds,
    settings: &KafkaSettings,
    registry: &Registry,
    admin: &Admin,
) -> Result<TopicTotals, TotalsError> {
    let topic = window.topic();
    let mut spans = Vec::new();
    for partition in 0..admin.partitions(topic.name).await? {
        let span = Span::measure(admin, topic.name, partition).await?;
        let end = ends.get(&(topic.name, partition)).copied();
        spans.push(Span {
            end: end.unwrap_or(span.end).min(span.end),
            ..span
        });
    }
    let mut latest = Latest::new(topic.name, i32::try_from(spans.len()).unwrap_or(i32::MAX));
    let decoder = Decoder::new(registry.clone());
    let mut reader = BoundedReader::start(settings, "totals", topic.name, &spans, Fetch::Ahead)?;
    while let Some(records) = reader.next().await? {
        for record in records {
            latest.add(&record, &decoder).await?;
        }
    }
    latest.totals()
}

/// The last value of every key. Only last values count: they replace all earlier ones.
struct Latest {
    topic: &'static str,
    partitions: i32,
    /// The error is the description of a last record that the job does not write.
    values: HashMap<Bytes, Result<RevenueByCountry, String>>,
    foreign: Vec<String>,
    foreign_count: u64,
}

impl Latest {
    fn new(topic: &'static str, partitions: i32) -> Self {
        Self {
            topic,
            partitions,
            values: HashMap::new(),
            foreign: Vec::new(),
            foreign_count: 0,
        }
    }

    async fn add(&mut self, record: &Record, decoder: &Decoder) -> Result<(), TotalsError> {
        let value = match &record.value {
            Some(value) => match decoder.decode(value).await {
                Err(source @ CodecError::Registry(_)) => {
                    return Err(TotalsError::Codec {
                        topic: self.topic,
                        partition: record.partition,
                        offset: record.offset,
                        source,
                    });
                }
                decoded => Some(decoded.map_err(|error| error.to_string())),
            },
            None => None,
        };
        self.insert(record.partition, record.offset, record.key.as_ref(), value)
    }

    /// Adds a record with its decoded value, or with the reason why it can't be decoded; `None` is a tombstone.
    fn insert(
        &mut self,
        partition: i32,
        offset: i64,
        key: Option<&Bytes>,
        value: Option<Result<RevenueByCountry, String>>,
    ) -> Result<(), TotalsError> {
        let is_tombstone = value.is_none();
        let Some(key) = key else {
            self.describe(partition, offset, "the record has no key");
            return Ok(());
        };
        if kafka::partition::of_key(key, self.partitions) != partition {
            // Consumers look for the key in its own partition only.
            let reason = "the record is not in the partition of its key";
            self.describe(partition, offset, reason);
            return Ok(());
        }
        let value = match value {
            Some(Ok(value)) if value.key().as_bytes() == key => Ok(value),
            Some(Ok(_)) => Err("the record's key is not the key of its window".to_owned()),
            Some(Err(reason)) => Err(reason),
            None => Err("the record has no value".to_owned()),
        };
        let value = value.map_err(|reason| self.describe(partition, offset, &reason));
        if is_tombstone {
            self.values.remove(key);
        } else if value.is_ok() || is_window_key(key) {
            self.values.insert(key.clone(), value);
        }
        match self.values.len() > WINDOWS_MAX {
            true => Err(TotalsError::TooMany { topic: self.topic }),
            false => Ok(()),
        }
    }

    /// Counts and describes a record that the job does not write.
    fn describe(&mut self, partition: i32, offset: i64, reason: &str) -> String {
        let description = format!("{}/{partition}@{offset}: {reason}", self.topic);
        self.foreign_count += 1;
        if self.foreign.len() < FOREIGN_SHOWN_MAX {
            self.foreign.push(description.clone());
        }
        description
    }

    fn totals(self) -> Result<TopicTotals, TotalsError> {
        let topic = self.topic;
        let overflow = |source| TotalsError::Overflow { topic, source };
        let mut totals = TotalsByCurrency::default();
        for (key, value) in self.values {
            let window = value.map_err(|record| TotalsError::Window {
                key: String::from_utf8_lossy(&key).into_owned(),
                record,
            })?;
            let invoices = window.orders.checked_add(window.credit_notes);
            let of_window = Totals {
                invoices: invoices.ok_or(Overflow).map_err(overflow)?,
                sales: window.orders,
                credit_notes: window.credit_notes,
                lines: window.lines,
                total_minor: window.revenue,
            };
            totals.add(window.currency, of_window).map_err(overflow)?;
        }
        Ok(TopicTotals {
            totals,
            foreign: self.foreign,
            foreign_count: self.foreign_count,
        })
    }
}

/// Whether a key has the form of [`RevenueByCountry::key`]. A record with another key is not a window.
fn is_window_key(key: &[u8]) -> bool {
    let parts = str::from_utf8(key).ok().and_then(|key| {
        let (start, rest) = key.split_once('/')?;
        let (_, currency) = rest.rsplit_once('/')?;
        Some((start, currency))
    });
    parts.is_some_and(|(start, currency)| {
        Timestamp::parse(start).is_ok() && Currency::parse(currency).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "aggregates.revenue_by_country_day";
    const PARTITIONS: i32 = 4;

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

    fn partition_of(key: &Bytes) -> i32 {
        kafka::partition::of_key(key, PARTITIONS)
    }

    /// The windows in the order of their offsets, from 0.
    fn latest(values: &[RevenueByCountry]) -> Latest {
        let mut latest = Latest::new(TOPIC, PARTITIONS);
        for (offset, value) in (0..).zip(values) {
            let key = Bytes::from(value.key());
            let value = Some(Ok(value.clone()));
            latest
                .insert(partition_of(&key), offset, Some(&key), value)
                .unwrap();
        }
        latest
    }

    /// Adds a record at offset 90 in its key's partition.
    fn with(
        mut latest: Latest,
        key: &str,
        value: Option<Result<RevenueByCountry, &str>>,
    ) -> Latest {
        let key = Bytes::from(key.to_owned());
        let value = value.map(|value| value.map_err(str::to_owned));
        latest
            .insert(partition_of(&key), 90, Some(&key), value)
            .unwrap();
        latest
    }

    #[test]
    fn the_last_value_of_a_key_counts_in_its_currency() {
        let euro = Currency::parse("EUR").unwrap();
        let euros = RevenueByCountry {
            currency: euro,
            ..window("EIRE", 1, 5)
        };
        let values = [
            window("France", 1, 100),
            window("EIRE", 2, 30),
            euros,
            window("France", 4, -7),
        ];
        let found = latest(&values).totals().unwrap();
        let pounds = Totals {
            invoices: 8,
            sales: 6,
            credit_notes: 2,
            lines: 20,
            total_minor: 23,
        };
        let euros = Totals {
            invoices: 2,
            sales: 1,
            credit_notes: 1,
            lines: 10,
            total_minor: 5,
        };
        assert_eq!(
            found.totals.iter().collect::<Vec<_>>(),
            [(euro, euros), (Currency::GBP, pounds)]
        );
        assert_eq!((found.foreign_count, found.foreign.len()), (0, 0));
        assert_eq!(latest(&[]).totals().unwrap(), TopicTotals::default());
    }

    #[test]
    fn a_foreign_record_before_the_last_value_of_its_key_is_described() {
        let france = window("France", 1, 100);
        let key = france.key();
        let junk = with(latest(&[]), &key, Some(Err("not Avro")));
        let replaced = with(junk, &key, Some(Ok(france)));
        let found = replaced.totals().unwrap();
        assert_eq!(found.totals.of(Currency::GBP).total_minor, 100);
        let partition = partition_of(&Bytes::from(key));
        assert_eq!(found.foreign, [format!("{TOPIC}/{partition}@90: not Avro")]);
    }

    #[test]
    fn a_foreign_record_that_is_the_last_of_a_windows_key_is_an_error() {
        let france = window("France", 1, 100);
        for value in [Err("not Avro"), Ok(window("EIRE", 1, 1))] {
            let error = with(
                latest(std::slice::from_ref(&france)),
                &france.key(),
                Some(value),
            )
            .totals()
            .unwrap_err();
            let expected = france.key();
            assert!(
                matches!(&error, TotalsError::Window { key, .. } if *key == expected),
                "{error:?} instead of Window with the key {expected}"
            );
        }
        let deleted = with(latest(std::slice::from_ref(&france)), &france.key(), None);
        assert_eq!(
            deleted.totals().unwrap().totals,
            TotalsByCurrency::default()
        );
    }

    #[test]
    fn a_record_without_the_key_of_a_window_is_described_and_not_counted() {
        let france = window("France", 1, 100);
        let mut found = latest(std::slice::from_ref(&france));
        for key in ["", "junk", "1970-01-01T00:00:00Z/France", "a/b/GBP"] {
            found = with(found, key, Some(Err("not Avro")));
        }
        found.insert(0, 91, None, None).unwrap();
        let key = Bytes::from(france.key());
        let elsewhere = (partition_of(&key) + 1) % PARTITIONS;
        let larger = Some(Ok(window("France", 9, 999)));
        found.insert(elsewhere, 92, Some(&key), larger).unwrap();
        let found = found.totals().unwrap();
        assert_eq!(found.totals.of(Currency::GBP).total_minor, 100);
        assert_eq!(found.foreign_count, 6, "{:?}", found.foreign);
    }

    #[test]
    fn foreign_records_are_described_up_to_a_limit() {
        let mut latest = latest(&[]);
        for offset in 0..100 {
            latest.insert(0, offset, None, None).unwrap();
        }
        let found = latest.totals().unwrap();
        assert_eq!(found.foreign.len(), FOREIGN_SHOWN_MAX);
        assert_eq!(found.foreign_count, 100);
    }

    #[test]
    fn a_sum_beyond_64_bits_is_an_error() {
        let large = latest(&[window("France", 1, i64::MAX), window("EIRE", 1, 1)]).totals();
        assert!(
            matches!(large, Err(TotalsError::Overflow { .. })),
            "{large:?} instead of Err(TotalsError::Overflow)"
        );
    }
}
