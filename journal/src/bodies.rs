//! The bodies of records: decoded, and checked to be of an aggregate that this program knows.

use kafka::{CodecError, Decoder, Record, Registry};
use schemas::{Body, Commit, ContextEvent};

/// Decodes bodies, and asks the registry only for valid records: a void record may name any schema id.
pub(crate) struct Bodies {
    decoder: Decoder,
    registry: Registry,
}

impl Bodies {
    pub fn new(registry: &Registry) -> Self {
        Self {
            decoder: Decoder::new(registry.clone()),
            registry: registry.clone(),
        }
    }

    /// Decodes a record if its schema is known, or if `wanted` says that the registry may be asked.
    ///
    /// # Errors
    /// The record can't be decoded, or is of an aggregate type that this program does not know.
    pub async fn decode_if<E: ContextEvent>(
        &self,
        record: &Record,
        wanted: impl FnOnce() -> bool,
    ) -> Result<Commit<E>, CodecError> {
        let value = record.value.as_deref().unwrap_or_default();
        let (schema_id, _) = kafka::codec::split(value)?;
        if self.registry.cached(schema_id).is_none() && !wanted() {
            return Err(CodecError::Unreadable {
                schema_id,
                reason: "schema not needed".into(),
            });
        }
        let commit = self.decoder.decode(value).await?;
        check_types(&commit).map_err(|reason| CodecError::Unreadable { schema_id, reason })?;
        Ok(commit)
    }
}

/// Checks that a decision is about an aggregate of its context and has events of that aggregate alone, so
/// that it is never folded into an aggregate of another type. Newer software may know more types.
fn check_types<E: ContextEvent>(commit: &Commit<E>) -> Result<(), String> {
    let Body::Decision(decision) = &commit.body else {
        return Ok(());
    };
    let aggregate_type = decision.aggregate_type.as_str();
    if !E::AGGREGATE_TYPES.contains(&aggregate_type) {
        return Err(format!("unknown aggregate type {aggregate_type:?}"));
    }
    let mut events = decision.events.iter();
    match events.find(|event| event.aggregate_type() != aggregate_type) {
        None => Ok(()),
        Some(event) => Err(format!(
            "aggregate type {aggregate_type:?} has an event of another one: {}",
            event.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{CounterChanged, Event, Noted};
    use schemas::{Decision, Origin, Timestamp};

    fn commit(aggregate_type: &str, events: Vec<Event>) -> Commit<Event> {
        Commit {
            prev: [0; 32],
            term: [1; 16],
            epoch: 1,
            seq: 1,
            recorded_at: Timestamp(0),
            body: Body::Decision(Decision {
                aggregate_type: aggregate_type.into(),
                version: 0,
                command_id: [2; 16],
                command_hash: [3; 16],
                origin: Origin::Keyed,
                actor: String::new(),
                correlation_id: [2; 16],
                causation_id: None,
                traceparent: None,
                outcome: None,
                events,
            }),
        }
    }

    #[test]
    fn a_decision_of_an_unknown_aggregate_type_is_refused() {
        let error = check_types(&commit("stranger", vec![])).unwrap_err();
        assert_eq!(error, "unknown aggregate type \"stranger\"");
    }

    #[test]
    fn a_decision_with_an_event_of_another_aggregate_is_refused() {
        let counted = || Event::CounterChanged(CounterChanged { old: None, new: 1 });
        let noted = Event::Noted(Noted { text: "a".into() });
        assert_eq!(check_types(&commit("counter", vec![counted()])), Ok(()));
        let error = check_types(&commit("counter", vec![counted(), noted])).unwrap_err();
        assert!(error.contains("another one: Noted"), "{error}");
    }
}
