//! Commands of one partition, in order, many in flight at once.
//!
//! While a command is in flight, the next one is dispatched only on the same route. If a command needs another
//! attempt, no new command is dispatched until every command in flight has its outcome. The commands that need
//! another attempt are then dispatched first, in their order. The pipeline does not notice an owner that steps down and
//! serves again between two commands of one route; each command is still decided only once.

use super::{
    attempt::{DispatchOutcome, InFlight},
    in_flight::{AttemptOutcome, InFlightCommand},
    router::Router,
};
use crate::owners::AnswerReceiver;
use journal::owner::{Answer, Refusal};
use schemas::topics::TopicPartition;
use std::collections::{HashMap, VecDeque};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;

/// Maximum number of commands of one pipeline in flight.
const IN_FLIGHT_MAX: usize = 1_024;
/// Maximum number of commands of one pipeline that wait to be dispatched.
const QUEUE_MAX: usize = 256;

/// A pipeline per partition, started when its first command arrives.
pub struct PartitionPipelines {
    router: Router,
    pipelines: HashMap<TopicPartition, mpsc::Sender<QueuedCommand>>,
}

/// A command and the sender of its answer.
struct QueuedCommand {
    command: InFlightCommand,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// The commands of one partition.
struct PartitionPipeline {
    router: Router,
    in_flight: VecDeque<(QueuedCommand, InFlight)>,
    /// Commands to dispatch before any new one.
    requeued: VecDeque<QueuedCommand>,
}

impl PartitionPipelines {
    /// A set without pipelines.
    pub fn new(router: Router) -> Self {
        Self {
            router,
            pipelines: HashMap::new(),
        }
    }

    /// Queues a command after all earlier ones of the same partition; waits while the partition's queue is
    /// full.
    pub async fn enqueue(&mut self, command: InFlightCommand) -> AnswerReceiver {
        let (reply, answer) = oneshot::channel();
        let pipeline = self.pipelines.entry(command.target()).or_insert_with(|| {
            let (sender, queue) = mpsc::channel(QUEUE_MAX);
            let pipeline = PartitionPipeline {
                router: self.router.clone(),
                in_flight: VecDeque::new(),
                requeued: VecDeque::new(),
            };
            tokio::spawn(pipeline.run(queue).in_current_span());
            sender
        });
        // If the pipeline has ended, the receiver closes without an answer.
        let _ = pipeline.send(QueuedCommand { command, reply }).await;
        answer
    }
}

impl PartitionPipeline {
    /// Runs until the queue is closed and empty, and all answers are given.
    async fn run(mut self, mut queue: mpsc::Receiver<QueuedCommand>) {
        let mut is_open = true;
        while is_open || !self.requeued.is_empty() || !self.in_flight.is_empty() {
            if let Some(queued) = self.requeued.pop_front() {
                self.dispatch(queued).await;
                continue;
            }
            let has_room = self.in_flight.len() < IN_FLIGHT_MAX;
            tokio::select! {
                next = queue.recv(), if is_open && has_room => match next {
                    Some(queued) => self.dispatch(queued).await,
                    None => is_open = false,
                },
                outcome = outcome(self.in_flight.front_mut()) => self.take_outcome(outcome).await,
            }
        }
    }

    /// Dispatches a command. If its route differs from that of the commands in flight, it waits for their
    /// outcomes first.
    async fn dispatch(&mut self, mut queued: QueuedCommand) {
        let route = self.in_flight.back();
        let route = route.map(|(_, in_flight)| in_flight.route().clone());
        let dispatched = self.router.dispatch(&mut queued.command, route.as_ref());
        match dispatched.await {
            Ok(DispatchOutcome::InFlight(in_flight)) => {
                self.in_flight.push_back((queued, in_flight));
            }
            Ok(DispatchOutcome::RouteChanged) => {
                let mut retries = self.drain_in_flight().await;
                retries.push_back(queued);
                self.requeue_front(retries);
            }
            Err(refusal) => {
                let _ = queued.reply.send(Err(refusal));
            }
        }
    }

    /// Handles the outcome of the first command in flight.
    async fn take_outcome(&mut self, outcome: AttemptOutcome) {
        let Some((mut queued, _)) = self.in_flight.pop_front() else {
            return;
        };
        match self.router.record_outcome(&mut queued.command, outcome) {
            Some(answered) => {
                // A client that has disconnected may send the command again under the same id.
                let _ = queued.reply.send(answered);
            }
            None => {
                let mut retries = VecDeque::from([queued]);
                retries.append(&mut self.drain_in_flight().await);
                self.requeue_front(retries);
            }
        }
    }

    /// Puts commands in front of those already requeued, which arrived later.
    fn requeue_front(&mut self, mut retries: VecDeque<QueuedCommand>) {
        retries.append(&mut self.requeued);
        self.requeued = retries;
    }

    /// Waits for all commands in flight; returns those that need another attempt.
    async fn drain_in_flight(&mut self) -> VecDeque<QueuedCommand> {
        let mut retries = VecDeque::new();
        while let Some((mut queued, mut in_flight)) = self.in_flight.pop_front() {
            let outcome = in_flight.outcome(queued.command.deadline()).await;
            match self.router.record_outcome(&mut queued.command, outcome) {
                Some(answered) => {
                    let _ = queued.reply.send(answered);
                }
                None => retries.push_back(queued),
            }
        }
        retries
    }
}

/// Waits for the outcome of the first command in flight. Without a command, it never returns.
async fn outcome(first: Option<&mut (QueuedCommand, InFlight)>) -> AttemptOutcome {
    match first {
        Some((queued, in_flight)) => in_flight.outcome(queued.command.deadline()).await,
        None => std::future::pending().await,
    }
}
