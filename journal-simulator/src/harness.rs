//! A test harness for owners. The test controls the store, the link and the assignment of each owner.

use crate::{
    broker::Link,
    environment::Environment,
    log::SimLog,
    machine::{Counters, Invocation},
    sim::Sim,
};
use futures_util::future::ready;
use journal::{
    owner::{Answer, Owner, OwnerHandle, OwnerParts, OwnerSettings, Refusal, Request, Status},
    store::{
        Answered, Change, Entry, EntryKey, MakeChanges, Memory, StateStore, StoreError, Table,
    },
};
use schemas::{Origin, ids::CommandId};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// More virtual time than anything without the store needs.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// A store in memory. The test can delay its writes, and can make reads of one entry fail.
pub(crate) struct ControlledStore {
    store: Arc<Memory>,
    pub is_open: watch::Sender<bool>,
    /// Whether a write is waiting for `is_open`.
    is_write_waiting: watch::Sender<bool>,
    unreadable: Mutex<Option<&'static str>>,
}

impl ControlledStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            store: Arc::default(),
            is_open: watch::channel(true).0,
            is_write_waiting: watch::channel(false).0,
            unreadable: Mutex::default(),
        })
    }

    pub fn set_unreadable(&self, key: Option<&'static str>) {
        *self.unreadable.lock().unwrap() = key;
    }

    /// Returns once a write is waiting for `is_open`.
    pub async fn has_waiting_write(&self) {
        let mut is_waiting = self.is_write_waiting.subscribe();
        let is_waiting = is_waiting.wait_for(|is_waiting| *is_waiting);
        let is_waiting = tokio::time::timeout(LONG_ENOUGH, is_waiting).await;
        is_waiting
            .expect("the owner wrote nothing")
            .expect("the sender lives");
    }
}

impl StateStore for ControlledStore {
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

/// A node with one owner, and the controls of the test.
pub(crate) struct TestNode {
    pub handle: OwnerHandle<Invocation>,
    pub assigned: watch::Sender<bool>,
    pub stop: CancellationToken,
    pub link: Arc<Link>,
    pub task: JoinHandle<()>,
}

/// A log, and the commands sent so far.
pub(crate) struct Harness {
    pub environment: Environment,
    pub submitted: u8,
}

impl Harness {
    /// A harness without faults.
    pub fn new() -> Self {
        let sim = Arc::new(Sim::new(0, false));
        sim.end_faults();
        let environment = Environment::new(sim);
        Self {
            environment,
            submitted: 0,
        }
    }

    /// The harness of another partition, which another broker leads.
    pub fn beside(&self, partition: i32) -> Self {
        Self {
            environment: self.environment.beside(partition),
            submitted: 0,
        }
    }

    /// Starts an owner to which the partition is assigned.
    pub fn start(&self, number: usize, store: Arc<dyn StateStore>) -> TestNode {
        self.start_with(number, store, |_| ())
    }

    /// Starts an owner like [`Harness::start`], with changed settings.
    pub fn start_with(
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
        let partition = broker.partition;
        let log = SimLog::new(broker, link.clone(), registry);
        let (owner, handle) = Owner::new(OwnerParts {
            machine: Counters,
            partition,
            encoder: environment.encoder.clone(),
            log,
            store,
            settings,
        });
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

    /// Submits a command that sets a counter to a value, with `version` as the expected version.
    pub async fn submit(
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
    pub fn append_foreign_record(&self) {
        let broker = &self.environment.broker;
        let (appender, _reports) = broker.open_appender(Arc::default(), 1);
        broker.append(appender, b"", b"foreign", 0).unwrap();
    }

    /// Sets a counter, and waits for the answer.
    pub async fn set(&mut self, node: &TestNode, key: &str, value: i64, version: i64) {
        let answer = self.submit(node, key, value, version).await.await.unwrap();
        let answer = answer.unwrap();
        assert_eq!(answer.version, version + 1, "{key}: {answer:?}");
    }
}

impl TestNode {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Waits until its owner has this status.
    pub async fn is(&self, expected: Status) {
        self.reaches_status(|status| *status == expected).await;
    }

    /// Waits until its owner serves.
    pub async fn serves(&self) {
        self.reaches_status(is_serving).await;
    }

    /// Waits until its owner has an expected status.
    pub async fn reaches_status(&self, is_expected: impl FnMut(&Status) -> bool) {
        let mut status = self.handle.status();
        let reached = status.wait_for(is_expected);
        let reached = tokio::time::timeout(LONG_ENOUGH, reached)
            .await
            .map(|status| status.unwrap().clone());
        let last = self.handle.status().borrow().clone();
        assert!(
            reached.is_ok(),
            "the owner did not reach the expected status: {last:?}"
        );
    }

    /// Asserts that its owner does not serve within [`LONG_ENOUGH`]. The time is virtual: it passes only while every
    /// task waits, so the result does not depend on the machine's speed.
    pub async fn does_not_serve_for_long(&self) {
        let mut status = self.handle.status();
        let served = tokio::time::timeout(LONG_ENOUGH, status.wait_for(is_serving)).await;
        assert!(
            served.is_err(),
            "{served:?}, although the owner must not serve"
        );
    }
}

pub(crate) fn is_serving(status: &Status) -> bool {
    matches!(status, Status::Serving { .. })
}

/// Returns once every task waits for a timer or for another task, because virtual time passes only then. A test needs
/// this because no status shows that an owner has taken a command from its queue.
pub(crate) async fn every_task_waits() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
