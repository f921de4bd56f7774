//! Brings a command to the owner of its partition, here or on another node, and tries again where
//! that fails: under the same id, so that it is the same command however often it arrives.

use super::{
    Directory,
    journey::{AVOID_TIME, Journey, PAUSE_MAX, Tried, Trouble, follow},
    meters::{Meters, OfTopic},
    peer::{Peers, ReplyComing},
    wire::{Forwarded, Reply, line},
};
use crate::{
    call::{Command, Prepared},
    contexts::orders,
    identity::Hasher,
    wire::FieldError,
    write_side::ANSWER_TIMEOUT,
};
use domain::product;
use journal::owner::{Answer, OwnerHandle, Proved, Refusal, Status};
use schemas::owners::{Entry, Place, places};
use std::{borrow::Cow, sync::Arc};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// How the owners of this process are doing, by place.
#[derive(Clone)]
pub struct Offices {
    statuses: Vec<watch::Receiver<Status>>,
}

/// Finds owners.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

/// What a router is made of.
pub struct Parts {
    /// The owners of this process, by partition.
    pub orders: Vec<OwnerHandle<orders::Command>>,
    /// The owners of this process, by partition.
    pub catalog: Vec<OwnerHandle<product::Command>>,
    /// Who owns what elsewhere.
    pub directory: Directory,
    /// The ways there.
    pub peers: Peers,
    /// Where this process takes commands.
    pub own_url: String,
    /// Hashes commands.
    pub hasher: Hasher,
    /// Once cancelled, no command waits for an owner any more.
    pub closing: CancellationToken,
    /// Once cancelled, no command waits for its answer any more.
    pub given_up: CancellationToken,
}

struct Inner {
    parts: Parts,
    offices: Offices,
    /// What the owners know of their logs, by place.
    proved: Vec<watch::Receiver<Option<Proved>>>,
    meters: Meters,
}

/// The way that a command went. Commands on the same way are decided in the order in which they
/// went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To the owner in this process; its epoch, if it is in office.
    Here(Option<i64>),
    /// To another node, on this stream.
    There(Entry, u64),
}

/// A command that was handed in somewhere.
pub struct UnderWay {
    way: Way,
    coming: Coming,
    span: Span,
    given_up: CancellationToken,
}

enum Coming {
    Here(oneshot::Receiver<Result<Answer, Refusal>>),
    There(ReplyComing),
}

/// Whether a command was handed in.
pub enum Begun {
    /// It was.
    UnderWay(UnderWay),
    /// It would have to go another way than the one asked for.
    OtherWay,
}

impl Offices {
    /// `statuses` in the order of [`places`].
    pub fn new(statuses: Vec<watch::Receiver<Status>>) -> Self {
        Self { statuses }
    }

    /// How the owner of a place is doing. Not to be held across an await.
    pub fn of(&self, place: Place) -> watch::Ref<'_, Status> {
        self.receiver(place).borrow()
    }

    /// Every place and its owner's status.
    pub fn all(&self) -> impl Iterator<Item = (Place, Status)> {
        places().zip(self.statuses.iter().map(|status| status.borrow().clone()))
    }

    /// Returns once some status is another than at the last call; never, if there are none left that
    /// can change. Cancel-safe.
    pub async fn changed(&mut self) {
        let changes = self.statuses.iter_mut().map(|status| {
            Box::pin(async {
                if status.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        futures_util::future::select_all(changes).await;
    }

    fn receiver(&self, place: Place) -> &watch::Receiver<Status> {
        let index = places().position(|known| known == place);
        index
            .and_then(|index| self.statuses.get(index))
            .expect("there is an owner for every place")
    }
}

impl Router {
    /// A router over owners that have been started.
    pub fn new(parts: Parts) -> Self {
        let orders = parts.orders.iter().map(OwnerHandle::status);
        let catalog = parts.catalog.iter().map(OwnerHandle::status);
        let offices = Offices::new(orders.chain(catalog).collect());
        let orders = parts.orders.iter().map(OwnerHandle::proved);
        let catalog = parts.catalog.iter().map(OwnerHandle::proved);
        let proved = orders.chain(catalog).collect();
        Self {
            inner: Arc::new(Inner {
                parts,
                offices,
                proved,
                meters: Meters::default(),
            }),
        }
    }

    /// How the owners here are doing.
    pub fn offices(&self) -> Offices {
        self.inner.offices.clone()
    }

    /// The metrics of a journal's routes.
    pub(crate) fn meters(&self, topic: &str) -> &OfTopic {
        self.inner.meters.of(topic)
    }

    /// What the owner of a place here knows of its log, be it in office or not.
    pub fn proved(&self, place: Place) -> Option<Proved> {
        let index = places().position(|known| known == place)?;
        *self.inner.proved.get(index)?.borrow()
    }

    /// Whom the directory takes for a place's owner.
    pub fn owner(&self, place: Place) -> Option<Entry> {
        self.inner.parts.directory.known().owner(place).cloned()
    }

    /// A command about to set out, with an answer due at `deadline`.
    ///
    /// # Errors
    /// A field can't be taken; which one, and why.
    pub fn journey(&self, command: Command, deadline: Instant) -> Result<Journey, FieldError> {
        let prepared = self.prepare(&command)?;
        Ok(Journey::new(command, prepared, deadline))
    }

    /// A command in its context's terms.
    ///
    /// # Errors
    /// A field can't be taken; which one, and why.
    pub(crate) fn prepare(&self, command: &Command) -> Result<Prepared, FieldError> {
        command.prepare(&self.inner.parts.hasher)
    }

    /// Brings one command to its owner and back.
    pub async fn run(&self, mut journey: Journey) -> Result<Answer, Refusal> {
        loop {
            let mut under_way = match self.begin(&mut journey, None).await? {
                Begun::UnderWay(under_way) => under_way,
                Begun::OtherWay => continue,
            };
            let tried = under_way.outcome(journey.deadline).await;
            if let Some(answered) = self.take(&mut journey, tried) {
                return answered;
            }
        }
    }

    /// Takes in what a try of a command came to; gives its answer, if that is one.
    pub fn take(&self, journey: &mut Journey, tried: Tried) -> Option<Result<Answer, Refusal>> {
        if matches!(tried, Tried::Again(_)) {
            self.meters(journey.place.0).tried_again.increment(1);
        }
        journey.take(tried)
    }

    /// Hands a command in where its owner is, and waits for an owner and for room until its deadline;
    /// but, if `after` is given, only on that way, and without waiting for an owner.
    ///
    /// # Errors
    /// Nobody could take it in time.
    pub async fn begin(
        &self,
        journey: &mut Journey,
        after: Option<&Way>,
    ) -> Result<Begun, Refusal> {
        if let Some(not_before) = journey.not_before.take() {
            sleep_until(not_before.min(journey.deadline)).await;
        }
        let mut status = self.inner.offices.receiver(journey.place).clone();
        let mut directory = self.inner.parts.directory.clone();
        loop {
            status.mark_unchanged();
            directory.mark_seen();
            let way = self.way(journey);
            if after.is_some() && way.as_ref() != after {
                return Ok(Begun::OtherWay);
            }
            if Instant::now() >= journey.deadline {
                return Err(self.nobody(journey));
            }
            if let Some(way) = way {
                let handed_in = self.hand_in(journey, way);
                let given_up = &self.inner.parts.given_up;
                let Some(handed_in) = given_up.run_until_cancelled(handed_in).await else {
                    return Err(self.nobody(journey));
                };
                if let Some(under_way) = handed_in? {
                    return Ok(Begun::UnderWay(under_way));
                }
                // The stream or the office ended meanwhile; there is another way by now, or none.
                tokio::task::yield_now().await;
                continue;
            }
            let again = journey.avoided.as_ref().map_or(PAUSE_MAX, |_| AVOID_TIME);
            tokio::select! {
                _ = status.changed() => {}
                () = directory.changed() => {}
                () = sleep(again) => {}
                () = sleep_until(journey.deadline) => {}
                () = self.inner.parts.closing.cancelled() => return Err(self.nobody(journey)),
            }
        }
    }

    /// Where a command would go now.
    fn way(&self, journey: &Journey) -> Option<Way> {
        let elsewhere = || {
            let entry = self.elsewhere(journey)?;
            let stream = self.inner.parts.peers.stream(&entry.url, journey.place);
            Some(Way::There(entry, stream))
        };
        let status = self.inner.offices.of(journey.place).clone();
        match status {
            Status::InOffice { epoch, .. } => Some(Way::Here(Some(epoch))),
            // While it takes over, the one before it serves on.
            Status::TakingOver(_) => Some(elsewhere().unwrap_or(Way::Here(None))),
            Status::Standby | Status::Leaving | Status::Ended(_) => elsewhere(),
        }
    }

    /// The owner on another node, unless it led nowhere a moment ago.
    fn elsewhere(&self, journey: &Journey) -> Option<Entry> {
        let led_nowhere = journey.avoided.as_ref().map(|(entry, _)| entry);
        let known = self.owner(journey.place);
        let own_url = &self.inner.parts.own_url;
        let entry = follow(known, journey.told.clone(), led_nowhere, own_url)?;
        let is_avoided = journey
            .avoided
            .as_ref()
            .is_some_and(|(avoided, until)| *avoided == entry && Instant::now() < *until);
        (!is_avoided).then_some(entry)
    }

    /// Hands a command in; nothing, if another way must be looked for.
    async fn hand_in(&self, journey: &mut Journey, way: Way) -> Result<Option<UnderWay>, Refusal> {
        let mut span = Span::none();
        let coming = match &way {
            Way::Here(_) => {
                let prepared = match journey.prepared.take() {
                    Some(prepared) => prepared,
                    None => self
                        .prepare(&journey.command)
                        .map_err(|error| Refusal::Unencodable(error.to_string()))?,
                };
                match self.submit(prepared, journey.deadline).await {
                    Ok(coming) => Some(Coming::Here(coming)),
                    // It left office just now.
                    Err(Refusal::NotOwner(_)) => None,
                    Err(refusal) => return Err(refusal),
                }
            }
            Way::There(entry, stream) => {
                let left = journey.deadline.saturating_duration_since(Instant::now());
                let text = line(&Forwarded {
                    within_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                    command: Cow::Borrowed(&journey.command),
                });
                let there = (entry.url.as_str(), journey.place);
                let (topic, partition) = journey.place;
                let (owner, trace_id) = (&entry.url, journey.trace_id());
                span = tracing::debug_span!("forward", topic, partition, owner, trace_id);
                let peers = &self.inner.parts.peers;
                let sent = peers.send(there, *stream, text, journey.deadline);
                let sent = sent.instrument(span.clone()).await;
                if sent.is_some() {
                    self.meters(topic).sent_on.increment(1);
                }
                sent.map(Coming::There)
            }
        };
        Ok(coming.map(|coming| UnderWay {
            way,
            coming,
            span,
            given_up: self.inner.parts.given_up.clone(),
        }))
    }

    /// Hands a command to an owner of this process; waits for room in its queue until `deadline`.
    pub(crate) async fn submit(
        &self,
        prepared: Prepared,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Answer, Refusal>>, Refusal> {
        let (_, partition) = prepared.place();
        let index = usize::try_from(partition).expect("partitions are numbered from 0");
        let submitted = async {
            match prepared {
                Prepared::Orders(request) => self.inner.parts.orders[index].submit(request).await,
                Prepared::Catalog(request) => self.inner.parts.catalog[index].submit(request).await,
            }
        };
        match timeout_at(deadline, submitted).await {
            Ok(submitted) => submitted,
            Err(_) => Err(Refusal::Unavailable("its owner's queue is full".into())),
        }
    }

    fn nobody(&self, journey: &Journey) -> Refusal {
        let (topic, partition) = journey.place;
        let whom = match self.owner(journey.place) {
            Some(entry) => format!("its last known owner is {}", entry.url),
            None => "no owner of it is known".to_owned(),
        };
        let trouble = journey.trouble.as_deref().unwrap_or("none was in office");
        Refusal::Unavailable(format!("{topic}/{partition}: {whom}; {trouble}"))
    }
}

impl UnderWay {
    /// The way it went.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Waits for what it comes to, until `deadline` or until the process gives up. Cancel-safe, until it
    /// has returned.
    pub async fn outcome(&mut self, deadline: Instant) -> Tried {
        let span = self.span.clone();
        self.tried(deadline).instrument(span).await
    }

    async fn tried(&mut self, deadline: Instant) -> Tried {
        let given_up = self.given_up.clone();
        tokio::select! {
            biased;
            tried = self.outcome_in_time(deadline) => tried,
            () = given_up.cancelled() => {
                let reason = "the process stops; its outcome is unknown";
                Tried::Answered(Err(Refusal::Unavailable(reason.into())))
            }
        }
    }

    async fn outcome_in_time(&mut self, deadline: Instant) -> Tried {
        let late = || {
            let reason = format!("no answer within {ANSWER_TIMEOUT:?}; its outcome is unknown");
            Tried::Answered(Err(Refusal::Unavailable(reason)))
        };
        match &mut self.coming {
            Coming::Here(coming) => match timeout_at(deadline, coming).await {
                Ok(Ok(Err(Refusal::NotOwner(reason)))) => self.again(reason, true, None),
                Ok(Ok(answered)) => Tried::Answered(answered),
                Ok(Err(_)) => self.again("the owner has ended".into(), true, None),
                Err(_) => late(),
            },
            Coming::There(coming) => match timeout_at(deadline, coming).await {
                Ok(Ok(Ok(Reply::NotOwner {
                    reason,
                    is_tried,
                    owner,
                }))) => self.again(reason, is_tried, owner),
                Ok(Ok(Ok(reply))) => Tried::Answered(reply.into_result()),
                Ok(Ok(Err(broken))) => self.again(broken.to_string(), broken.is_sent, None),
                Ok(Err(_)) => self.again("the stream has ended".into(), true, None),
                Err(_) => late(),
            },
        }
    }

    fn again(&self, reason: String, may_be_done: bool, told: Option<Entry>) -> Tried {
        let avoid = match &self.way {
            Way::Here(_) => None,
            Way::There(entry, _) => Some(entry.clone()),
        };
        Tried::Again(Trouble {
            reason,
            may_be_done,
            avoid,
            told,
        })
    }
}
