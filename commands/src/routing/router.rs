//! Sends a command to the owner of its partition, on this node or another one, and makes another attempt if
//! that fails. Every attempt has the same command id, so the command is decided once however often it
//! arrives.

use super::{
    Directory,
    attempt::{DispatchOutcome, InFlight, ReplyFuture, Route},
    in_flight::{AttemptOutcome, BACKOFF_TIME, InFlightCommand, PAUSE_MAX, choose_owner},
    meters::{Meters, TopicMeters},
    node_client::NodeClients,
    node_protocol::{Forward, line},
};
use crate::{
    envelope::CommandEnvelope,
    identity::HashError,
    identity::Hasher,
    owners::{AnswerReceiver, OwnerPool, OwnerStatuses, TypedCommand},
};
use journal::owner::{Answer, Proved, Refusal, Status};
use schemas::{
    owners::{Entry, ProvedRecord},
    topics::{PartitionCounts, TopicPartition},
};
use std::{collections::BTreeMap, sync::Arc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// Finds owners, and sends commands to them.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

/// The dependencies of a router.
pub struct RouterConfig {
    /// The owners of this node, one pool per context.
    pub pools: Vec<Arc<dyn OwnerPool>>,
    /// The number of partitions of each journal.
    pub partitions: PartitionCounts,
    /// The owners on other nodes.
    pub directory: Directory,
    /// The connections to other nodes.
    pub node_clients: NodeClients,
    /// The URL at which this node takes commands from other nodes.
    pub own_url: String,
    /// Hashes commands.
    pub hasher: Hasher,
    /// Once cancelled, no command waits for an owner any more.
    pub closing: CancellationToken,
    /// Once cancelled, no command waits for its answer any more.
    pub given_up: CancellationToken,
}

struct Inner {
    pools: BTreeMap<&'static str, Arc<dyn OwnerPool>>,
    partitions: PartitionCounts,
    directory: Directory,
    node_clients: NodeClients,
    own_url: String,
    hasher: Hasher,
    /// The fingerprint of the hasher's key.
    hash_key: String,
    closing: CancellationToken,
    given_up: CancellationToken,
    statuses: OwnerStatuses,
    meters: Meters,
}

impl Router {
    /// A router over started owners.
    pub fn new(config: RouterConfig) -> Self {
        let statuses = OwnerStatuses::of_pools(&config.pools);
        let pools = config.pools.into_iter();
        let pools: BTreeMap<_, _> = pools.map(|pool| (pool.context().topic, pool)).collect();
        let meters = Meters::new(pools.keys().copied());
        Self {
            inner: Arc::new(Inner {
                pools,
                partitions: config.partitions,
                directory: config.directory,
                node_clients: config.node_clients,
                own_url: config.own_url,
                hash_key: config.hasher.fingerprint(),
                hasher: config.hasher,
                closing: config.closing,
                given_up: config.given_up,
                statuses,
                meters,
            }),
        }
    }

    /// The statuses of the owners on this node.
    pub fn statuses(&self) -> &OwnerStatuses {
        &self.inner.statuses
    }

    /// The metrics of a journal's routes.
    pub(crate) fn meters(&self, topic: &str) -> &TopicMeters {
        self.inner.meters.of(topic)
    }

    /// The log of a partition as far as the owner on this node has proved it, whether it serves or not.
    pub fn proved(&self, partition: TopicPartition) -> Option<Proved> {
        let pool = self.inner.pools.get(partition.topic)?;
        *pool.proved(partition.partition)?.borrow()
    }

    /// The last valid record of a partition that the owner on this node knows.
    pub fn proved_record(&self, partition: TopicPartition) -> Option<ProvedRecord> {
        let pool = self.inner.pools.get(partition.topic)?;
        pool.proved_record(partition.partition)
    }

    /// The fingerprint of this node's hash key.
    pub fn hash_key(&self) -> &str {
        &self.inner.hash_key
    }

    /// The owner of a partition according to the directory.
    pub fn owner(&self, partition: TopicPartition) -> Option<Entry> {
        self.inner.directory.known().owner(partition).cloned()
    }

    /// A command before its first attempt, with an answer due at `deadline`.
    ///
    /// # Errors
    /// The body has no canonical JSON form.
    pub fn in_flight(
        &self,
        command: CommandEnvelope,
        deadline: Instant,
    ) -> Result<InFlightCommand, HashError> {
        let typed = self.prepare(&command)?;
        Ok(InFlightCommand::new(command, typed, deadline))
    }

    /// Converts a command to its context's own types.
    ///
    /// # Errors
    /// The body has no canonical JSON form.
    pub(crate) fn prepare(&self, command: &CommandEnvelope) -> Result<TypedCommand, HashError> {
        command.prepare(&self.inner.hasher, &self.inner.partitions)
    }

    /// Sends one command to its owner, and returns the answer.
    ///
    /// # Errors
    /// [`Refusal`]: the owner refused the command, or no owner answered it before its deadline.
    pub async fn run(&self, mut command: InFlightCommand) -> Result<Answer, Refusal> {
        loop {
            let mut in_flight = match self.dispatch(&mut command, None).await? {
                DispatchOutcome::InFlight(in_flight) => in_flight,
                DispatchOutcome::RouteChanged => continue,
            };
            let outcome = in_flight.outcome(command.deadline).await;
            if let Some(answered) = self.record_outcome(&mut command, outcome) {
                return answered;
            }
        }
    }

    /// Records the outcome of an attempt; returns the command's answer, if there is one now.
    pub fn record_outcome(
        &self,
        command: &mut InFlightCommand,
        outcome: AttemptOutcome,
    ) -> Option<Result<Answer, Refusal>> {
        if matches!(outcome, AttemptOutcome::Retry(_)) {
            self.meters(command.target.topic).retries.increment(1);
        }
        command.record_outcome(outcome)
    }

    /// Sends a command to its owner, and waits for an owner and for room until the command's deadline. If
    /// `behind` is given, the command takes only that route, and does not wait for an owner.
    ///
    /// # Errors
    /// No owner could accept it in time.
    pub async fn dispatch(
        &self,
        command: &mut InFlightCommand,
        behind: Option<&Route>,
    ) -> Result<DispatchOutcome, Refusal> {
        if let Some(not_before) = command.not_before.take() {
            sleep_until(not_before.min(command.deadline)).await;
        }
        let mut status = self.inner.statuses.receiver(command.target).clone();
        let mut directory = self.inner.directory.clone();
        loop {
            status.mark_unchanged();
            directory.mark_seen();
            let route = self.route(command);
            if behind.is_some() && route.as_ref() != behind {
                return Ok(DispatchOutcome::RouteChanged);
            }
            if Instant::now() >= command.deadline {
                return Err(self.no_owner(command));
            }
            if let Some(route) = route {
                let sent = self.send(command, route);
                let Some(sent) = self.inner.given_up.run_until_cancelled(sent).await else {
                    return Err(self.no_owner(command));
                };
                if let Some(in_flight) = sent? {
                    return Ok(DispatchOutcome::InFlight(in_flight));
                }
                // The stream ended or the owner stepped down meanwhile, so the route has changed.
                tokio::task::yield_now().await;
                continue;
            }
            let recheck = command.backoff_owner.as_ref();
            let recheck = recheck.map_or(PAUSE_MAX, |_| BACKOFF_TIME);
            tokio::select! {
                _ = status.changed() => {}
                () = directory.changed() => {}
                () = sleep(recheck) => {}
                () = sleep_until(command.deadline) => {}
                () = self.inner.closing.cancelled() => return Err(self.no_owner(command)),
            }
        }
    }

    /// The route that a command would take now; `None` while no owner is known.
    fn route(&self, command: &InFlightCommand) -> Option<Route> {
        let remote = || {
            let owner = self.remote_owner(command)?;
            let stream = self.inner.node_clients.stream(&owner.url, command.target);
            Some(Route::Remote(owner, stream))
        };
        let status = self.inner.statuses.of(command.target).clone();
        match status {
            Status::Serving { epoch, .. } => Some(Route::Local(Some(epoch))),
            // The predecessor serves until this owner has taken over.
            Status::TakingOver(_) => Some(remote().unwrap_or(Route::Local(None))),
            Status::Standby | Status::Declined { .. } | Status::SteppingDown | Status::Ended(_) => {
                remote()
            }
        }
    }

    /// The owner on another node, unless it could not accept this command within [`BACKOFF_TIME`].
    fn remote_owner(&self, command: &InFlightCommand) -> Option<Entry> {
        let backoff = command.backoff_owner.as_ref();
        let failed = backoff.map(|(owner, _)| owner);
        let known = self.owner(command.target);
        let hint = command.owner_hint.clone();
        let owner = choose_owner(known, hint, failed, &self.inner.own_url)?;
        let must_wait =
            backoff.is_some_and(|(failed, until)| *failed == owner && Instant::now() < *until);
        (!must_wait).then_some(owner)
    }

    /// Sends a command on a route; `None` if another route must be found.
    async fn send(
        &self,
        command: &mut InFlightCommand,
        route: Route,
    ) -> Result<Option<InFlight>, Refusal> {
        let (target, deadline) = (command.target, command.deadline);
        let (reply, span) = match &route {
            Route::Local(_) => (self.send_local(command).await?, Span::none()),
            Route::Remote(owner, stream) => {
                let (text, span) = forwarded(command, owner, self.hash_key());
                let node_clients = &self.inner.node_clients;
                let sent = node_clients.send((&owner.url, target), *stream, text, deadline);
                let sent = sent.instrument(span.clone()).await;
                if sent.is_some() {
                    self.meters(target.topic).sent_on.increment(1);
                }
                (sent.map(ReplyFuture::Remote), span)
            }
        };
        Ok(reply.map(|reply| InFlight {
            route,
            reply,
            span,
            given_up: self.inner.given_up.clone(),
        }))
    }

    async fn send_local(
        &self,
        command: &mut InFlightCommand,
    ) -> Result<Option<ReplyFuture>, Refusal> {
        let typed = match command.typed.take() {
            Some(typed) => typed,
            None => self
                .prepare(&command.command)
                .map_err(|error| Refusal::Unencodable(error.to_string()))?,
        };
        match self.submit(typed, command.deadline).await {
            Ok(reply) => Ok(Some(ReplyFuture::Local(reply))),
            // The owner has just stepped down.
            Err(Refusal::NotOwner(_)) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Submits a command to its owner on this node; waits for room in the owner's queue until `deadline`.
    pub(crate) async fn submit(
        &self,
        command: TypedCommand,
        deadline: Instant,
    ) -> Result<AnswerReceiver, Refusal> {
        let target = command.target();
        let Some(pool) = self.inner.pools.get(target.topic) else {
            let reason = format!("this node has no owners of {}", target.topic);
            return Err(Refusal::Unencodable(reason));
        };
        match timeout_at(deadline, pool.submit(command)).await {
            Ok(submitted) => submitted,
            Err(_) => Err(Refusal::Unavailable(format!(
                "the queue of the owner of {target} is full"
            ))),
        }
    }

    fn no_owner(&self, command: &InFlightCommand) -> Refusal {
        let target = command.target;
        let owner = match self.inner.directory.known().entry(target) {
            Some(entry) => match &entry.declined {
                None => format!("its last known owner is {}", entry.url),
                Some(reason) => format!("{} declined it: {reason}", entry.url),
            },
            None => "it has no known owner".to_owned(),
        };
        let error = command.last_error.as_deref();
        let error = error.unwrap_or("no owner was serving");
        Refusal::Unavailable(format!("{target}: {owner}; {error}"))
    }
}

/// A command's line for another node, and the span of its transport.
fn forwarded(command: &InFlightCommand, owner: &Entry, hash_key: &str) -> (Vec<u8>, Span) {
    let left = command.deadline.saturating_duration_since(Instant::now());
    let text = line(&Forward {
        within_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        hash_key,
        command: &command.command,
    });
    let TopicPartition { topic, partition } = command.target;
    let (owner, trace_id) = (&owner.url, command.trace_id());
    let span = tracing::debug_span!("forward", topic, partition, owner, trace_id);
    (text, span)
}
