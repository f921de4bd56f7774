//! Courses of events that chance meets too seldom to count on: a state store that can't be read while
//! it is being written or that is of another log, an office that is left with something under way, a
//! clock that is wrong for a while. No faults but those.

use super::{
    broker::{Link, PARTITION},
    log::SimLog,
    machine::{Ask, Prices},
    node::Parts,
    run::parts,
    world::World,
};
use crate::{
    owner::{Answer, Owner, OwnerHandle, Refusal, Request, Status},
    protocol::Sound,
    store::{Change, Entry, MakeChanges, Memory, STAMP_KEY, StateStore, StoreError, Table},
};
use futures_util::future::BoxFuture;
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

const B: &str = "product_B";
const C: &str = "product_C";
const D: &str = "product_D";
/// More than are read of the log at once.
const MANY: usize = 45;
/// Time enough for whatever can happen without the store.
const A_WHILE: Duration = Duration::from_secs(20);

/// A store whose writes wait, and of which an entry can't be read, as told.
struct Unruly {
    kept: Memory,
    is_open: watch::Sender<bool>,
    unreadable: Mutex<Option<&'static str>>,
}

impl Unruly {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Memory::default(),
            is_open: watch::channel(true).0,
            unreadable: Mutex::default(),
        })
    }

    fn break_entry(&self, key: Option<&'static str>) {
        *self.unreadable.lock().unwrap() = key;
    }
}

impl StateStore for Unruly {
    fn stamp(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.kept.stamp()
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let broken = *self.unreadable.lock().unwrap();
        match broken.filter(|broken| broken.as_bytes() == key) {
            Some(_) => Err(StoreError::Unreadable {
                partition: "the only one".into(),
                reason: "a block is torn".into(),
            }),
            None => self.kept.get(table, key),
        }
    }

    fn first(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.kept.first(table, start, end, count)
    }

    fn write(self: Arc<Self>, changes: MakeChanges) -> BoxFuture<'static, Result<(), StoreError>> {
        let changes: Vec<Change> = changes();
        let mut is_open = self.is_open.subscribe();
        Box::pin(async move {
            is_open.wait_for(|is_open| *is_open).await.unwrap();
            self.kept.apply(changes);
            Ok(())
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.kept.clear()
    }
}

/// One owner, and its process's hands on it.
struct Process {
    handle: OwnerHandle<Ask>,
    assigned: watch::Sender<bool>,
    stop: CancellationToken,
    link: Arc<Link>,
    task: JoinHandle<()>,
}

/// A log, and who is asked what.
struct Scene {
    parts: Parts,
    asked: u8,
}

impl Scene {
    /// One without faults of its own.
    fn new() -> Self {
        let world = Arc::new(World::new(0, false));
        world.calm_down();
        let parts = parts(world);
        Self { parts, asked: 0 }
    }

    /// Starts an owner that is assigned the partition.
    fn start(&self, number: usize, store: Arc<dyn StateStore>) -> Process {
        let parts = &self.parts;
        let link = Arc::new(Link::default());
        let settings = parts.settings(number, &link);
        let (broker, registry) = (parts.broker.clone(), parts.registry.clone());
        let log: SimLog<Sound> = SimLog::new(broker, link.clone(), registry);
        let encoder = parts.encoder.clone();
        let (owner, handle) = Owner::new(Prices, PARTITION, encoder, log, store, settings);
        let (assigned, is_assigned) = watch::channel(true);
        let stop = CancellationToken::new();
        let task = tokio::spawn(owner.run(stop.clone(), is_assigned));
        Process {
            handle,
            assigned,
            stop,
            link,
            task,
        }
    }

    /// Hands a command in: set the price of a product whose version is so.
    async fn ask(
        &mut self,
        process: &Process,
        key: &str,
        price: i64,
        version: i64,
    ) -> oneshot::Receiver<Result<Answer, Refusal>> {
        self.asked += 1;
        let request = Request {
            key: key.into(),
            command: Ask::Set { price },
            id: CommandId([self.asked; 16]),
            hash: [self.asked; 16],
            origin: Origin::Keyed,
            actor: "a test".into(),
            correlation_id: [self.asked; 16],
            causation_id: None,
            traceparent: None,
            expected_version: Some(version),
            received_at: self.parts.world.wall(),
        };
        process.handle.submit(request).await.unwrap()
    }

    /// The same, and the price is set.
    async fn set(&mut self, process: &Process, key: &str, price: i64, version: i64) {
        let answer = self.ask(process, key, price, version).await.await.unwrap();
        let answer = answer.unwrap();
        assert_eq!(answer.version, version + 1, "{key}: {answer:?}");
    }
}

impl Process {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Waits until its owner says so.
    async fn is(&self, expected: Status) {
        let mut status = self.handle.status();
        let told = status.wait_for(|status| *status == expected);
        let told = tokio::time::timeout(A_WHILE, told).await;
        assert!(told.is_ok(), "never: {expected:?}");
    }

    fn is_in_office(&self) -> bool {
        matches!(&*self.handle.status().borrow(), Status::InOffice { .. })
    }
}

/// A process whose owner reads the end of the log: the last batch is folded in part, for the store has
/// an entry that can't be read; and a write of what came before is still under way.
async fn in_mid_recovery() -> (Scene, Arc<Unruly>, Process) {
    let (mut scene, store) = (Scene::new(), Unruly::new());
    let first = scene.start(0, store.clone());
    for key in [B, C, D] {
        scene.set(&first, key, 1, 0).await;
    }
    first.stop().await;
    // It remembers none of them.
    let process = scene.start(1, store.clone());
    store.is_open.send_replace(false);
    scene.set(&process, B, 2, 1).await;
    tokio::time::sleep(A_WHILE).await;
    process.assigned.send_replace(false);
    let other = scene.start(2, Arc::new(Memory::default()));
    for version in 1..=MANY {
        let price = i64::try_from(2 + version % 2).unwrap();
        let version = i64::try_from(version).unwrap();
        scene.set(&other, D, price, version).await;
    }
    for version in 2..5 {
        scene.set(&other, B, version + 1, version).await;
    }
    scene.set(&other, C, 2, 1).await;
    other.stop().await;
    store.break_entry(Some(C));
    process.assigned.send_replace(true);
    tokio::time::sleep(A_WHILE).await;
    assert!(!process.is_in_office(), "it read what can't be read");
    store.break_entry(None);
    (scene, store, process)
}

#[tokio::test(start_paused = true)]
async fn what_is_written_late_does_not_land_on_an_emptied_store() {
    let (mut scene, store, process) = in_mid_recovery().await;
    store.is_open.send_replace(true);
    scene.set(&process, B, 9, 5).await;
    process.stop().await;
    let next = scene.start(3, store);
    scene.set(&next, B, 8, 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_was_interrupted_begins_again() {
    let (mut scene, store, process) = in_mid_recovery().await;
    process.assigned.send_replace(false);
    // The write is still under way.
    tokio::time::sleep(A_WHILE).await;
    store.is_open.send_replace(true);
    process.assigned.send_replace(true);
    tokio::time::sleep(A_WHILE).await;
    assert!(process.is_in_office());
    scene.set(&process, B, 9, 5).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_folded_in_part_is_never_saved() {
    let (mut scene, store, process) = in_mid_recovery().await;
    process.stop.cancel();
    store.is_open.send_replace(true);
    process.task.await.unwrap();
    let next = scene.start(3, store);
    scene.set(&next, B, 9, 5).await;
}

/// An owner that was told to leave with a command under way, and that command's answer to come.
async fn leaving(scene: &mut Scene) -> (Process, oneshot::Receiver<Result<Answer, Refusal>>) {
    let process = scene.start(0, Unruly::new());
    scene.set(&process, B, 1, 0).await;
    let mut answer = scene.ask(&process, B, 2, 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    process.assigned.send_replace(false);
    process.is(Status::Leaving).await;
    assert!(answer.try_recv().is_err(), "nothing is under way any more");
    (process, answer)
}

#[tokio::test(start_paused = true)]
async fn an_owner_leaves_until_all_that_was_under_way_is_answered() {
    let (process, mut answer) = leaving(&mut Scene::new()).await;
    process.is(Status::Standby).await;
    assert_eq!(answer.try_recv().unwrap().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_gets_the_partition_back_while_it_leaves_serves_on() {
    let mut scene = Scene::new();
    let (process, answer) = leaving(&mut scene).await;
    process.assigned.send_replace(true);
    assert_eq!(answer.await.unwrap().unwrap().version, 2);
    tokio::time::sleep(A_WHILE).await;
    scene.set(&process, B, 3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_stopped_while_it_leaves_answers_first() {
    let (process, answer) = leaving(&mut Scene::new()).await;
    process.stop().await;
    assert_eq!(answer.await.unwrap().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_the_store_of_another_log_does_not_announce_itself() {
    let (mut scene, store) = (Scene::new(), Arc::new(Memory::default()));
    let first = scene.start(0, store.clone());
    scene.set(&first, B, 1, 0).await;
    first.stop().await;
    let stamp = store.stamp().unwrap().unwrap();
    let mut stamp: serde_json::Value = serde_json::from_slice(&stamp).unwrap();
    stamp["checkpoint"]["hash"] = "5a".repeat(32).into();
    store.apply(vec![Change {
        table: Table::Meta,
        key: STAMP_KEY.to_vec(),
        value: Some(stamp.to_string().into_bytes()),
    }]);
    let end = scene.parts.broker.end();
    let next = scene.start(1, store);
    tokio::time::sleep(A_WHILE).await;
    let status = next.handle.status().borrow().clone();
    assert!(matches!(status, Status::Ended(_)), "{status:?}");
    assert_eq!(scene.parts.broker.end(), end);
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_clock_was_wrong_does_not_take_itself_for_deposed() {
    let mut scene = Scene::new();
    let process = scene.start(0, Unruly::new());
    scene.set(&process, B, 1, 0).await;
    let mut status = process.handle.status();
    process
        .link
        .clock_offset_us
        .store(20_000_000, Ordering::Relaxed);
    status
        .wait_for(
            |status| matches!(status, Status::TakingOver(reason) if reason.contains("broker's")),
        )
        .await
        .unwrap();
    process.link.clock_offset_us.store(0, Ordering::Relaxed);
    loop {
        status.changed().await.unwrap();
        match &*status.borrow_and_update() {
            Status::InOffice { .. } => break,
            Status::TakingOver(reason) => assert!(!reason.starts_with("deposed"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    scene.set(&process, B, 2, 1).await;
}
