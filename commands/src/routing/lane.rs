//! Commands of one partition, in order, many under way at once.
//!
//! A command goes out behind another one only on the same way. If some must be tried again, nothing
//! new goes out until all that were under way have come back; then those go first, in their order.
//! What this can't see is an owner that loses its office and takes it again between two commands of
//! one way; each of them is decided once all the same.

use super::{
    journey::{Journey, Tried},
    router::{Begun, Router, UnderWay},
};
use journal::owner::{Answer, Refusal};
use schemas::owners::Place;
use std::collections::{HashMap, VecDeque};
use tokio::sync::{mpsc, oneshot};

/// Most commands of one lane under way at once.
const UNDER_WAY_MAX: usize = 1_024;
/// Most commands that wait to go out.
const QUEUE_MAX: usize = 256;

/// A command's answer to come.
pub type Coming = oneshot::Receiver<Result<Answer, Refusal>>;

/// A lane for each partition, made as they are needed.
pub struct Lanes {
    router: Router,
    lanes: HashMap<Place, mpsc::Sender<Traveller>>,
}

/// A command, and who waits for its answer.
struct Traveller {
    journey: Journey,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// One lane's work.
struct Lane {
    router: Router,
    under_way: VecDeque<(Traveller, UnderWay)>,
    /// To go out before anything new.
    first: VecDeque<Traveller>,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(router: Router) -> Self {
        Self {
            router,
            lanes: HashMap::new(),
        }
    }

    /// Puts a command behind all that were put into the same partition's lane before; waits while
    /// that is full.
    pub async fn put(&mut self, journey: Journey) -> Coming {
        let (reply, coming) = oneshot::channel();
        let lane = self.lanes.entry(journey.place()).or_insert_with(|| {
            let (sender, queue) = mpsc::channel(QUEUE_MAX);
            let lane = Lane {
                router: self.router.clone(),
                under_way: VecDeque::new(),
                first: VecDeque::new(),
            };
            tokio::spawn(lane.run(queue));
            sender
        });
        // A lane that is gone answers nothing, which its caller sees.
        let _ = lane.send(Traveller { journey, reply }).await;
        coming
    }
}

impl Lane {
    /// Runs until the queue is closed and empty, and all answers are given.
    async fn run(mut self, mut queue: mpsc::Receiver<Traveller>) {
        let mut is_open = true;
        while is_open || !self.first.is_empty() || !self.under_way.is_empty() {
            if let Some(traveller) = self.first.pop_front() {
                self.set_out(traveller).await;
                continue;
            }
            let has_room = self.under_way.len() < UNDER_WAY_MAX;
            tokio::select! {
                next = queue.recv(), if is_open && has_room => match next {
                    Some(traveller) => self.set_out(traveller).await,
                    None => is_open = false,
                },
                tried = outcome(self.under_way.front_mut()) => self.take(tried).await,
            }
        }
    }

    /// Hands a command in. If it can't follow those under way, they come back first.
    async fn set_out(&mut self, mut traveller: Traveller) {
        let way = self
            .under_way
            .back()
            .map(|(_, under_way)| under_way.way().clone());
        let begun = self
            .router
            .begin(&mut traveller.journey, way.as_ref())
            .await;
        match begun {
            Ok(Begun::UnderWay(under_way)) => self.under_way.push_back((traveller, under_way)),
            Ok(Begun::OtherWay) => {
                let mut first = self.come_back().await;
                first.push_back(traveller);
                self.go_first(first);
            }
            Err(refusal) => {
                let _ = traveller.reply.send(Err(refusal));
            }
        }
    }

    /// Takes in what the first one under way came to.
    async fn take(&mut self, tried: Tried) {
        let Some((mut traveller, _)) = self.under_way.pop_front() else {
            return;
        };
        match traveller.journey.take(tried) {
            Some(answered) => {
                // Whoever has gone away may ask again under the same id.
                let _ = traveller.reply.send(answered);
            }
            None => {
                let mut first = VecDeque::from([traveller]);
                first.append(&mut self.come_back().await);
                self.go_first(first);
            }
        }
    }

    /// Puts travellers before those that go first already, which are behind them.
    fn go_first(&mut self, mut first: VecDeque<Traveller>) {
        first.append(&mut self.first);
        self.first = first;
    }

    /// Waits for all that are under way; gives those that must go again.
    async fn come_back(&mut self) -> VecDeque<Traveller> {
        let mut again = VecDeque::new();
        while let Some((mut traveller, mut under_way)) = self.under_way.pop_front() {
            let tried = under_way.outcome(traveller.journey.deadline()).await;
            match traveller.journey.take(tried) {
                Some(answered) => {
                    let _ = traveller.reply.send(answered);
                }
                None => again.push_back(traveller),
            }
        }
        again
    }
}

/// What the first one under way comes to; never, if there is none.
async fn outcome(first: Option<&mut (Traveller, UnderWay)>) -> Tried {
    match first {
        Some((traveller, under_way)) => under_way.outcome(traveller.journey.deadline()).await,
        None => std::future::pending().await,
    }
}
