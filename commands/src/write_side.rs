//! Finds the owner of a command's aggregate and gets its answer.

use crate::outcome::problem;
use crate::{
    contexts::{
        catalog::Catalog,
        orders::{self, Orders},
    },
    identity::{Hasher, IdempotencyKey, Principal},
    wire::FieldError,
};
use axum::{extract::FromRequestParts, http::request::Parts};
use domain::product;
use journal::{
    Kafka,
    owner::{
        Answer, Machine, Owner, OwnerHandle, OwnerSettings, Refusal, Request, Status, machine_clock,
    },
    store::Disk,
};
use kafka::Encoder;
use schemas::{Context, ContextEvent, Origin, topics::PARTITIONS};
use serde::Serialize;
use service::{
    health::{Component, Health},
    problem::Problem,
    shutdown::supervise,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(test)]
mod tests;

/// Longest time from a command's arrival to its answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Everything that takes commands in this process.
#[derive(Clone)]
pub struct WriteSide {
    pub(crate) orders: Arc<[OwnerHandle<orders::Command>]>,
    pub(crate) catalog: Arc<[OwnerHandle<product::Command>]>,
    hasher: Hasher,
    /// Ends the reading of batches, which may otherwise go on for as long as their clients like.
    pub(crate) stop: CancellationToken,
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
}

impl FromRequestParts<Slot> for WriteSide {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, slot: &Slot) -> Result<Self, Problem> {
        slot.0.get().cloned().ok_or_else(|| {
            let reason = "the service is starting and has not reached kafka and the registry yet";
            problem(Refusal::Unavailable(reason.into()))
        })
    }
}

/// What an owner needs of its process.
pub struct Process<'a> {
    /// Where journals are.
    pub log: Kafka,
    /// Where owners keep what they have folded.
    pub state: Disk,
    /// Gets a component per context.
    pub health: &'a Health,
    /// Where this process takes commands.
    pub owner_url: String,
    /// Holds the tasks.
    pub tasks: &'a TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// Who asks for what, under which key, on which condition.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The command's name, such as `CreateProduct`.
    pub route: &'static str,
    /// Who asks.
    pub principal: &'a Principal,
    /// The client's name for it.
    pub key: Option<&'a IdempotencyKey>,
    /// `If-Match`.
    pub expected_version: Option<i64>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// The answer to come.
pub type Coming = oneshot::Receiver<Result<Answer, Refusal>>;

impl WriteSide {
    /// Starts an owner for every partition of every context. `encoders` are those of
    /// [`crate::contexts`]' journals, by context.
    pub fn start(
        process: &Process<'_>,
        encoders: impl Fn(&'static Context) -> Encoder,
        hasher: Hasher,
    ) -> Self {
        Self {
            orders: start(process, &encoders, Orders),
            catalog: start(process, &encoders, Catalog),
            hasher,
            stop: process.stop.clone(),
        }
    }

    /// A request about the aggregate that its command creates: its id is made of the command's.
    pub(crate) fn creation<C>(
        &self,
        ask: &Ask<'_>,
        aggregate_type: &str,
        body: &impl Serialize,
        command: C,
    ) -> Result<Request<C>, FieldError> {
        let id = ask.principal.command_id(ask.route, ask.key);
        // A TypeID is `<type>_<suffix>`, which is a record's key as it stands.
        self.request(ask, id.aggregate_id(aggregate_type), body, id, command)
    }

    /// A request about a given aggregate.
    pub(crate) fn about<C>(
        &self,
        ask: &Ask<'_>,
        key: String,
        body: &impl Serialize,
        command: C,
    ) -> Result<Request<C>, FieldError> {
        let id = ask.principal.command_id(ask.route, ask.key);
        self.request(ask, key, body, id, command)
    }

    fn request<C>(
        &self,
        ask: &Ask<'_>,
        key: String,
        body: &impl Serialize,
        id: schemas::ids::CommandId,
        command: C,
    ) -> Result<Request<C>, FieldError> {
        let hash = self
            .hasher
            .hash(ask.route, body)
            .map_err(|error| FieldError {
                field: "body".into(),
                reason: format!("has no canonical form: {error}"),
            })?;
        Ok(Request {
            key,
            command,
            id,
            hash,
            origin: if ask.key.is_some() {
                Origin::Keyed
            } else {
                Origin::Server
            },
            actor: ask.principal.0.clone(),
            // A command from outside begins a story of its own.
            correlation_id: id.0,
            causation_id: None,
            traceparent: ask.traceparent.clone(),
            expected_version: ask.expected_version,
            received_at: machine_clock(),
        })
    }
}

/// Hands a request to the owner of its key's partition; waits for room in the owner's queue until
/// `deadline`.
pub(crate) async fn submit<C>(
    owners: &[OwnerHandle<C>],
    request: Request<C>,
    deadline: Instant,
) -> Result<Coming, Refusal> {
    let partition = kafka::partition::of_key(request.key.as_bytes(), PARTITIONS);
    let owner = usize::try_from(partition)
        .ok()
        .and_then(|index| owners.get(index))
        .expect("there is an owner for every partition");
    match tokio::time::timeout_at(deadline, owner.submit(request)).await {
        Ok(submitted) => submitted,
        Err(_) => Err(Refusal::Unavailable("its owner's queue is full".into())),
    }
}

/// Waits for an answer until `deadline`.
pub(crate) async fn answer(coming: Coming, deadline: Instant) -> Result<Answer, Refusal> {
    match tokio::time::timeout_at(deadline, coming).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Refusal::Unavailable("the owner has ended".into())),
        Err(_) => Err(Refusal::Unavailable(format!(
            "no answer within {ANSWER_TIMEOUT:?}"
        ))),
    }
}

/// Starts the owners of one context, and keeps its health.
fn start<M: Machine + Copy>(
    process: &Process<'_>,
    encoders: impl Fn(&'static Context) -> Encoder,
    machine: M,
) -> Arc<[OwnerHandle<M::Command>]> {
    let context = M::Event::CONTEXT;
    let encoder = encoders(context);
    let mut handles = Vec::new();
    let mut statuses = Vec::new();
    for partition in 0..PARTITIONS {
        let (owner, handle) = Owner::new(
            machine,
            partition,
            encoder.clone(),
            process.log.clone(),
            process.state.partition(context.topic, partition),
            OwnerSettings::new(process.owner_url.clone()),
        );
        statuses.push(handle.status());
        handles.push(handle);
        // One process owns everything, so far.
        let (assign, assigned) = watch::channel(true);
        let run = owner.run(process.stop.clone(), assigned);
        let task = async move {
            run.await;
            drop(assign);
        };
        process
            .tasks
            .spawn(supervise("owner", process.stop.clone(), task));
    }
    let component = process
        .health
        .component(format!("journal.{}", context.name));
    let watch = watch_owners(statuses, component, process.stop.clone());
    process
        .tasks
        .spawn(supervise("owners' health", process.stop.clone(), watch));
    handles.into()
}

/// A context is ready while all its partitions are served.
async fn watch_owners(
    mut statuses: Vec<watch::Receiver<Status>>,
    component: Component,
    stop: CancellationToken,
) {
    let mut ended = false;
    loop {
        let trouble =
            statuses
                .iter_mut()
                .enumerate()
                .find_map(|(partition, status)| match &*status.borrow_and_update() {
                    Status::InOffice { .. } => None,
                    Status::Standby => Some(format!("partition {partition}: stands by")),
                    Status::TakingOver(reason) | Status::Ended(reason) => {
                        Some(format!("partition {partition}: {reason}"))
                    }
                });
        match trouble {
            None => component.ready(),
            Some(reason) => component.not_ready(reason),
        }
        if ended {
            return;
        }
        let changes = statuses.iter_mut().map(|status| Box::pin(status.changed()));
        tokio::select! {
            (changed, _, _) = futures_util::future::select_all(changes) => {
                // Its last word stays: why it ended.
                ended = changed.is_err();
            }
            () = stop.cancelled() => return component.not_ready("shutting down"),
        }
    }
}
