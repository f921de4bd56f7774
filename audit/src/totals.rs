//! Totals of the sales in the journal: one source of `daybook reconcile`.

use crate::{
    body::Event,
    frame::Kind,
    model::{Alarm, Model, Verdict},
    schemas_seen::SchemasSeen,
    source::{SourceError, Span, SpanReader, spans},
    verify::entry,
};
use apache_avro::types::Value;
use kafka::{KafkaSettings, Registry};
use schemas::{Currency, Position, Totals, TotalsByCurrency, context::ORDERS};
use std::collections::HashSet;

/// The part of the journal that is included in totals.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The offset up to which each partition is counted; a partition without an offset is not counted.
    pub position: &'a Position,
    /// Only sales and credit notes with these numbers are counted; `None` for all.
    pub invoices: Option<&'a HashSet<String>>,
}

/// The reason why the totals can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The log can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The log was altered, or needs a newer program.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// A decision can't be decoded, or an event lacks a field.
    #[error("topic {topic} partition {partition} offset {offset}: {reason}")]
    Unreadable {
        /// The journal's topic.
        topic: &'static str,
        /// The topic's partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The reason.
        reason: String,
    },
}

/// Reads `journal.orders` once, up to the last selected offset, and returns the totals of each selection.
///
/// # Errors
/// [`TotalsError`]: the log can't be read, raises an alarm, or has a decision that can't be decoded; or a total
/// overflows 64 bits.
pub async fn journal_totals(
    kafka: &KafkaSettings,
    registry: &Registry,
    selections: &[Selection<'_>],
) -> Result<Vec<TotalsByCurrency>, TotalsError> {
    let mut schemas = SchemasSeen::default();
    let mut totals = vec![TotalsByCurrency::default(); selections.len()];
    for span in spans(kafka, &[&ORDERS]).await? {
        let (topic, partition) = (span.context.topic, span.partition);
        let mut model = Model::new(topic, partition);
        let mut reader = SpanReader::start(kafka, needed(span, selections))?;
        while let Some(batch) = reader.next_batch().await? {
            for record in &batch {
                let Verdict::Valid(frame) = model.judge(entry(record))? else {
                    continue;
                };
                if frame.kind != Kind::Decision {
                    continue;
                }
                let schema = schemas.fetch(registry, frame.schema_id).await;
                let schema = schema.map_err(SourceError::from)?;
                let value = record.value.as_deref().unwrap_or_default();
                schema
                    .and_then(|schema| schema.decision(value).map_err(|error| error.to_string()))
                    .and_then(|decision| {
                        let position = (partition, record.offset);
                        add(&mut totals, selections, position, &decision.events)
                    })
                    .map_err(|reason| TotalsError::Unreadable {
                        topic,
                        partition,
                        offset: record.offset,
                        reason,
                    })?;
            }
        }
    }
    Ok(totals)
}

/// The part of a partition that at least one selection includes.
fn needed(span: Span, selections: &[Selection<'_>]) -> Span {
    let ends = selections
        .iter()
        .filter_map(|selection| selection.position.get(&span.partition));
    let end = ends.copied().max().unwrap_or(0);
    Span {
        end: span.end.min(end),
        ..span
    }
}

/// Adds sales and credit notes to the totals of the selections that include them.
fn add(
    totals: &mut [TotalsByCurrency],
    selections: &[Selection<'_>],
    (partition, offset): (i32, i64),
    events: &[Event],
) -> Result<(), String> {
    for event in events {
        let Some(invoice) = Invoice::of(event)? else {
            continue;
        };
        for (totals, selection) in totals.iter_mut().zip(selections) {
            let end = selection.position.get(&partition);
            let numbers = selection.invoices;
            if end.is_some_and(|end| offset < *end)
                && numbers.is_none_or(|numbers| numbers.contains(invoice.number))
            {
                totals
                    .add(invoice.currency, invoice.totals)
                    .map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}

/// A sale or a credit note of an event.
struct Invoice<'a> {
    number: &'a str,
    currency: Currency,
    totals: Totals,
}

impl<'a> Invoice<'a> {
    fn of(event: &'a Event) -> Result<Option<Self>, String> {
        let of_one = match event.name.as_str() {
            "SaleImported" => Totals::sale,
            "CreditNoteIssued" => Totals::credit_note,
            _ => return Ok(None),
        };
        let fields = [
            event.field("invoice"),
            event.field("currency"),
            event.field("lines"),
            event.field("total"),
        ];
        let [
            Some(Value::String(number)),
            Some(Value::String(currency)),
            Some(Value::Array(lines)),
            Some(Value::Long(total)),
        ] = fields
        else {
            return Err(format!(
                "{} lacks its invoice, its currency, its lines or its total",
                event.name
            ));
        };
        let lines = i64::try_from(lines.len()).map_err(|error| error.to_string())?;
        Ok(Some(Self {
            number,
            currency: Currency::parse(currency).map_err(|error| error.to_string())?,
            totals: of_one(lines, *total),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn event(name: &str, invoice: &str, currency: &str, lines: usize, total: i64) -> Event {
        Event {
            name: name.into(),
            fields: vec![
                ("invoice".into(), Value::String(invoice.into())),
                ("currency".into(), Value::String(currency.into())),
                ("lines".into(), Value::Array(vec![Value::Null; lines])),
                ("total".into(), Value::Long(total)),
            ],
        }
    }

    fn position(end: i64) -> Position {
        BTreeMap::from([(1, end)])
    }

    /// The totals of all events at offset 5 of partition 1.
    fn totals(selection: Selection<'_>, events: &[Event]) -> Result<TotalsByCurrency, String> {
        let mut totals = [TotalsByCurrency::default()];
        add(&mut totals, &[selection], (1, 5), events)?;
        let [totals] = totals;
        Ok(totals)
    }

    #[test]
    fn only_sales_and_credit_notes_are_counted_by_currency() {
        let events = [
            event("SaleImported", "1", "GBP", 3, 500),
            event("CreditNoteIssued", "C1", "GBP", 1, -120),
            event("SomethingNew", "2", "GBP", 9, 9),
            event("SaleImported", "3", "EUR", 2, 7),
        ];
        let position = position(6);
        let all = Selection {
            position: &position,
            invoices: None,
        };
        let pounds = Totals {
            invoices: 2,
            sales: 1,
            credit_notes: 1,
            lines: 4,
            total_minor: 380,
        };
        let euro = Currency::parse("EUR").unwrap();
        let found = totals(all, &events).unwrap();
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            [(euro, Totals::sale(2, 7)), (Currency::GBP, pounds)]
        );
        let numbers = HashSet::from(["1".to_owned()]);
        let chosen = Selection {
            invoices: Some(&numbers),
            ..all
        };
        let found = totals(chosen, &events).unwrap();
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            [(Currency::GBP, Totals::sale(3, 500))]
        );
    }

    #[test]
    fn records_after_a_position_are_not_counted() {
        let events = [event("SaleImported", "1", "GBP", 3, 500)];
        for (position, count) in [(position(6), 1), (position(5), 0), (BTreeMap::new(), 0)] {
            let selection = Selection {
                position: &position,
                invoices: None,
            };
            let found = totals(selection, &events).unwrap();
            assert_eq!(found.of(Currency::GBP).invoices, count, "{position:?}");
            let span = needed(span_of_partition(1), &[selection]);
            assert_eq!(span.end, position.get(&1).copied().unwrap_or(0));
        }
        // A log that ends before the position is read to its end.
        let beyond = position(9);
        let selection = Selection {
            position: &beyond,
            invoices: None,
        };
        assert_eq!(needed(span_of_partition(1), &[selection]).end, 8);
    }

    /// A span that ends at offset 8.
    fn span_of_partition(partition: i32) -> Span {
        Span {
            context: &ORDERS,
            partition,
            low: 0,
            end: 8,
        }
    }

    #[test]
    fn an_overflow_and_a_missing_field_are_errors() {
        let position = position(6);
        let all = Selection {
            position: &position,
            invoices: None,
        };
        let events = [
            event("SaleImported", "1", "GBP", 1, i64::MAX),
            event("SaleImported", "2", "GBP", 1, 1),
        ];
        totals(all, &events).unwrap_err();
        let bare = Event {
            name: "SaleImported".into(),
            fields: Vec::new(),
        };
        totals(all, &[bare]).unwrap_err();
    }
}
