//! Runs the protocol on a log in memory. Each test decides which records are lost, duplicated, late or foreign.

use super::state::{Core, Outgoing};
use crate::{
    checkpoint::Checkpoint,
    owner::request::{Machine, Request},
    probe::{Event, Noted},
    reader::{Batch, Valid},
    rule::{Rule, Verdict},
    store::Memory,
};
use kafka::{Encoder, Report, appender::AppendError};
use schemas::{ContextEvent, Origin, Outcome, OutcomeKind, Timestamp, ids::CommandId};
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

pub(super) const TOPIC: &str = Event::CONTEXT.topic;
pub(super) const NOW: Timestamp = Timestamp(1_000_000);

pub(super) const PARTITIONS: i32 = 4;

/// A note that can be taken once; the command is its text, and "bad" is rejected.
pub(super) struct Notes;

impl Machine for Notes {
    const FOLD_VERSION: u32 = 1;
    type Event = Event;
    type State = bool;
    type Command = &'static str;

    fn blank(&self, _: &str) -> Option<bool> {
        Some(false)
    }

    fn decide(&self, is_noted: &bool, command: &&'static str) -> Result<Vec<Event>, Outcome> {
        let text = (*command).to_owned();
        match (is_noted, *command) {
            (_, "bad") => Err(Outcome {
                kind: OutcomeKind::Conflict,
                code: "NO".into(),
                detail: b"{}".to_vec(),
            }),
            (true, _) => Ok(vec![]),
            (false, _) => Ok(vec![Event::Noted(Noted { text })]),
        }
    }

    fn evolve(&self, _: bool, _: &Event) -> bool {
        true
    }
}

/// A partition's records at the broker.
pub(super) struct Log {
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
    schema: serde_avro_fast::Schema,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            records: Vec::new(),
            schema: Event::CONTEXT.schema().parse().unwrap(),
        }
    }

    /// Appends a record at the broker, and returns its offset.
    pub(super) fn append(&mut self, outgoing: &Outgoing) -> i64 {
        self.records
            .push((outgoing.key.as_bytes().to_vec(), outgoing.value.clone()));
        i64::try_from(self.records.len()).unwrap() - 1
    }

    /// The batch that a reader returns after a checkpoint.
    pub(super) fn batch(&self, from: &Checkpoint) -> Batch<Event> {
        let mut rule = Rule::from_checkpoint(from);
        let mut commits = Vec::new();
        let mut void = 0;
        let start = usize::try_from(from.next_offset).unwrap();
        for (index, (key, value)) in self.records.iter().enumerate().skip(start) {
            let offset = i64::try_from(index).unwrap();
            match rule.judge(offset, Some(key), Some(value)).unwrap() {
                Verdict::Void(_) => void += 1,
                Verdict::Valid(_) => {
                    let commit =
                        serde_avro_fast::from_datum_slice(&value[5..], &self.schema).unwrap();
                    commits.push(Valid {
                        offset,
                        key: key.clone().into(),
                        commit,
                    });
                }
            }
        }
        Batch {
            partition: 0,
            from: from.next_offset,
            commits: commits.into(),
            bytes: 0,
            void,
            checkpoint: rule.checkpoint(),
        }
    }
}

pub(super) type TestCore = Core<Notes, u32>;

pub(super) fn core() -> TestCore {
    let encoder = Encoder::new(7, &Event::CONTEXT.schema()).unwrap();
    Core::new(Notes, TOPIC, 0, encoder, Arc::new(Memory::default()))
}

pub(super) fn announce(core: &mut TestCore, term: u8) -> Outgoing {
    core.announce("http://here", PARTITIONS, [term; 16], NOW)
        .unwrap()
}

/// Polls until the store answers: a store in memory does so at once, one on disk soon.
pub(super) fn finish<T>(answered: impl Future<Output = T>) -> T {
    let mut answered = pin!(answered);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match answered.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// Reads the rest of the log.
pub(super) fn read(core: &mut TestCore, log: &Log) {
    let batch = log.batch(core.checkpoint());
    if let Some(fetching) = core.fetch_for(&batch) {
        core.remember(finish(fetching)).unwrap();
    }
    core.read(&batch);
}

/// Decides the commands that wait for entries of the store.
pub(super) fn decide_unread_and_prove(core: &mut TestCore, now: Timestamp) {
    while let Some(fetching) = core.fetch_unread(now) {
        core.decide_unread(finish(fetching), now);
    }
    core.prove_held_answers(now);
}

/// Makes an owner serve on this log.
pub(super) fn take_over(core: &mut TestCore, log: &mut Log, term: u8) {
    read(core, log);
    let announcement = announce(core, term);
    log.append(&announcement);
    read(core, log);
    core.start_serving(NOW);
    decide_unread_and_prove(core, NOW);
}

pub(super) fn request(id: u8, origin: Origin, command: &'static str) -> Request<&'static str> {
    Request {
        key: "note_A".into(),
        command,
        id: CommandId([id; 16]),
        hash: [command.len().try_into().unwrap(); 16],
        origin,
        actor: "me".into(),
        correlation_id: [id; 16],
        causation_id: None,
        traceparent: None,
        trace_id: None,
        expected_version: None,
        received_at: NOW,
    }
}

pub(super) fn submit(core: &mut TestCore, reply: u32, request: Request<&'static str>) {
    submit_at(core, reply, request, NOW);
}

pub(super) fn submit_at(
    core: &mut TestCore,
    reply: u32,
    request: Request<&'static str>,
    now: Timestamp,
) {
    core.submit(request, reply, now);
    decide_unread_and_prove(core, now);
}

/// The broker takes all records and reports their offsets.
pub(super) fn deliver(core: &mut TestCore, log: &mut Log) {
    for outgoing in core.take_appends() {
        let offset = log.append(&outgoing);
        core.delivered(&Report {
            number: outgoing.number,
            result: Ok(offset),
        })
        .unwrap();
    }
}

pub(super) fn unknown(number: u64) -> Report {
    let (topic, reason) = (TOPIC.to_owned(), "timed out".to_owned());
    Report {
        number,
        result: Err(AppendError::Unknown {
            topic,
            partition: 0,
            reason,
        }),
    }
}

/// The number of valid notes in the log.
pub(super) fn noted(log: &Log) -> usize {
    let batch = log.batch(&Checkpoint::start(TOPIC, 0));
    batch
        .commits
        .iter()
        .filter_map(Valid::decision)
        .map(|decision| decision.events.len())
        .sum()
}
