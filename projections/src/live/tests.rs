//! Tests clients of a hub over a journal in memory, with a paused clock.

mod missed;

use super::{
    client::{Client, Output, Sources},
    cursor::{Cursor, Sent},
    following::follow,
    hub::{End, Hub, QUEUE_EVENTS_MAX},
    resume::Passes,
    ring::RING_COMMITS_MAX,
    target::{LiveEvent, Target},
};
use journal::{Checkpoint, SharedReader, memory_log::MemoryLog, probe::Event};
use schemas::ContextEvent;
use serde_json::Value;
use service::budget::Budget;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = Event::CONTEXT.topic;
const PARTITIONS: i32 = 3;
/// Far longer than any wait takes, on the paused clock.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A note belongs to the customer that its text begins with, before a slash.
impl LiveEvent for Event {
    fn customer(&self) -> Option<&str> {
        match self {
            Self::Noted(note) => note.text.split_once('/').map(|(customer, _)| customer),
            Self::CounterChanged(_) => None,
        }
    }
}

/// A node.
struct Node {
    sources: Arc<Sources<Event>>,
    beat: watch::Sender<u64>,
}

impl Node {
    /// A node whose hub starts at these checkpoints.
    fn start(log: &MemoryLog, starts: Vec<Checkpoint>) -> Self {
        Self::with_budget(log, starts, Budget::default())
    }

    /// A node with this budget for the events that clients have missed.
    fn with_budget(log: &MemoryLog, starts: Vec<Checkpoint>, budget: Budget) -> Self {
        let hub = Arc::new(Hub::new(budget));
        let (resumes, passes) = Passes::new(hub.clone(), log.clone());
        tokio::spawn(passes.run());
        let shared = SharedReader::new(log.clone());
        tokio::spawn(follow(hub.clone(), shared, log.clone(), starts));
        let (beat, heartbeats) = watch::channel(0);
        let stop = CancellationToken::new();
        let sources = Arc::new(Sources {
            hub,
            resumes,
            heartbeats,
            stop,
        });
        Self { sources, beat }
    }

    /// Starts a node that has read the log to its end and keeps no record of it in memory.
    async fn restarted(log: &MemoryLog) -> Self {
        Self::restarted_with_budget(log, Budget::default()).await
    }

    async fn restarted_with_budget(log: &MemoryLog, budget: Budget) -> Self {
        let earlier = Self::start(log, log_starts());
        earlier.reaches_the_end_of(log).await;
        let node = Self::with_budget(log, earlier.sources.hub.heads(), budget);
        node.reaches_the_end_of(log).await;
        node
    }

    async fn reaches_the_end_of(&self, log: &MemoryLog) {
        let ends = (0..PARTITIONS)
            .map(|number| (number, log.end_of(number)))
            .collect();
        let mut moves = self.sources.hub.moves();
        while !(self.sources.hub.has_read(&ends) && self.sources.hub.is_following()) {
            timeout(TIMEOUT, moves.changed()).await.unwrap().unwrap();
        }
    }

    fn client(&self, target: &Target, last: Option<&str>) -> Client<Event> {
        let partitions: Vec<i32> = match target.partition() {
            Some(partition) => vec![partition],
            None => (0..PARTITIONS).collect(),
        };
        let cursor = last.map(|last| Cursor::parse(last, TOPIC, &partitions).unwrap());
        Client::new(self.sources.clone(), target.clone(), cursor)
    }

    /// A connected client, and the id from which it would resume.
    async fn connected(&self, target: &Target, last: Option<&str>) -> (Client<Event>, String) {
        let mut client = self.client(target, last);
        match output(&mut client).await {
            Output::Connected(id) => (client, id),
            other => panic!("{other:?} instead of Connected"),
        }
    }
}

fn log_starts() -> Vec<Checkpoint> {
    (0..PARTITIONS)
        .map(|number| Checkpoint::start(TOPIC, number))
        .collect()
}

fn announced() -> MemoryLog {
    let log = MemoryLog::new(PARTITIONS);
    (0..PARTITIONS).for_each(|number| log.announce(number));
    log
}

/// The aggregate of all notes in partition 1.
fn note() -> Target {
    Target::Aggregate {
        key: "note_a".into(),
        partition: 1,
    }
}

fn customer() -> Target {
    Target::Customer("eve".into())
}

async fn output(client: &mut Client<Event>) -> Output {
    let output = timeout(TIMEOUT, client.next()).await;
    output
        .expect("an output arrives in time")
        .expect("the stream has not ended")
}

/// Id and text of the next event.
async fn event(client: &mut Client<Event>) -> (String, String) {
    loop {
        match output(client).await {
            Output::Event(frame) => {
                let json: Value = serde_json::from_slice(&frame.json()).unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                return (text(&json["id"]), text(&json["data"]["text"]));
            }
            Output::Connected(_) => {}
            other => panic!("{other:?} instead of an event"),
        }
    }
}

async fn texts(client: &mut Client<Event>, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(event(client).await.1);
    }
    texts
}

/// Whether the client receives nothing at the moment.
async fn is_quiet(client: &mut Client<Event>) -> bool {
    timeout(Duration::from_secs(1), client.next())
        .await
        .is_err()
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_the_events_of_its_target_as_they_are_recorded() {
    let log = announced();
    log.note(1, "eve/before");
    let node = Node::start(&log, log_starts());
    let (mut of_note, _) = node.connected(&note(), None).await;
    let (mut of_customer, _) = node.connected(&customer(), None).await;
    log.note(1, "eve/one");
    log.append_void(1);
    log.note(1, "bob/two");
    log.note(2, "eve/three");
    let (id, text) = event(&mut of_note).await;
    assert_eq!((&*id, &*text), ("journal.probe/1@2#0", "eve/one"));
    assert_eq!(event(&mut of_note).await.1, "bob/two");
    let mut found = texts(&mut of_customer, 2).await;
    found.sort();
    assert_eq!(found, ["eve/one", "eve/three"]);
    assert!(is_quiet(&mut of_customer).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resumes_at_any_event_misses_none_and_gets_none_twice() {
    let log = announced();
    let earlier = Node::start(&log, log_starts());
    for target in [note(), customer()] {
        let (mut client, first) = earlier.connected(&target, None).await;
        let mut expected = vec![(first, String::new())];
        for number in 0..12 {
            let text = format!("eve/{number}");
            log.note(1, text.leak());
            expected.push(event(&mut client).await);
            log.append_void(1);
            log.note(2, "bob/other");
        }
        // From memory, and from the log after a restart.
        for node in [&earlier, &Node::restarted(&log).await] {
            for (index, (last, _)) in expected.iter().enumerate() {
                let mut client = node.client(&target, Some(last));
                let rest = &expected[index + 1..];
                for (_, text) in rest {
                    assert_eq!(event(&mut client).await.1, *text, "after {last}");
                }
                if rest.is_empty() {
                    let connected = output(&mut client).await;
                    assert!(
                        matches!(connected, Output::Connected(_)),
                        "{connected:?} instead of Output::Connected"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_resumes_behind_the_position_of_a_command() {
    let log = announced();
    log.note(1, "eve/one");
    log.note(1, "eve/two");
    let node = Node::restarted(&log).await;
    let mut client = node.client(&note(), Some("journal.probe/1@1"));
    assert_eq!(event(&mut client).await.1, "eve/two");
}

#[tokio::test(start_paused = true)]
async fn an_event_between_the_log_and_the_memory_is_neither_lost_nor_repeated() {
    let log = announced();
    for number in 0..50 {
        log.note(1, format!("eve/{number}").leak());
    }
    let node = Node::restarted(&log).await;
    let mut client = node.client(
        &customer(),
        Some("journal.probe/0@-1,journal.probe/1@-1,journal.probe/2@-1"),
    );
    let first = texts(&mut client, 10).await;
    for number in 50..60 {
        log.note(1, format!("eve/{number}").leak());
    }
    let rest = texts(&mut client, 50).await;
    let expected: Vec<_> = (0..60).map(|number| format!("eve/{number}")).collect();
    assert_eq!([first, rest].concat(), expected);
    assert!(is_quiet(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn many_clients_that_come_back_share_a_reader() {
    let log = announced();
    for number in 0..20 {
        log.note(1, format!("eve/{number}").leak());
    }
    let node = Node::restarted(&log).await;
    let streams = log.open_streams();
    let mut clients: Vec<_> = (0..500)
        .map(|_| node.client(&note(), Some("journal.probe/1@0")))
        .collect();
    let first = clients.iter_mut().map(event);
    for (_, text) in futures_util::future::join_all(first).await {
        assert_eq!(text, "eve/0");
    }
    let opened = log.open_streams() - streams;
    assert!(
        opened <= 1,
        "{opened} readers are open instead of at most 1"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_missed_more_than_a_pass_gives_gets_all_of_it() {
    let log = announced();
    for number in 0..2_500 {
        log.note(1, format!("eve/{number}").leak());
    }
    let node = Node::restarted(&log).await;
    let mut client = node.client(&note(), Some("journal.probe/1@0"));
    let found = texts(&mut client, 2_500).await;
    let expected: Vec<_> = (0..2_500).map(|number| format!("eve/{number}")).collect();
    let mut pairs = found.iter().zip(&expected);
    assert_eq!(pairs.find(|(one, other)| one != other), None);
    assert_eq!(found.len(), expected.len());
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_the_hub_is_bounded_and_older_events_come_from_the_log() {
    let log = announced();
    let node = Node::start(&log, log_starts());
    node.reaches_the_end_of(&log).await;
    let count = RING_COMMITS_MAX + 500;
    for number in 0..count {
        log.note(1, format!("eve/{number}").leak());
    }
    node.reaches_the_end_of(&log).await;
    let start = node.sources.hub.ring_start(1);
    assert!(
        start > Some(0),
        "the ring starts at {start:?} instead of above 0"
    );
    let mut client = node.client(&note(), Some("journal.probe/1@0"));
    assert_eq!(texts(&mut client, 3).await, ["eve/0", "eve/1", "eve/2"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped_with_the_reason_and_resumes_without_a_gap() {
    let log = announced();
    let node = Node::start(&log, log_starts());
    let (mut slow, _) = node.connected(&note(), None).await;
    let (mut quick, _) = node.connected(&note(), None).await;
    let count = QUEUE_EVENTS_MAX + 10;
    for number in 0..count {
        log.note(1, format!("eve/{number}").leak());
        event(&mut quick).await;
    }
    let mut last = String::new();
    for number in 0..QUEUE_EVENTS_MAX {
        let (id, text) = event(&mut slow).await;
        assert_eq!(text, format!("eve/{number}"));
        last = id;
    }
    let end = output(&mut slow).await;
    assert!(
        matches!(end, Output::End(End::TooSlow)),
        "{end:?} instead of Output::End(End::TooSlow)"
    );
    let after = slow.next().await;
    assert!(after.is_none(), "{after:?} after the end of the stream");
    let mut again = node.client(&note(), Some(&last));
    let rest = texts(&mut again, 10).await;
    let expected: Vec<_> = (QUEUE_EVENTS_MAX..count)
        .map(|number| format!("eve/{number}"))
        .collect();
    assert_eq!(rest, expected);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_behind_the_clients_last_event_waits_for_it() {
    let log = announced();
    let node = Node::start(&log, log_starts());
    node.reaches_the_end_of(&log).await;
    let cursor = Cursor::new([(1, Sent::before(3))]);
    let mut client = Client::new(node.sources.clone(), note(), Some(cursor));
    assert!(is_quiet(&mut client).await);
    for text in ["eve/sent", "eve/sent too", "eve/new"] {
        log.note(1, text);
    }
    assert_eq!(event(&mut client).await.1, "eve/new");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_the_log_never_had_ends_the_stream() {
    let log = announced();
    let node = Node::start(&log, log_starts());
    node.reaches_the_end_of(&log).await;
    let mut client = node.client(&note(), Some("journal.probe/1@999"));
    let busy = log.clone();
    tokio::spawn(async move {
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            busy.note(2, "eve/other");
        }
    });
    let begun = Instant::now();
    let end = output(&mut client).await;
    assert!(
        matches!(end, Output::End(End::UnknownLastEvent)),
        "{end:?} instead of Output::End(End::UnknownLastEvent)"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_halted_partition_ends_the_streams_that_read_it() {
    let log = announced();
    let node = Node::start(&log, log_starts());
    let (mut client, _) = node.connected(&note(), None).await;
    log.append_alarm(1);
    let end = output(&mut client).await;
    assert!(
        matches!(end, Output::End(End::Halted)),
        "{end:?} instead of Output::End(End::Halted)"
    );
    let mut again = node.client(&note(), None);
    let end = output(&mut again).await;
    assert!(
        matches!(end, Output::End(End::Halted)),
        "{end:?} instead of Output::End(End::Halted)"
    );
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_the_end_of_the_node_reach_an_idle_client() {
    let log = announced();
    let node = Node::start(&log, log_starts());
    let (mut client, _) = node.connected(&note(), None).await;
    node.beat.send_modify(|count| *count += 1);
    let beat = output(&mut client).await;
    assert!(
        matches!(beat, Output::Heartbeat),
        "{beat:?} instead of Output::Heartbeat"
    );
    assert!(is_quiet(&mut client).await, "a heartbeat is delivered once");
    node.sources.stop.cancel();
    let end = output(&mut client).await;
    assert!(
        matches!(end, Output::End(End::Stopping)),
        "{end:?} instead of Output::End(End::Stopping)"
    );
}
