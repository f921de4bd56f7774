//! Finds the events that a database refuses.
//!
//! A database refuses a whole batch, and its error rarely names the row. So the batch is bisected by aggregate until
//! each refused aggregate is applied alone.

use crate::{
    parking::{PARKED_KEYS_MAX, Poison},
    recorded::Recorded,
    store::{Failure, Store, StoreError},
};
use std::collections::BTreeMap;

/// Number of aggregates that are applied alone first. If the database refuses all of them, the cause is the table or
/// the view, not an event.
const SAMPLED_AGGREGATES: usize = 10;

/// An aggregate's events.
type Aggregate<'a, 'e, E> = (&'a str, Vec<Recorded<'e, E>>);

/// Returns the first refused commit of each refused aggregate, at most [`PARKED_KEYS_MAX`] + 1 commits. The list is empty
/// if every aggregate can be applied on its own, or if each of the first [`SAMPLED_AGGREGATES`] aggregates is refused.
///
/// # Errors
/// A failure of the database that no event caused.
pub async fn isolate<S: Store>(
    store: &S,
    events: &[Recorded<'_, S::Event>],
) -> Result<Vec<Poison>, StoreError> {
    let mut by_key: BTreeMap<&str, Vec<Recorded<'_, S::Event>>> = BTreeMap::new();
    for event in events {
        by_key.entry(event.key).or_default().push(*event);
    }
    let aggregates: Vec<_> = by_key.into_iter().collect();
    if aggregates.len() > SAMPLED_AGGREGATES
        && are_all_refused(store, &aggregates[..SAMPLED_AGGREGATES]).await?
    {
        return Ok(Vec::new());
    }
    let mut poisons = Vec::new();
    let mut suspected = vec![aggregates.as_slice()];
    while let Some(aggregates) = suspected.pop() {
        if poisons.len() > PARKED_KEYS_MAX {
            break;
        }
        if refusal(store, &in_log_order(aggregates)).await?.is_none() {
            continue;
        }
        match aggregates {
            [(key, events)] => poisons.extend(first_refused(store, key, events).await?),
            [] => {}
            several => {
                let (first, second) = several.split_at(several.len() / 2);
                suspected.extend([second, first]);
            }
        }
    }
    Ok(poisons)
}

async fn are_all_refused<S: Store>(
    store: &S,
    aggregates: &[Aggregate<'_, '_, S::Event>],
) -> Result<bool, StoreError> {
    for (_, events) in aggregates {
        if refusal(store, events).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn in_log_order<'e, E>(aggregates: &[Aggregate<'_, 'e, E>]) -> Vec<Recorded<'e, E>> {
    let mut events: Vec<_> = aggregates
        .iter()
        .flat_map(|(_, events)| events.iter().copied())
        .collect();
    events.sort_by_key(|event| (event.offset, event.version));
    events
}

async fn first_refused<S: Store>(
    store: &S,
    key: &str,
    events: &[Recorded<'_, S::Event>],
) -> Result<Option<Poison>, StoreError> {
    for (index, event) in events.iter().enumerate() {
        // A commit is refused as a whole.
        let is_last_of_commit = events
            .get(index + 1)
            .is_none_or(|next| next.offset != event.offset);
        if !is_last_of_commit {
            continue;
        }
        if let Some(error) = refusal(store, &events[..=index]).await? {
            return Ok(Some(Poison {
                key: key.to_owned(),
                offset: event.offset,
                error: error.to_string(),
            }));
        }
    }
    Ok(None)
}

/// Tries to apply events. Returns the error that one of them caused; `None` if they can be applied.
async fn refusal<S: Store>(
    store: &S,
    events: &[Recorded<'_, S::Event>],
) -> Result<Option<StoreError>, StoreError> {
    match store.try_apply(events).await {
        Ok(()) => Ok(None),
        Err(error @ StoreError::Fold(_)) => Ok(Some(error)),
        Err(error) if error.failure() == Some(Failure::Value) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}
