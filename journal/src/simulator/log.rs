//! The log of a run, as owners and readers see it: behind the same traits as Kafka's.

use super::{
    broker::{Broker, Link, PARTITION},
    tally::Happening,
};
use crate::{
    log::{Feed, Line, Log, ReadLog},
    protocol::Protocol,
};
use kafka::{
    ConsumerError, Record, Registry, Report,
    admin::AdminError,
    appender::{AppendError, AppenderError},
};
use std::{
    marker::PhantomData,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Longest time in which reading stands still: longer than an owner waits.
const SILENCE_MS_MAX: u64 = 14_000;
/// Most records that come at once.
const RECORDS_AT_ONCE_MAX: u64 = 40;

/// One process's view of the log; `P`: the mistakes that it makes.
pub(super) struct SimLog<P> {
    broker: Arc<Broker>,
    link: Arc<Link>,
    registry: Registry,
    protocol: PhantomData<fn() -> P>,
}

impl<P> SimLog<P> {
    pub fn new(broker: Arc<Broker>, link: Arc<Link>, registry: Registry) -> Self {
        Self {
            broker,
            link,
            registry,
            protocol: PhantomData,
        }
    }
}

impl<P> Clone for SimLog<P> {
    fn clone(&self) -> Self {
        Self::new(
            self.broker.clone(),
            self.link.clone(),
            self.registry.clone(),
        )
    }
}

impl<P: Protocol> ReadLog for SimLog<P> {
    type Protocol = P;
    type Feed = SimFeed;

    async fn end(&self, topic: &str, _: i32) -> Result<i64, AdminError> {
        let world = &self.broker.world;
        let open_ms = open_ms(&self.broker, &self.link);
        let now_ms = world.now_ms();
        // The client gives up after a while.
        if open_ms > now_ms + 5_000 || world.fault(world.plan.feed_error) {
            tokio::time::sleep(Duration::from_millis((open_ms - now_ms).min(5_000))).await;
            return Err(AdminError::Unreachable {
                brokers: "the simulator".into(),
                reason: format!("no word about {topic}"),
            });
        }
        let delay_ms = world.dice().between(0, world.plan.delay_ms_max);
        tokio::time::sleep_until(world.instant(open_ms + delay_ms)).await;
        Ok(self.broker.end())
    }

    fn feed(
        &self,
        role: &str,
        topic: &str,
        starts: &[(i32, i64)],
    ) -> Result<SimFeed, ConsumerError> {
        let fatal = |reason: &str| ConsumerError::Fatal {
            topic: topic.to_owned(),
            reason: format!("{role}: {reason}"),
        };
        let [(PARTITION, start)] = starts else {
            return Err(fatal("there is one partition"));
        };
        Ok(SimFeed {
            broker: self.broker.clone(),
            link: self.link.clone(),
            topic: topic.to_owned(),
            position: usize::try_from(*start).map_err(|_| fatal("no such offset"))?,
            next: None,
        })
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl<P: Protocol> Log for SimLog<P> {
    type Line = SimLine;

    fn line(&self, _: &str, _: i32, under_way_max: usize) -> (SimLine, mpsc::Receiver<Report>) {
        let (line, reports) = self.broker.open_line(self.link.clone(), under_way_max);
        let broker = self.broker.clone();
        (SimLine { broker, line }, reports)
    }
}

/// Where one owner appends.
pub(super) struct SimLine {
    broker: Arc<Broker>,
    line: usize,
}

impl Line for SimLine {
    fn append(
        &self,
        key: &[u8],
        value: &[u8],
        _: &[(&str, &[u8])],
        number: u64,
    ) -> Result<(), AppendError> {
        self.broker.append(self.line, key, value, number)
    }

    fn mend(&self) -> Result<(), AppenderError> {
        self.broker.mend(self.line);
        Ok(())
    }
}

/// Gives records in batches, now and then late, or not at once.
pub(super) struct SimFeed {
    broker: Arc<Broker>,
    link: Arc<Link>,
    topic: String,
    position: usize,
    /// What comes next and when, once it is known that there is something; it outlives a reader that
    /// stops waiting.
    next: Option<(Instant, bool)>,
}

impl Feed for SimFeed {
    async fn next(&mut self) -> Result<Vec<Record>, ConsumerError> {
        self.broker.goes_beyond(self.position).await;
        let (at, fails) = match self.next {
            Some(next) => next,
            None => *self.next.insert(self.draw()),
        };
        tokio::time::sleep_until(at).await;
        self.next = None;
        let world = &self.broker.world;
        if fails {
            world.count(Happening::FeedError);
            return Err(ConsumerError::Unreachable {
                topic: self.topic.clone(),
                reason: "a passing error".into(),
            });
        }
        let count = match world.is_calm() {
            true => RECORDS_AT_ONCE_MAX,
            false => world.dice().between(1, RECORDS_AT_ONCE_MAX),
        };
        let count = usize::try_from(count).expect("some records");
        let records = self.broker.read(self.position, count);
        self.position += records.len();
        Ok(records)
    }
}

impl SimFeed {
    fn draw(&self) -> (Instant, bool) {
        let world = &self.broker.world;
        let open_ms = open_ms(&self.broker, &self.link);
        let mut at_ms = open_ms + world.dice().between(0, world.plan.delay_ms_max);
        if world.fault(world.plan.feed_silence) {
            world.count(Happening::FeedSilent);
            at_ms += world.dice().between(1_000, SILENCE_MS_MAX);
        }
        (world.instant(at_ms), world.fault(world.plan.feed_error))
    }
}

/// When the broker can be reached, at the earliest.
fn open_ms(broker: &Broker, link: &Link) -> u64 {
    let cut_until_ms = link.cut_until_ms.load(Ordering::Relaxed);
    broker
        .world
        .now_ms()
        .max(cut_until_ms)
        .max(broker.away_until_ms())
}
