//! One node of a run: an owner with a clock, a store and a link to the broker of its own. It can be
//! killed, stopped, paused and started again.

use crate::{
    broker::{Link, PARTITION},
    coverage::CoveragePoint,
    environment::Environment,
    history::Leadership,
    log::SimLog,
    machine::{Counters, Invocation},
    process::{PauseSwitch, SuspendableProcess},
    store::SimStore,
    trace_format,
};
use journal::{
    owner::{Owner, OwnerHandle, OwnerParts, Status},
    protocol::OwnerProtocol,
};
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

/// Longest time for a node to stop on request; its owner promises a shorter time.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval at which a serving owner publishes its last proved record.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(5);

/// One node.
pub(super) struct Node<P> {
    pub number: usize,
    pub link: Arc<Link>,
    pub store: Arc<SimStore>,
    environment: Environment,
    is_assigned: AtomicBool,
    running: Mutex<Option<Running>>,
    protocol: PhantomData<fn() -> P>,
}

struct Running {
    handle: Arc<OwnerHandle<Invocation>>,
    switch: Arc<PauseSwitch>,
    stop: CancellationToken,
    assigned: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<P: OwnerProtocol> Node<P> {
    pub fn new(number: usize, environment: Environment) -> Self {
        Self {
            number,
            link: Arc::default(),
            store: Arc::new(SimStore::new(environment.sim.clone(), number)),
            environment,
            is_assigned: AtomicBool::new(false),
            running: Mutex::default(),
            protocol: PhantomData,
        }
    }

    /// Starts the node, unless it runs.
    pub fn start(&self) {
        let mut running = self.running.lock().expect("no holder panics");
        if running.is_some() {
            return;
        }
        let sim = &self.environment.sim;
        sim.note(|| format!("node {} starts", self.number));
        let log = SimLog::new(
            self.environment.broker.clone(),
            self.link.clone(),
            self.environment.registry.clone(),
        );
        let (owner, handle) = Owner::<_, _, P>::with_protocol(OwnerParts {
            machine: Counters,
            partition: PARTITION,
            encoder: self.environment.encoder.clone(),
            log,
            store: self.store.clone(),
            settings: self.environment.settings(self.number, &self.link),
        });
        let (stop, switch) = (CancellationToken::new(), Arc::new(PauseSwitch::default()));
        let (assigned, is_assigned) = watch::channel(self.is_assigned());
        let run = owner.run(stop.clone(), is_assigned);
        let handle = Arc::new(handle);
        let task = tokio::spawn(SuspendableProcess::new(run, switch.clone()));
        tokio::spawn(watch_status(
            self.number,
            handle.clone(),
            self.link.clone(),
            self.store.clone(),
            self.environment.clone(),
        ));
        *running = Some(Running {
            handle,
            switch,
            stop,
            assigned,
            task,
        });
    }

    /// The owner's handle; `None` while the node is down.
    pub fn handle(&self) -> Option<Arc<OwnerHandle<Invocation>>> {
        let running = self.running.lock().expect("no holder panics");
        running.as_ref().map(|running| running.handle.clone())
    }

    pub fn is_assigned(&self) -> bool {
        self.is_assigned.load(Ordering::Relaxed)
    }

    /// Assigns the partition to this node, or takes it away.
    pub fn assign(&self, is_assigned: bool) {
        self.is_assigned.store(is_assigned, Ordering::Relaxed);
        if let Some(running) = &*self.running.lock().expect("no holder panics") {
            running.assigned.send_replace(is_assigned);
        }
    }

    /// Kills the node, as SIGKILL does. Its appends in flight still arrive.
    pub async fn kill(&self) {
        let Some(running) = self.take() else { return };
        self.environment
            .sim
            .note(|| format!("node {} is killed", self.number));
        running.task.abort();
        self.check_end(running.task.await);
    }

    /// Stops the node, as SIGTERM does, and kills it if it does not end in time.
    pub async fn stop(&self) {
        let Some(mut running) = self.take() else {
            return;
        };
        self.environment
            .sim
            .note(|| format!("node {} gets a stop request", self.number));
        running.switch.resume();
        running.stop.cancel();
        match tokio::time::timeout(STOP_TIMEOUT, &mut running.task).await {
            Ok(ended) => self.check_end(ended),
            Err(_) => {
                let number = self.number;
                self.environment.sim.violate(format!(
                    "node {number} did not stop within {STOP_TIMEOUT:?}"
                ));
                running.task.abort();
            }
        }
    }

    /// Pauses the node, as SIGSTOP does.
    pub fn pause(&self) {
        self.environment
            .sim
            .note(|| format!("node {} is paused", self.number));
        if let Some(running) = &*self.running.lock().expect("no holder panics") {
            running.switch.pause();
        }
    }

    /// Resumes the node, as SIGCONT does.
    pub fn resume(&self) {
        self.environment
            .sim
            .note(|| format!("node {} is resumed", self.number));
        if let Some(running) = &*self.running.lock().expect("no holder panics") {
            running.switch.resume();
        }
    }

    /// Whether the node is up but its owner has ended.
    pub fn has_ended(&self) -> bool {
        self.handle()
            .is_some_and(|handle| matches!(&*handle.status().borrow(), Status::Ended(_)))
    }

    fn take(&self) -> Option<Running> {
        self.running.lock().expect("no holder panics").take()
    }

    fn check_end(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            let number = self.number;
            self.environment
                .sim
                .violate(format!("the owner of node {number} panicked: {error}"));
        }
    }
}

/// Follows the status of an owner.
async fn watch_status(
    node: usize,
    handle: Arc<OwnerHandle<Invocation>>,
    link: Arc<Link>,
    store: Arc<SimStore>,
    environment: Environment,
) {
    let (sim, mut status) = (&environment.sim, handle.status());
    loop {
        let current = status.borrow_and_update().clone();
        sim.note(|| match &current {
            Status::Serving { epoch, term } => {
                format!(
                    "node {node} serves: epoch {epoch}, term {}",
                    trace_format::id(term)
                )
            }
            other => format!("node {node}: {other:?}"),
        });
        match current {
            Status::Standby | Status::SteppingDown => {}
            Status::Serving { epoch, term } => {
                sim.count(CoveragePoint::TakeOver);
                if store.is_foreign() {
                    sim.violate(format!("node {node} serves from another log's store"));
                }
                let since_ms = sim.now_ms();
                environment.history.record_leadership(Leadership {
                    node,
                    epoch,
                    term,
                    since_ms,
                    clock_offset_us: link.clock_offset_us.load(Ordering::Relaxed),
                });
            }
            Status::TakingOver(reason) => {
                if reason.starts_with("barrier") {
                    sim.count(CoveragePoint::Barrier);
                } else if reason.starts_with("fenced") {
                    sim.count(CoveragePoint::Fencing);
                } else if store.is_foreign() && reason.contains("before the checkpoint") {
                    sim.count(CoveragePoint::StoreRefused);
                }
            }
            Status::Declined { reason, .. } if store.is_foreign() => {
                sim.count(CoveragePoint::StoreRefused);
                sim.note(|| format!("as expected: {reason}"));
            }
            Status::Declined { reason, .. } if reason.contains("clock") => {
                sim.count(CoveragePoint::ClockRefused);
            }
            Status::Declined { reason, .. } => {
                sim.violate(format!("the owner of node {node} declines: {reason}"));
            }
            Status::Ended(reason) if &*reason == "shutting down" => {}
            Status::Ended(reason) => {
                sim.violate(format!("the owner of node {node} ended: {reason}"));
            }
        }
        loop {
            if matches!(&*status.borrow(), Status::Serving { .. }) {
                environment.publish(handle.proved_record());
            }
            match tokio::time::timeout(PUBLISH_INTERVAL, status.changed()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
        }
    }
}
