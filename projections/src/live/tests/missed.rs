//! The budget of the events that clients have missed.

use super::*;
use crate::{
    CqlSettings, Databases, PostgresSettings,
    live::{
        hub::Join,
        missed::{CHUNK_BYTES_MAX, GROWTH_BYTES, Room, budget_of},
        start::Live,
    },
};
use axum::http::StatusCode;
use futures_util::future::join_all;

/// A log with three notes, and two nodes with a budget: one has the notes in memory, one must read them from the log.
async fn nodes_with_budget(bytes: u32) -> (MemoryLog, [(Node, Budget); 2]) {
    nodes_with_notes(bytes, &["eve/0", "eve/1", "eve/2"]).await
}

/// Like [`nodes_with_budget`], with other notes.
async fn nodes_with_notes(bytes: u32, notes: &[&str]) -> (MemoryLog, [(Node, Budget); 2]) {
    let log = announced();
    let budgets = [Budget::new(bytes), Budget::new(bytes)];
    let in_memory = Node::with_budget(&log, log_starts(), budgets[0].clone());
    for text in notes {
        log.note(1, text);
    }
    in_memory.reaches_the_end_of(&log).await;
    let restarted = Node::restarted_with_budget(&log, budgets[1].clone()).await;
    let [first, second] = budgets;
    (log, [(in_memory, first), (restarted, second)])
}

/// Notes with at least this number of bytes, each with another text.
fn long_notes(count: usize, length: usize) -> Vec<String> {
    let text = "x".repeat(length);
    (0..count)
        .map(|number| format!("eve/{number}/{text}"))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn missed_events_take_the_budget_until_they_are_sent() {
    const BYTES: u32 = 1 << 20;
    let (_log, nodes) = nodes_with_budget(BYTES).await;
    for (node, budget) in nodes {
        let mut client = node.client(&note(), Some("journal.probe/1@0"));
        assert_eq!(event(&mut client).await.1, "eve/0");
        let whole = budget.try_take(BYTES as usize);
        assert!(whole.is_err(), "the other events have no share: {whole:?}");
        assert_eq!(texts(&mut client, 2).await, ["eve/1", "eve/2"]);
        let whole = budget.try_take(BYTES as usize);
        assert!(whole.is_ok(), "sent events keep their shares: {whole:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_takes_at_most_one_chunk_of_the_budget() {
    const BYTES: u32 = 1 << 20;
    let notes = long_notes(6, CHUNK_BYTES_MAX / 3);
    let notes: Vec<&str> = notes.iter().map(String::as_str).collect();
    let (_log, nodes) = nodes_with_notes(BYTES, &notes).await;
    for (node, budget) in nodes {
        let mut client = node.client(&note(), Some("journal.probe/1@0"));
        event(&mut client).await;
        let rest = budget.try_take(BYTES as usize - CHUNK_BYTES_MAX);
        assert!(
            rest.is_ok(),
            "the client has more than {CHUNK_BYTES_MAX} bytes: {rest:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn events_larger_than_a_chunk_are_sent() {
    let notes = long_notes(3, CHUNK_BYTES_MAX + 1);
    let notes: Vec<&str> = notes.iter().map(String::as_str).collect();
    let (_log, nodes) = nodes_with_notes(1 << 20, &notes).await;
    for (node, _budget) in nodes {
        let mut client = node.client(&note(), Some("journal.probe/1@0"));
        let found = texts(&mut client, 3).await;
        // Compares the beginnings, because whole texts would be too long for a message.
        let begin = |text: &str| text.chars().take(10).collect::<String>();
        let begins: Vec<String> = found.iter().map(|text| begin(text)).collect();
        assert_eq!(begins, ["eve/0/xxxx", "eve/1/xxxx", "eve/2/xxxx"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_all_missed_events_although_the_budget_has_room_for_one() {
    let (_log, nodes) = nodes_with_budget(1).await;
    for (node, _budget) in nodes {
        let mut client = node.client(&note(), Some("journal.probe/1@0"));
        let found = texts(&mut client, 3).await;
        assert_eq!(found, ["eve/0", "eve/1", "eve/2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_wait_together_get_all_missed_events_although_the_budget_has_room_for_one() {
    let (_log, nodes) = nodes_with_budget(1).await;
    for (node, budget) in &nodes {
        for count in [2, 5] {
            let others = budget.try_take(1).unwrap();
            let mut clients: Vec<_> = (0..count)
                .map(|_| node.client(&note(), Some("journal.probe/1@0")))
                .collect();
            let all = join_all(clients.iter_mut().map(|client| texts(client, 3)));
            let mut all = std::pin::pin!(all);
            let early = timeout(Duration::from_secs(1), all.as_mut()).await;
            assert!(early.is_err(), "events without room: {early:?}");
            drop(others);
            // A paused clock advances only while all tasks wait. Clients that keep waking each other would never reach
            // their deadline.
            tokio::time::resume();
            let found = all.await;
            tokio::time::pause();
            assert_eq!(found, vec![["eve/0", "eve/1", "eve/2"]; count]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn too_little_room_for_the_first_event_is_given_back() {
    const BYTES: u32 = 1 << 20;
    let (_log, [(node, budget), _]) = nodes_with_budget(BYTES).await;
    let mut room = Some(Room::wait(&budget, 1, TIMEOUT).await.unwrap());
    let _others = budget.try_take(BYTES as usize - GROWTH_BYTES - 1).unwrap();
    let cursor = Cursor::new([(1, Sent::before(1))]);
    let joined = node.sources.hub.join(&note(), Some(&cursor), &mut room);
    let Join::Missed(chunk) = joined else {
        panic!("the client joined with {room:?}");
    };
    assert!(chunk.lacking() > Some(GROWTH_BYTES + 1), "{chunk:?}");
    let given_back = budget.try_take(GROWTH_BYTES + 1);
    assert!(given_back.is_ok(), "{given_back:?} with {chunk:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_room_and_then_its_stream_ends_with_the_reason() {
    const BYTES: u32 = 1 << 20;
    let (_log, nodes) = nodes_with_budget(BYTES).await;
    for (node, budget) in nodes {
        let others = budget.try_take(BYTES as usize).unwrap();
        let mut client = node.client(&note(), Some("journal.probe/1@0"));
        assert!(is_quiet(&mut client).await, "an event without room");
        drop(others);
        assert_eq!(event(&mut client).await.1, "eve/0");
        drop(client);

        let _others = budget.try_take(BYTES as usize).unwrap();
        let mut client = node.client(&note(), Some("journal.probe/1@0"));
        let end = output(&mut client).await;
        assert!(matches!(end, Output::End(End::Overloaded)), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_missed_nothing_joins_although_the_budget_is_used_up() {
    let (_log, nodes) = nodes_with_budget(1).await;
    for (node, budget) in nodes {
        let _others = budget.try_take(1).unwrap();
        let (_client, id) = node.connected(&note(), Some("journal.probe/1@3")).await;
        assert_eq!(id, "journal.probe/1@3");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_is_not_refused_because_the_budget_is_used_up() {
    let postgres = PostgresSettings::default();
    let cql = CqlSettings {
        nodes: "127.0.0.1:1".into(),
        ..CqlSettings::default()
    };
    let databases = Databases::connect_lazily(&postgres, &cql).unwrap();
    let budget = Budget::new(1 << 20);
    let live = Live::new(databases, 1, &budget);
    let _others = budget.try_take(1 << 20).unwrap();
    let refused = live.subscribe(customer(), Some(Cursor::default())).await;
    let refused = refused.err().map(|problem| (problem.status, problem.code));
    // The reason is that this node has not started.
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(refused, Some((unavailable, "LIVE_NOT_READY")));
}

#[test]
fn missed_events_take_at_most_a_quarter_of_the_budget_of_the_process() {
    let process = Budget::new(1 << 20);
    let missed = budget_of(&process);
    let _all = missed.try_take(1 << 20).unwrap();
    let rest = process.try_take(3 << 18);
    assert!(rest.is_ok(), "three quarters: {rest:?}");
}

#[test]
fn missed_events_take_at_most_64_mib_of_a_large_budget() {
    assert_eq!(budget_of(&Budget::new(1 << 30)).bytes(), 64 << 20);
}
