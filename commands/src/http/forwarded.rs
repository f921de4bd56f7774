//! Commands from other nodes of the deployment, streamed: a line in, a line out, in order.
//!
//! An owner of this process decides them, or they go back: a forwarded command is not forwarded
//! again. Whoever can reach this route can name any principal, so until nodes know each other by more
//! than their word it is served on loopback addresses only.

use super::lines::{LINE_BYTES_MAX, Line, Lines, check_media_type, respond};
use crate::{
    call::Prepared,
    routing::{
        lane::Coming,
        peer::FORWARDED_MAX,
        wire::{Forwarded, Reply, line},
    },
    write_side::{ANSWER_TIMEOUT, WriteSide},
};
use axum::{body::Body, http::HeaderMap, response::Response};
use futures_util::StreamExt;
use journal::owner::{Refusal, Status};
use schemas::owners::Place;
use service::problem::Problem;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant, time::timeout_at};
use tokio_stream::wrappers::ReceiverStream;

/// Where nodes take commands from each other.
pub const PATH: &str = "/internal/v1/commands";
/// Longest line, in bytes: a command as a client may send it, and what goes with it.
const FORWARDED_BYTES_MAX: usize = LINE_BYTES_MAX + (64 << 10);

/// A line that was taken.
enum Under {
    Replied(Reply),
    Coming {
        place: Place,
        coming: Coming,
        deadline: Instant,
    },
}

/// One stream.
struct Taking {
    write_side: WriteSide,
    /// Whether a command was turned away: one behind it must not be decided before it comes again.
    is_spent: Arc<AtomicBool>,
}

/// Takes commands and replies to each.
pub async fn commands(
    write_side: WriteSide,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_media_type(&headers)?;
    let is_spent = Arc::new(AtomicBool::new(false));
    let (sender, under_way) = mpsc::channel(FORWARDED_MAX);
    let taking = Taking {
        write_side: write_side.clone(),
        is_spent: is_spent.clone(),
    };
    tokio::spawn(taking.run(body, sender));
    let replies = ReceiverStream::new(under_way).then(move |under| {
        let (write_side, is_spent) = (write_side.clone(), is_spent.clone());
        async move {
            let reply = reply(&write_side, under).await;
            if matches!(reply, Reply::NotOwner { .. }) {
                is_spent.store(true, Ordering::Relaxed);
            }
            line(&reply)
        }
    });
    Ok(respond(replies))
}

impl Taking {
    /// Hands lines in, one after the other, until the body, its reader or the service ends. Lines
    /// that were handed in before get their replies.
    async fn run(self, body: Body, sender: mpsc::Sender<Under>) {
        let mut lines = Lines::within(FORWARDED_BYTES_MAX, body.into_data_stream());
        let closing = self.write_side.closing.clone();
        while let Some(Ok(Some(line))) = closing.run_until_cancelled(lines.next()).await {
            let under = self.hand_in(&line).await;
            if sender.send(under).await.is_err() {
                return;
            }
        }
    }

    async fn hand_in(&self, line: &Line) -> Under {
        let prepared = match self.read(line) {
            Ok(prepared) => prepared,
            Err(reason) => return Under::Replied(Reply::Unavailable(reason)),
        };
        let (prepared, deadline) = prepared;
        let place = prepared.place();
        self.write_side
            .router
            .meters(place.0)
            .forwarded
            .increment(1);
        if let Some(reason) = self.why_not(place) {
            let (topic, partition) = place;
            let trace_id = prepared.trace_id();
            tracing::debug!(topic, partition, trace_id, reason, "a command goes back");
            return Under::Replied(Reply::NotOwner {
                reason,
                is_tried: false,
                owner: self.write_side.router.owner(place),
            });
        }
        match self.write_side.router.submit(prepared, deadline).await {
            Ok(coming) => Under::Coming {
                place,
                coming,
                deadline,
            },
            Err(refusal) => Under::Replied(Reply::to_tried(Err(refusal), None)),
        }
    }

    fn read(&self, line: &Line) -> Result<(Prepared, Instant), String> {
        let Line::Text(text) = line else {
            return Err("a forwarded command is too long".into());
        };
        let forwarded: Forwarded = serde_json::from_slice(text)
            .map_err(|error| format!("a forwarded command can't be read: {error}"))?;
        let within = Duration::from_millis(forwarded.within_ms).min(ANSWER_TIMEOUT);
        let prepared = self.write_side.router.prepare(&forwarded.command);
        let prepared = prepared.map_err(|error| error.to_string())?;
        Ok((prepared, Instant::now() + within))
    }

    /// Why a command must go back at once, if it must.
    fn why_not(&self, place: Place) -> Option<String> {
        if self.is_spent.load(Ordering::Relaxed) {
            return Some("a command before it was turned away".into());
        }
        match &*self.write_side.router.offices().of(place) {
            // An owner that takes over, or is at a barrier, lets commands wait.
            Status::InOffice { .. } | Status::TakingOver(_) => None,
            Status::Standby => Some("the partition is not assigned to it".into()),
            Status::Leaving => Some("it leaves office".into()),
            Status::Ended(reason) => Some(reason.to_string()),
        }
    }
}

async fn reply(write_side: &WriteSide, under: Under) -> Reply {
    let (place, coming, deadline) = match under {
        Under::Replied(reply) => return reply,
        Under::Coming {
            place,
            coming,
            deadline,
        } => (place, coming, deadline),
    };
    let answered = match timeout_at(deadline, coming).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(Refusal::NotOwner("the owner has ended".into())),
        Err(_) => Err(Refusal::Unavailable("no answer in time".into())),
    };
    Reply::to_tried(answered, write_side.router.owner(place))
}
