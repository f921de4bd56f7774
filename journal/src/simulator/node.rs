//! One process of a run: an owner with a clock, a store and a way to the broker of its own. It can be
//! killed, stopped, paused and started again.

use super::{
    book::{Book, Office},
    broker::{Broker, Link, PARTITION},
    log::SimLog,
    machine::{Ask, Prices},
    pausable::{Gate, Pausable},
    show,
    store::SimStore,
    tally::Happening,
    world::World,
};
use crate::{
    owner::{Owner, OwnerHandle, OwnerSettings, Status},
    protocol::Protocol,
};
use kafka::{Encoder, Registry};
use schemas::Timestamp;
use std::{
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long a process that was told to stop may take; its owner promises less.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What every process of a run is made of.
#[derive(Clone)]
pub(super) struct Parts {
    pub world: Arc<World>,
    pub broker: Arc<Broker>,
    pub book: Arc<Book>,
    pub registry: Registry,
    pub encoder: Encoder,
}

/// One process.
pub(super) struct Node<P> {
    pub number: usize,
    pub link: Arc<Link>,
    pub store: Arc<SimStore>,
    parts: Parts,
    is_assigned: AtomicBool,
    running: Mutex<Option<Running>>,
    protocol: PhantomData<fn() -> P>,
}

struct Running {
    handle: Arc<OwnerHandle<Ask>>,
    gate: Arc<Gate>,
    stop: CancellationToken,
    assigned: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Parts {
    /// What the owner of a process knows of it.
    pub fn settings(&self, number: usize, link: &Arc<Link>) -> OwnerSettings {
        let (world, link) = (self.world.clone(), link.clone());
        let clock = move || {
            let offset_us = link.clock_offset_us.load(Ordering::Relaxed);
            Timestamp(world.wall().0 + offset_us)
        };
        let (uptime, world) = (self.world.clone(), self.world.clone());
        OwnerSettings {
            owner_url: format!("node {number}"),
            clock: Arc::new(clock),
            uptime: Arc::new(move || uptime.uptime()),
            fresh_term: Arc::new(move || world.dice().id()),
        }
    }
}

impl<P: Protocol> Node<P> {
    pub fn new(number: usize, parts: Parts) -> Self {
        Self {
            number,
            link: Arc::default(),
            store: Arc::new(SimStore::new(parts.world.clone(), number)),
            parts,
            is_assigned: AtomicBool::new(false),
            running: Mutex::default(),
            protocol: PhantomData,
        }
    }

    /// Starts the process, unless it runs.
    pub fn start(&self) {
        let mut running = self.running.lock().expect("no holder panics");
        if running.is_some() {
            return;
        }
        let world = &self.parts.world;
        world.note(|| format!("node {} starts", self.number));
        let log: SimLog<P> = SimLog::new(
            self.parts.broker.clone(),
            self.link.clone(),
            self.parts.registry.clone(),
        );
        let encoder = self.parts.encoder.clone();
        let (owner, handle) = Owner::new(
            Prices,
            PARTITION,
            encoder,
            log,
            self.store.clone(),
            self.parts.settings(self.number, &self.link),
        );
        let (stop, gate) = (CancellationToken::new(), Arc::new(Gate::default()));
        let (assigned, is_assigned) = watch::channel(self.is_assigned());
        let run = owner.run(stop.clone(), is_assigned);
        let task = tokio::spawn(Pausable::new(run, gate.clone()));
        tokio::spawn(watch_status(
            self.number,
            handle.status(),
            self.link.clone(),
            self.store.clone(),
            self.parts.clone(),
        ));
        *running = Some(Running {
            handle: Arc::new(handle),
            gate,
            stop,
            assigned,
            task,
        });
    }

    /// Where commands go; `None` while the process is down.
    pub fn handle(&self) -> Option<Arc<OwnerHandle<Ask>>> {
        let running = self.running.lock().expect("no holder panics");
        running.as_ref().map(|running| running.handle.clone())
    }

    pub fn is_assigned(&self) -> bool {
        self.is_assigned.load(Ordering::Relaxed)
    }

    /// Tells it whether the partition is its own.
    pub fn assign(&self, is_assigned: bool) {
        self.is_assigned.store(is_assigned, Ordering::Relaxed);
        if let Some(running) = &*self.running.lock().expect("no holder panics") {
            running.assigned.send_replace(is_assigned);
        }
    }

    /// As SIGKILL: what it appended is on its way all the same.
    pub async fn kill(&self) {
        let Some(running) = self.take() else { return };
        self.parts
            .world
            .note(|| format!("node {} is killed", self.number));
        running.task.abort();
        self.see_out(running.task.await);
    }

    /// As SIGTERM, and SIGKILL if that does not end it in time.
    pub async fn stop(&self) {
        let Some(mut running) = self.take() else {
            return;
        };
        self.parts
            .world
            .note(|| format!("node {} is told to stop", self.number));
        running.gate.open();
        running.stop.cancel();
        match tokio::time::timeout(STOP_TIMEOUT, &mut running.task).await {
            Ok(ended) => self.see_out(ended),
            Err(_) => {
                let number = self.number;
                self.parts.world.violate(format!(
                    "node {number} did not stop within {STOP_TIMEOUT:?}"
                ));
                running.task.abort();
            }
        }
    }

    /// As SIGSTOP.
    pub fn pause(&self) {
        self.parts
            .world
            .note(|| format!("node {} stands still", self.number));
        if let Some(running) = &*self.running.lock().expect("no holder panics") {
            running.gate.shut();
        }
    }

    /// As SIGCONT.
    pub fn resume(&self) {
        self.parts
            .world
            .note(|| format!("node {} goes on", self.number));
        if let Some(running) = &*self.running.lock().expect("no holder panics") {
            running.gate.open();
        }
    }

    /// Whether the process is up but its owner gave up.
    pub fn has_ended(&self) -> bool {
        self.handle()
            .is_some_and(|handle| matches!(&*handle.status().borrow(), Status::Ended(_)))
    }

    fn take(&self) -> Option<Running> {
        self.running.lock().expect("no holder panics").take()
    }

    fn see_out(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            let number = self.number;
            self.parts
                .world
                .violate(format!("the owner of node {number} panicked: {error}"));
        }
    }
}

/// Follows what an owner says of itself.
async fn watch_status(
    node: usize,
    mut status: watch::Receiver<Status>,
    link: Arc<Link>,
    store: Arc<SimStore>,
    parts: Parts,
) {
    let world = &parts.world;
    loop {
        let told = status.borrow_and_update().clone();
        world.note(|| match &told {
            Status::InOffice { epoch, term } => {
                format!(
                    "node {node} is in office: epoch {epoch}, term {}",
                    show::id(term)
                )
            }
            other => format!("node {node}: {other:?}"),
        });
        match told {
            Status::Standby | Status::Leaving => {}
            Status::InOffice { epoch, term } => {
                world.count(Happening::TakeOver);
                if store.is_foreign() {
                    world.violate(format!("node {node} serves from another log's store"));
                }
                let since_ms = world.now_ms();
                parts.book.take_office(Office {
                    node,
                    epoch,
                    term,
                    since_ms,
                    clock_offset_us: link.clock_offset_us.load(Ordering::Relaxed),
                });
            }
            Status::TakingOver(reason) => {
                if reason.starts_with("barrier") {
                    world.count(Happening::Barrier);
                } else if reason.starts_with("deposed") {
                    world.count(Happening::Deposition);
                } else if reason.contains("clock") {
                    world.count(Happening::ClockRefused);
                }
            }
            Status::Ended(reason) if store.is_foreign() => {
                world.count(Happening::StoreRefused);
                world.note(|| format!("rightly: {reason}"));
            }
            Status::Ended(reason) if &*reason == "shutting down" => {}
            Status::Ended(reason) => {
                world.violate(format!("the owner of node {node} gave up: {reason}"));
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
