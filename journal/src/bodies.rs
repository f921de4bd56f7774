//! Decodes the bodies of records, and checks that each decision belongs to an aggregate of its context.

use kafka::{CodecError, Decoder, Record, Registry};
use schemas::{Body, Commit, ContextEvent, ids};

/// Decodes bodies. Requests schemas from the registry only for valid records, because a void record may name
/// any schema id.
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

    /// Decodes a record if its schema is known or, with `wanted`, after fetching its schema from the registry.
    ///
    /// # Errors
    /// The record can't be decoded, is of an aggregate type that this program does not know, or has a key of
    /// another aggregate type.
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
        check_types(record.key.as_deref(), &commit)
            .map_err(|reason| CodecError::Unreadable { schema_id, reason })?;
        Ok(commit)
    }
}

/// Checks that a decision is about an aggregate of its context, and that its key and all its events are of
/// that aggregate's type, so that it is never folded into an aggregate of another type. Newer software may
/// know more types.
fn check_types<E: ContextEvent>(key: Option<&[u8]>, commit: &Commit<E>) -> Result<(), String> {
    let Body::Decision(decision) = &commit.body else {
        return Ok(());
    };
    let aggregate_type = decision.aggregate_type.as_str();
    if !E::AGGREGATE_TYPES.contains(&aggregate_type) {
        return Err(format!("unknown aggregate type {aggregate_type:?}"));
    }
    let key = key.unwrap_or_default();
    let key_type = std::str::from_utf8(key).ok().and_then(ids::split_key);
    if key_type.is_none_or(|(key_type, _)| key_type != aggregate_type) {
        let key = String::from_utf8_lossy(key);
        return Err(format!(
            "a decision about an aggregate of type {aggregate_type:?} has the key {key:?}"
        ));
    }
    let mut events = decision.events.iter();
    match events.find(|event| event.aggregate_type() != aggregate_type) {
        None => Ok(()),
        Some(event) => Err(format!(
            "a decision about an aggregate of type {aggregate_type:?} has an event of another type: {}",
            event.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{CounterChanged, Event, Noted, SCHEMA_ID, codec};
    use schemas::{Decision, Origin, Timestamp};

    const KEY: Option<&[u8]> = Some(b"counter_1");

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
        let error = check_types(Some(b"gauge_1"), &commit("gauge", vec![])).unwrap_err();
        assert_eq!(error, "unknown aggregate type \"gauge\"");
    }

    #[test]
    fn a_decision_with_an_event_of_another_aggregate_is_refused() {
        let counted = || Event::CounterChanged(CounterChanged { old: None, new: 1 });
        let noted = Event::Noted(Noted { text: "a".into() });
        let own = commit("counter", vec![counted()]);
        assert_eq!(check_types(KEY, &own), Ok(()));
        let error = check_types(KEY, &commit("counter", vec![counted(), noted])).unwrap_err();
        assert!(
            error.contains("another type: Noted"),
            "no \"another type: Noted\" in: {error}"
        );
    }

    /// Decodes a decision about a counter from a record with this key.
    async fn decoded(key: &[u8]) -> Result<Commit<Event>, CodecError> {
        let (registry, encoder) = codec();
        let record = Record {
            partition: 2,
            offset: 9,
            timestamp_ms: 0,
            key: Some(key.to_vec().into()),
            value: Some(encoder.encode(&commit("counter", vec![])).unwrap().into()),
        };
        Bodies::new(registry).decode_if(&record, || true).await
    }

    #[tokio::test]
    async fn a_decision_under_a_key_of_another_type_is_unreadable() {
        decoded(b"counter_1").await.unwrap();
        for key in [
            &b"xounter_1"[..],
            b"note_1",
            b"counter_",
            b"counter",
            b"counter_\xff",
        ] {
            let refused = decoded(key).await.unwrap_err();
            let CodecError::Unreadable { schema_id, reason } = refused else {
                panic!("{key:?}: {refused}");
            };
            assert_eq!(schema_id, SCHEMA_ID);
            assert!(
                reason.contains("of type \"counter\" has the key"),
                "no \"of type \"counter\" has the key\" in: {reason}"
            );
        }
    }
}
