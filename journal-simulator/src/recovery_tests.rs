//! Scenarios that random faults produce too rarely: a state store that can't be read while it is being
//! written or that belongs to another log, an owner that steps down with a command in flight, a clock
//! that is wrong for a while. No other faults happen.

mod hung_store;

use crate::{
    broker::{Link, PARTITION},
    environment::Environment,
    log::SimLog,
    machine::{Counters, Invocation},
    sim::Sim,
};
use futures_util::future::ready;
use journal::{
    owner::{Answer, Owner, OwnerHandle, OwnerSettings, Refusal, Request, Status},
    store::{
        Answered, Change, Entry, EntryKey, MakeChanges, Memory, StateStore, StoreError, Table,
    },
};
use schemas::{Origin, ids::CommandId};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

mod declines;

const B: &str = "counter_B";
const C: &str = "counter_C";
const D: &str = "counter_D";
/// More records than a batch has.
const MANY: usize = 45;
/// Enough virtual time for all that can happen without the store.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// A store that can delay its writes and fail the reads of one entry, as the test sets it.
struct UnrulyStore {
    store: Arc<Memory>,
    is_open: watch::Sender<bool>,
    /// Whether a write waits until the store is open.
    is_write_waiting: watch::Sender<bool>,
    unreadable: Mutex<Option<&'static str>>,
}

impl UnrulyStore {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: Arc::default(),
            is_open: watch::channel(true).0,
            is_write_waiting: watch::channel(false).0,
            unreadable: Mutex::default(),
        })
    }

    fn set_unreadable(&self, key: Option<&'static str>) {
        *self.unreadable.lock().unwrap() = key;
    }

    /// Waits until a write waits.
    async fn has_waiting_write(&self) {
        let mut is_waiting = self.is_write_waiting.subscribe();
        let is_waiting = is_waiting.wait_for(|is_waiting| *is_waiting);
        let is_waiting = tokio::time::timeout(LONG_ENOUGH, is_waiting).await;
        assert!(is_waiting.is_ok(), "no write came");
    }
}

impl StateStore for UnrulyStore {
    fn stamp(self: Arc<Self>) -> Answered<Option<Vec<u8>>> {
        self.store.clone().stamp()
    }

    fn read(self: Arc<Self>, keys: Vec<EntryKey>) -> Answered<Vec<Option<Vec<u8>>>> {
        let unreadable = *self.unreadable.lock().unwrap();
        let is_unreadable =
            |key: &[u8]| unreadable.is_some_and(|unreadable| unreadable.as_bytes() == key);
        if keys.iter().any(|(_, key)| is_unreadable(key)) {
            return Box::pin(ready(Err(StoreError::Unreadable {
                partition: "the only one".into(),
                reason: "a block is torn".into(),
            })));
        }
        self.store.clone().read(keys)
    }

    fn scan(
        self: Arc<Self>,
        table: Table,
        start: Vec<u8>,
        end: Vec<u8>,
        count: usize,
    ) -> Answered<Vec<Entry>> {
        self.store.clone().scan(table, start, end, count)
    }

    fn write(self: Arc<Self>, changes: MakeChanges) -> Answered<()> {
        let changes: Vec<Change> = changes(&*self.store);
        let mut is_open = self.is_open.subscribe();
        Box::pin(async move {
            self.is_write_waiting.send_replace(!*is_open.borrow());
            is_open.wait_for(|is_open| *is_open).await.unwrap();
            self.is_write_waiting.send_replace(false);
            self.store.apply(changes);
            Ok(())
        })
    }

    fn clear(self: Arc<Self>) -> Answered<()> {
        self.store.clone().clear()
    }
}

/// One owner, and the controls of its node.
struct TestNode {
    handle: OwnerHandle<Invocation>,
    assigned: watch::Sender<bool>,
    stop: CancellationToken,
    link: Arc<Link>,
    task: JoinHandle<()>,
}

/// A log, and the commands sent so far.
struct Harness {
    environment: Environment,
    submitted: u8,
}

impl Harness {
    /// A harness without faults.
    fn new() -> Self {
        let sim = Arc::new(Sim::new(0, false));
        sim.end_faults();
        let environment = Environment::new(sim);
        Self {
            environment,
            submitted: 0,
        }
    }

    /// Starts an owner to which the partition is assigned.
    fn start(&self, number: usize, store: Arc<dyn StateStore>) -> TestNode {
        self.start_with(number, store, |_| ())
    }

    /// As [`Harness::start`], with other settings.
    fn start_with(
        &self,
        number: usize,
        store: Arc<dyn StateStore>,
        set: impl FnOnce(&mut OwnerSettings),
    ) -> TestNode {
        let environment = &self.environment;
        let link = Arc::new(Link::default());
        let mut settings = environment.settings(number, &link);
        set(&mut settings);
        let (broker, registry) = (environment.broker.clone(), environment.registry.clone());
        let log = SimLog::new(broker, link.clone(), registry);
        let encoder = environment.encoder.clone();
        let (owner, handle) = Owner::new(Counters, PARTITION, encoder, log, store, settings);
        let (assigned, is_assigned) = watch::channel(true);
        let stop = CancellationToken::new();
        let task = tokio::spawn(owner.run(stop.clone(), is_assigned));
        TestNode {
            handle,
            assigned,
            stop,
            link,
            task,
        }
    }

    /// Submits a command that sets a counter with this version to a value.
    async fn submit(
        &mut self,
        node: &TestNode,
        key: &str,
        value: i64,
        version: i64,
    ) -> oneshot::Receiver<Result<Answer, Refusal>> {
        self.submitted += 1;
        let request = Request {
            key: key.into(),
            command: Invocation::Set { value },
            id: CommandId([self.submitted; 16]),
            hash: [self.submitted; 16],
            origin: Origin::Keyed,
            actor: "a test".into(),
            correlation_id: [self.submitted; 16],
            causation_id: None,
            traceparent: None,
            trace_id: None,
            expected_version: Some(version),
            received_at: self.environment.sim.wall(),
        };
        node.handle.submit(request).await.unwrap()
    }

    /// Appends a record that no owner wrote.
    fn append_foreign_record(&self) {
        let broker = &self.environment.broker;
        let (appender, _reports) = broker.open_appender(Arc::default(), 1);
        broker.append(appender, b"", b"foreign", 0).unwrap();
    }

    /// Sets a counter, and waits for the answer.
    async fn set(&mut self, node: &TestNode, key: &str, value: i64, version: i64) {
        let answer = self.submit(node, key, value, version).await.await.unwrap();
        let answer = answer.unwrap();
        assert_eq!(answer.version, version + 1, "{key}: {answer:?}");
    }
}

impl TestNode {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Waits for a status of its owner.
    async fn is(&self, expected: Status) {
        self.comes_to(|status| *status == expected).await;
    }

    /// Waits until its owner serves.
    async fn serves(&self) {
        self.comes_to(is_serving).await;
    }

    /// Waits for a status of its owner.
    async fn comes_to(&self, is_expected: impl FnMut(&Status) -> bool) {
        let mut status = self.handle.status();
        let reached = status.wait_for(is_expected);
        let reached = tokio::time::timeout(LONG_ENOUGH, reached)
            .await
            .map(|status| status.unwrap().clone());
        let last = self.handle.status().borrow().clone();
        assert!(
            reached.is_ok(),
            "the expected status did not come: {last:?}"
        );
    }

    /// Asserts that its owner does not serve at any time until [`LONG_ENOUGH`] has passed. Only time shows that
    /// something does not happen. It is virtual time, which passes when every task waits, so the result does
    /// not depend on the machine's speed.
    async fn does_not_serve_for_long(&self) {
        let mut status = self.handle.status();
        let served = tokio::time::timeout(LONG_ENOUGH, status.wait_for(is_serving)).await;
        assert!(served.is_err(), "the owner serves");
    }
}

fn is_serving(status: &Status) -> bool {
    matches!(status, Status::Serving { .. })
}

/// Lets every task run until it waits for a time or for another task: only then virtual time passes. No status
/// shows that an owner has taken a command from its queue.
async fn every_task_waits() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A node whose owner reads the end of the log: the last batch is partly folded, because the store has
/// an entry that can't be read; and a write of earlier changes is still in progress.
async fn in_mid_recovery() -> (Harness, Arc<UnrulyStore>, TestNode) {
    let (mut harness, store) = (Harness::new(), UnrulyStore::new());
    let first = harness.start(0, store.clone());
    for key in [B, C, D] {
        harness.set(&first, key, 1, 0).await;
    }
    first.stop().await;
    // The owner has none of the counters in memory.
    let node = harness.start(1, store.clone());
    store.is_open.send_replace(false);
    harness.set(&node, B, 2, 1).await;
    store.has_waiting_write().await;
    node.assigned.send_replace(false);
    let other = harness.start(2, Arc::new(Memory::default()));
    for version in 1..=MANY {
        let value = i64::try_from(2 + version % 2).unwrap();
        let version = i64::try_from(version).unwrap();
        harness.set(&other, D, value, version).await;
    }
    for version in 2..5 {
        harness.set(&other, B, version + 1, version).await;
    }
    harness.set(&other, C, 2, 1).await;
    other.stop().await;
    store.set_unreadable(Some(C));
    node.assigned.send_replace(true);
    node.does_not_serve_for_long().await;
    store.set_unreadable(None);
    (harness, store, node)
}

#[tokio::test(start_paused = true)]
async fn a_late_write_does_not_land_on_an_emptied_store() {
    let (mut harness, store, node) = in_mid_recovery().await;
    store.is_open.send_replace(true);
    harness.set(&node, B, 9, 5).await;
    node.stop().await;
    let next = harness.start(3, store);
    harness.set(&next, B, 8, 6).await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_recovery_starts_again() {
    let (mut harness, store, node) = in_mid_recovery().await;
    node.assigned.send_replace(false);
    // The write is still in progress.
    node.is(Status::Standby).await;
    store.is_open.send_replace(true);
    node.assigned.send_replace(true);
    node.serves().await;
    harness.set(&node, B, 9, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_partly_folded_batch_is_never_saved() {
    let (mut harness, store, node) = in_mid_recovery().await;
    node.stop.cancel();
    store.is_open.send_replace(true);
    node.task.await.unwrap();
    let next = harness.start(3, store);
    harness.set(&next, B, 9, 5).await;
}

/// An owner that steps down with a command in flight, and the receiver of that command's answer.
async fn stepping_down(
    harness: &mut Harness,
) -> (TestNode, oneshot::Receiver<Result<Answer, Refusal>>) {
    let node = harness.start(0, UnrulyStore::new());
    harness.set(&node, B, 1, 0).await;
    let mut answer = harness.submit(&node, B, 2, 1).await;
    every_task_waits().await;
    node.assigned.send_replace(false);
    node.is(Status::SteppingDown).await;
    assert!(
        answer.try_recv().is_err(),
        "no command is in flight any longer"
    );
    (node, answer)
}

#[tokio::test(start_paused = true)]
async fn an_owner_answers_all_commands_in_flight_before_it_stands_by() {
    let (node, mut answer) = stepping_down(&mut Harness::new()).await;
    node.is(Status::Standby).await;
    assert_eq!(answer.try_recv().unwrap().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_gets_the_partition_back_while_stepping_down_serves_again() {
    let mut harness = Harness::new();
    let (node, answer) = stepping_down(&mut harness).await;
    node.assigned.send_replace(true);
    assert_eq!(answer.await.unwrap().unwrap().version, 2);
    node.serves().await;
    harness.set(&node, B, 3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_stopped_while_stepping_down_answers_first() {
    let (node, answer) = stepping_down(&mut Harness::new()).await;
    node.stop().await;
    assert_eq!(answer.await.unwrap().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_clock_was_wrong_is_not_fenced_by_its_own_announcement() {
    let mut harness = Harness::new();
    let node = harness.start(0, UnrulyStore::new());
    harness.set(&node, B, 1, 0).await;
    let mut status = node.handle.status();
    node.link
        .clock_offset_us
        .store(20_000_000, Ordering::Relaxed);
    status
        .wait_for(
            |status| matches!(status, Status::Declined { reason, .. } if reason.contains("broker's")),
        )
        .await
        .unwrap();
    node.link.clock_offset_us.store(0, Ordering::Relaxed);
    loop {
        status.changed().await.unwrap();
        match &*status.borrow_and_update() {
            Status::Serving { .. } => break,
            Status::TakingOver(reason) | Status::Declined { reason, .. } => {
                assert!(!reason.starts_with("fenced"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    harness.set(&node, B, 2, 1).await;
}
