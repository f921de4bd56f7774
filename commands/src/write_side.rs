//! What takes commands in a process: owners, the routes to owners elsewhere, and the group that says
//! who should own what.

use crate::{
    contexts::{catalog::Catalog, orders::Orders},
    identity::Hasher,
    outcome::problem,
    routing::{
        Directory, Router, announcer,
        assignment::{DRAIN_TIMEOUT, Duties, GROUP, HANDOVER_TIMEOUT, Unsound, topics},
        directory,
        fitness::Unfit,
        peer::Peers,
        router::{Offices, Parts},
    },
};
use axum::{extract::FromRequestParts, http::request::Parts as RequestParts};
use journal::{
    Kafka,
    owner::{Machine, Owner, OwnerHandle, OwnerSettings, Proved, Refusal, Status},
    store::Disk,
};
use kafka::{Encoder, GroupError, Hint, Membership, Publisher, publisher::PublishError};
use schemas::{
    CONTEXTS, Context, ContextEvent, context,
    owners::{Place, places},
};
use service::{
    health::{Component, Health},
    problem::Problem,
    shutdown::{SHUTDOWN_TIMEOUT, supervise},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(test)]
mod tests;

/// Longest time from a command's arrival to its answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest time from the end of the hand-over until owners and answers are given up: a broker that is
/// away would keep them for longer than a stop may take.
pub const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

// What is left is for connections to close.
const _: () = {
    let stop =
        HANDOVER_TIMEOUT.as_millis() + DRAIN_TIMEOUT.as_millis() + GIVE_UP_TIMEOUT.as_millis();
    assert!(stop + 1_000 <= SHUTDOWN_TIMEOUT.as_millis());
};

/// Everything that takes commands in this process.
#[derive(Clone)]
pub struct WriteSide {
    pub(crate) router: Router,
    /// Ends the reading of batches, which may otherwise go on for as long as their clients like.
    pub(crate) stop: CancellationToken,
    /// Ends the reading of what other nodes send.
    pub(crate) closing: CancellationToken,
}

/// A write side that can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The group can't be joined.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Entries of owners can't be published.
    #[error(transparent)]
    Publisher(#[from] PublishError),
    /// Other nodes can't be asked.
    #[error("the client for other nodes can't be made: {0}")]
    Client(String),
}

/// Where the write side will be once Kafka and the registry have answered. Until then its commands
/// are turned away.
#[derive(Clone, Default)]
pub struct Slot(Arc<OnceLock<WriteSide>>);

impl Slot {
    /// Lets commands in. Once.
    pub fn fill(&self, write_side: WriteSide) {
        if self.0.set(write_side).is_err() {
            tracing::error!("the write side was started twice; the first one stays");
        }
    }

    /// Whether commands are let in.
    pub fn is_filled(&self) -> bool {
        self.0.get().is_some()
    }
}

impl FromRequestParts<Slot> for WriteSide {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut RequestParts, slot: &Slot) -> Result<Self, Problem> {
        slot.0.get().cloned().ok_or_else(|| {
            let reason = "the service is starting and has not reached kafka and the registry yet";
            problem(Refusal::Unavailable(reason.into()))
        })
    }
}

/// What the write side needs of its process.
pub struct Process<'a> {
    /// Where journals are.
    pub log: Kafka,
    /// Where owners keep what they have folded.
    pub state: Disk,
    /// Gets a component per context.
    pub health: &'a Health,
    /// Where this process takes commands, as other nodes reach it.
    pub owner_url: String,
    /// This process's name in the group; the same after a restart.
    pub member: String,
    /// Topics that are not as they must be: nothing of them is owned.
    pub unsound: watch::Receiver<Unsound>,
    /// Gets the reason, should this process stop to make room for others.
    pub unfit: Unfit,
    /// Holds the tasks.
    pub tasks: &'a TaskTracker,
    /// Asks to stop: offices are handed over, while commands still come in and go on to their owners.
    pub stop: CancellationToken,
    /// Cancelled by the write side once it has handed over: nothing more may come in.
    pub closing: CancellationToken,
}

impl WriteSide {
    /// Starts an owner for every partition of every context, each on stand-by until the group assigns
    /// its partition to this process. `encoders` are those of the journals, by context.
    ///
    /// # Errors
    /// A client can't be made, which a wrong setting explains.
    pub fn start(
        process: &Process<'_>,
        encoders: impl Fn(&'static Context) -> Encoder,
        hasher: Hasher,
    ) -> Result<Self, StartError> {
        let publisher = Publisher::new(&process.log.source.kafka, "owners")?;
        let peers = Peers::new().map_err(|error| StartError::Client(error.to_string()))?;
        let (duties, assigned) = Duties::none(
            process.owner_url.clone(),
            process.unsound.clone(),
            process.unfit.clone(),
        );
        let given_up = CancellationToken::new();
        let mut assigned = places().zip(assigned).collect::<Vec<_>>();
        let mut take = |context: &Context| {
            let (of_context, rest) = std::mem::take(&mut assigned)
                .into_iter()
                .partition(|((topic, _), _)| *topic == context.topic);
            assigned = rest;
            of_context
        };
        let (known, directory) = Directory::empty();
        let router = Router::new(Parts {
            orders: start(
                process,
                &encoders,
                Orders,
                take(&context::ORDERS),
                &given_up,
            ),
            catalog: start(
                process,
                &encoders,
                Catalog,
                take(&context::CATALOG),
                &given_up,
            ),
            directory: directory.clone(),
            peers,
            own_url: process.owner_url.clone(),
            hasher,
            closing: process.closing.clone(),
            given_up: given_up.clone(),
        });
        process.spawn("end of answers", give_up(process.closing.clone(), given_up));
        let offices = router.offices();
        let (membership, hints) =
            Membership::join(&process.log.source.kafka, GROUP, &process.member, &topics())?;
        let (stop, closing) = (process.stop.clone(), process.closing.clone());
        process.spawn(
            "owners' directory",
            directory::read(process.log.source.clone(), known, closing.clone()),
        );
        process.spawn(
            "owners' entries",
            announcer::run(
                publisher,
                process.owner_url.clone(),
                offices.clone(),
                directory.clone(),
                closing.clone(),
            ),
        );
        let component = process.health.component("group");
        process.spawn(
            "group's health",
            watch_group(hints.clone(), component, stop.clone()),
        );
        for context in CONTEXTS {
            let component = process
                .health
                .component(format!("journal.{}", context.name));
            let watch = watch_routes(
                context,
                offices.clone(),
                directory.clone(),
                process.owner_url.clone(),
                component,
                stop.clone(),
            );
            process.spawn("routes' health", watch);
        }
        process.spawn(
            "assignment",
            duties.run(
                membership,
                hints,
                offices,
                directory,
                stop.clone(),
                closing.clone(),
            ),
        );
        Ok(Self {
            router,
            stop,
            closing,
        })
    }

    /// What this process's owner of a partition knows of its log; nothing, if it has read none of it.
    pub fn proved(&self, place: Place) -> Option<Proved> {
        self.router.proved(place)
    }
}

impl Process<'_> {
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(supervise(name, self.stop.clone(), task));
    }
}

/// Starts the owners of one context; each hears through its receiver whether it is to serve.
fn start<M: Machine + Copy>(
    process: &Process<'_>,
    encoders: impl Fn(&'static Context) -> Encoder,
    machine: M,
    assigned: Vec<(schemas::owners::Place, watch::Receiver<bool>)>,
    given_up: &CancellationToken,
) -> Vec<OwnerHandle<M::Command>> {
    let encoder = encoders(M::Event::CONTEXT);
    let mut handles = Vec::with_capacity(assigned.len());
    for ((_, partition), assigned) in assigned {
        let (owner, handle) = Owner::new(
            machine,
            partition,
            encoder.clone(),
            process.log.clone(),
            process.state.partition(M::Event::CONTEXT.topic, partition),
            OwnerSettings::new(process.owner_url.clone()),
        );
        handles.push(handle);
        let (closing, given_up) = (process.closing.clone(), given_up.clone());
        process.spawn("owner", async move {
            let run = owner.run(closing, assigned);
            if given_up.run_until_cancelled(run).await.is_none() {
                tracing::warn!(
                    topic = M::Event::CONTEXT.topic,
                    partition,
                    "an owner did not end in time; its next start reads more of the log"
                );
            }
        });
    }
    handles
}

/// Gives up what has not come to an end some time after `closing`.
async fn give_up(closing: CancellationToken, given_up: CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(GIVE_UP_TIMEOUT).await;
    given_up.cancel();
}

/// The group is well, unless it wants this member no more: brokers that are away are told of elsewhere.
async fn watch_group(
    mut hints: watch::Receiver<Hint>,
    component: Component,
    stop: CancellationToken,
) {
    loop {
        match hints.borrow_and_update().trouble.clone() {
            None => component.ready(),
            Some(trouble) => component.not_ready(trouble),
        }
        tokio::select! {
            changed = hints.changed() => if changed.is_err() {
                stop.cancelled().await;
            },
            () = stop.cancelled() => return,
        }
    }
}

/// A context is ready while each of its partitions has an owner in office, here or on another node, and
/// none here has ended.
async fn watch_routes(
    context: &'static Context,
    mut offices: Offices,
    mut directory: Directory,
    own_url: String,
    component: Component,
    stop: CancellationToken,
) {
    loop {
        let trouble = {
            let known = directory.known();
            let is_elsewhere = |place| known.owner(place).is_some_and(|entry| entry.url != own_url);
            let mut owners = offices
                .all()
                .filter(|((topic, _), _)| *topic == context.topic);
            owners.find_map(|(place, status)| match status {
                Status::InOffice { .. } => None,
                // Whoever served before may serve on, but this process keeps the partition from others.
                Status::Ended(reason) => Some(format!("partition {}: {reason}", place.1)),
                Status::Standby | Status::TakingOver(_) | Status::Leaving
                    if is_elsewhere(place) =>
                {
                    None
                }
                Status::Standby | Status::Leaving => {
                    Some(format!("partition {}: no owner is known", place.1))
                }
                Status::TakingOver(reason) => Some(format!("partition {}: {reason}", place.1)),
            })
        };
        match trouble {
            None => component.ready(),
            Some(reason) => component.not_ready(reason),
        }
        tokio::select! {
            () = offices.changed() => {}
            () = directory.changed() => {}
            () = stop.cancelled() => return component.not_ready("shutting down"),
        }
    }
}
