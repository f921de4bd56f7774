//! Totals of the sales in the journal: one source of `daybook reconcile`.

use crate::{
    body::Event,
    frame::Kind,
    model::{Alarm, Model, Verdict},
    schemas_seen::SchemasSeen,
    source::{SourceError, SpanReader, spans},
    verify::entry,
};
use apache_avro::types::Value;
use kafka::{KafkaSettings, Registry, RegistrySettings};
use schemas::context::ORDERS;

/// Sums over the valid records of `journal.orders`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Sales and credit notes.
    pub invoices: i64,
    /// Sales.
    pub sales: i64,
    /// Credit notes.
    pub credit_notes: i64,
    /// Lines of sales and credit notes.
    pub lines: i64,
    /// Sales plus credit notes, which are negative, in minor units.
    pub total_minor: i64,
}

/// Why the totals can't be computed.
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

/// Reads `journal.orders` up to its current end offset.
pub async fn journal_totals(
    kafka: &KafkaSettings,
    registry: &RegistrySettings,
) -> Result<Totals, TotalsError> {
    let registry = Registry::new(registry).map_err(SourceError::from)?;
    let mut schemas = SchemasSeen::default();
    let mut totals = Totals::default();
    for span in spans(kafka, &[&ORDERS]).await? {
        let (topic, partition) = (span.context.topic, span.partition);
        let mut model = Model::new(topic, partition);
        let mut reader = SpanReader::start(kafka, span)?;
        while let Some(batch) = reader.next_batch().await? {
            for record in &batch {
                let Verdict::Valid(frame) = model.judge(entry(record))? else {
                    continue;
                };
                if frame.kind != Kind::Decision {
                    continue;
                }
                let schema = schemas.fetch(&registry, frame.schema_id).await;
                let schema = schema.map_err(SourceError::from)?;
                let value = record.value.as_deref().unwrap_or_default();
                totals = schema
                    .and_then(|schema| schema.decision(value).map_err(|error| error.to_string()))
                    .and_then(|decision| totals.with(&decision.events))
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

impl Totals {
    /// Adds events; events of other types don't count.
    fn with(mut self, events: &[Event]) -> Result<Self, String> {
        for event in events {
            match event.name.as_str() {
                "SaleImported" => self.sales += 1,
                "CreditNoteIssued" => self.credit_notes += 1,
                _ => continue,
            }
            let missing = || format!("{} lacks its lines or its total", event.name);
            let (lines, total) = lines_and_total(event).ok_or_else(missing)?;
            self.invoices += 1;
            self.lines += lines;
            let sum = self.total_minor.checked_add(total);
            self.total_minor = sum.ok_or("the total overflows 64 bits")?;
        }
        Ok(self)
    }
}

fn lines_and_total(event: &Event) -> Option<(i64, i64)> {
    let field = |name: &str| {
        let mut fields = event.fields.iter();
        fields
            .find(|(field, _)| field == name)
            .map(|(_, value)| value)
    };
    match (field("lines")?, field("total")?) {
        (Value::Array(lines), Value::Long(total)) => {
            Some((i64::try_from(lines.len()).ok()?, *total))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, lines: usize, total: i64) -> Event {
        Event {
            name: name.into(),
            fields: vec![
                ("lines".into(), Value::Array(vec![Value::Null; lines])),
                ("total".into(), Value::Long(total)),
            ],
        }
    }

    #[test]
    fn only_sales_and_credit_notes_are_counted() {
        let events = [
            event("SaleImported", 3, 500),
            event("CreditNoteIssued", 1, -120),
            event("SomethingNew", 9, 9),
        ];
        let totals = Totals::default().with(&events).unwrap();
        let expected = Totals {
            invoices: 2,
            sales: 1,
            credit_notes: 1,
            lines: 4,
            total_minor: 380,
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn an_overflow_and_a_missing_field_are_errors() {
        let events = [
            event("SaleImported", 1, i64::MAX),
            event("SaleImported", 1, 1),
        ];
        assert!(Totals::default().with(&events).is_err());
        let bare = Event {
            name: "SaleImported".into(),
            fields: Vec::new(),
        };
        assert!(Totals::default().with(&[bare]).is_err());
    }
}
