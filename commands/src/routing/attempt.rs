//! One attempt to have a command decided: its route, and the wait for its outcome.

use super::{
    in_flight::{ANSWER_TIMEOUT, AttemptOutcome, RetryReason},
    node_client::ReplyReceiver,
    node_protocol::Reply,
};
use crate::owners::AnswerReceiver;
use journal::owner::Refusal;
use schemas::owners::Entry;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// The route of an attempt. Commands on the same route are decided in the order in which they were
/// dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the owner on this node; its epoch, if it serves.
    Local(Option<i64>),
    /// To the owner on another node, on the stream of this number.
    Remote(Entry, u64),
}

/// The result of dispatching a command.
pub enum DispatchOutcome {
    /// It was dispatched.
    InFlight(InFlight),
    /// Its route differs from the requested one, so it was not dispatched.
    RouteChanged,
}

/// A dispatched command whose outcome is awaited.
pub struct InFlight {
    pub(super) route: Route,
    pub(super) reply: ReplyFuture,
    pub(super) span: Span,
    pub(super) given_up: CancellationToken,
}

/// A pending reply.
pub(super) enum ReplyFuture {
    /// A reply of an owner on this node.
    Local(AnswerReceiver),
    /// A reply of another node.
    Remote(ReplyReceiver),
}

impl InFlight {
    /// The command's route.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Waits for the outcome, until the command's `deadline` at most. Cancel-safe. Do not call it again once
    /// it has returned.
    pub async fn outcome(&mut self, deadline: Instant) -> AttemptOutcome {
        let (span, given_up) = (self.span.clone(), self.given_up.clone());
        let outcome = async {
            tokio::select! {
                biased;
                outcome = self.outcome_in_time(deadline) => outcome,
                () = given_up.cancelled() => unknown("the node is stopping"),
            }
        };
        outcome.instrument(span).await
    }

    async fn outcome_in_time(&mut self, deadline: Instant) -> AttemptOutcome {
        let late = || unknown(&format!("no answer within {ANSWER_TIMEOUT:?}"));
        match &mut self.reply {
            ReplyFuture::Local(reply) => match timeout_at(deadline, reply).await {
                Ok(Ok(Err(Refusal::NotOwner(reason)))) => self.retry(reason, true, None),
                Ok(Ok(answered)) => AttemptOutcome::Answered(answered),
                Ok(Err(_)) => self.retry("the owner has ended".into(), true, None),
                Err(_) => late(),
            },
            ReplyFuture::Remote(reply) => match timeout_at(deadline, reply).await {
                Ok(Ok(Ok(Reply::NotOwner {
                    reason,
                    was_submitted,
                    owner,
                }))) => self.retry(reason, was_submitted, owner),
                Ok(Ok(Ok(reply))) => AttemptOutcome::Answered(reply.into_result()),
                Ok(Ok(Err(error))) => self.retry(error.to_string(), error.may_have_arrived, None),
                Ok(Err(_)) => self.retry("the stream has ended".into(), true, None),
                Err(_) => late(),
            },
        }
    }

    fn retry(
        &self,
        reason: String,
        maybe_committed: bool,
        owner_hint: Option<Entry>,
    ) -> AttemptOutcome {
        let backoff_owner = match &self.route {
            Route::Local(_) => None,
            Route::Remote(owner, _) => Some(owner.clone()),
        };
        AttemptOutcome::Retry(RetryReason {
            reason,
            maybe_committed,
            backoff_owner,
            owner_hint,
        })
    }
}

/// The answer to a command that may be in the log when its time runs out.
fn unknown(reason: &str) -> AttemptOutcome {
    let reason = format!("{reason}; the command's outcome is unknown");
    AttemptOutcome::Answered(Err(Refusal::Unavailable(reason)))
}
