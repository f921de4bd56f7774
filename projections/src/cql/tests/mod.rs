//! Tests that projectors that crash, replay, lag behind as zombies or write late leave the rows of the pure
//! fold.
//!
//! The store is a model. All code between the events and the requests is production code.

mod log;
mod model;

use super::writes::{write_timestamp, writes};
use crate::fold::{Plan, Stored};
use log::{Log, Products, Row};
use model::{Model, Request};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Maximum number of commits in a projector's batch.
const BATCH_MAX: usize = 4;
/// Number of projectors that run at the same time.
const PROJECTORS: usize = 3;

#[derive(Debug, Clone, Default)]
struct Projector {
    /// Commits that it has applied.
    position: usize,
    /// Commits that it will have applied after its batch.
    batch_end: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Default)]
enum Phase {
    #[default]
    Idle,
    Loading {
        keys: Vec<String>,
        /// Key without a stored row; its deletion is read next.
        without_row: Option<String>,
        stored: BTreeMap<String, Stored<Row>>,
    },
    /// Stages of requests. The requests of the first stage are in flight, in any order.
    Writing(Vec<Vec<Request>>),
}

/// A step of the schedule. Its numbers choose among the projectors and requests that exist.
#[derive(Debug, Clone)]
enum Step {
    Go {
        projector: usize,
        choice: usize,
    },
    /// The projector restarts from the checkpoint that was stored `ago` checkpoints before the newest. Its
    /// requests in flight may still arrive.
    Restart {
        projector: usize,
        ago: usize,
    },
    /// A request arrives after its projector was restarted.
    Arrive {
        choice: usize,
    },
    /// The driver repeats a request that it has sent before.
    Repeat {
        choice: usize,
    },
}

#[derive(Debug)]
struct Cluster<'a> {
    log: &'a Log,
    model: Model,
    projectors: [Projector; PROJECTORS],
    in_flight: Vec<Request>,
    sent: Vec<Request>,
}

impl<'a> Cluster<'a> {
    fn new(log: &'a Log) -> Self {
        Self {
            log,
            model: Model::default(),
            projectors: Default::default(),
            in_flight: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Go { projector, choice } => self.go(*projector, *choice),
            Step::Restart { projector, ago } => self.restart(*projector, *ago),
            Step::Arrive { choice } => {
                if !self.in_flight.is_empty() {
                    let index = choice % self.in_flight.len();
                    let request = self.in_flight.swap_remove(index);
                    self.send(request);
                }
            }
            Step::Repeat { choice } => {
                if !self.sent.is_empty() {
                    let request = self.sent[choice % self.sent.len()].clone();
                    self.send(request);
                }
            }
        }
    }

    fn send(&mut self, request: Request) {
        self.model.take(&request);
        self.sent.push(request);
        for row in self.model.all_rows() {
            let version = usize::try_from(row.version).unwrap();
            let pure = self.log.pure[&row.key][version].as_ref();
            assert_eq!(Some(&row), pure, "a stored row differs from its history");
        }
    }

    fn restart(&mut self, projector: usize, ago: usize) {
        let stored = &self.model.checkpoints;
        let index = stored.len().checked_sub(1 + ago);
        let position = index.map_or(0, |index| stored[index].1);
        let restarted = Projector {
            position,
            ..Projector::default()
        };
        let gone = std::mem::replace(&mut self.projectors[projector], restarted);
        if let Phase::Writing(stages) = gone.phase {
            self.in_flight
                .extend(stages.into_iter().next().unwrap_or_default());
        }
    }

    /// Performs one read or one write of a projector.
    fn go(&mut self, projector: usize, choice: usize) {
        let mut at_work = self.projectors[projector].clone();
        at_work.phase = match at_work.phase {
            Phase::Idle => self.begin(at_work.position, &mut at_work.batch_end, choice),
            Phase::Loading {
                keys,
                without_row,
                stored,
            } => self.load(keys, without_row, stored, choice),
            Phase::Writing(stages) => self.write(stages, choice),
        };
        if let Phase::Loading {
            keys,
            without_row: None,
            stored,
        } = &mut at_work.phase
            && keys.is_empty()
        {
            let events = self.log.recorded(at_work.position, at_work.batch_end);
            let plan = Plan::<Products>::new(&events).unwrap();
            let (deletions, rows) = writes(plan.fold(std::mem::take(stored)).unwrap());
            let last_offset = self.log.commits[at_work.batch_end - 1].offset;
            at_work.phase = Phase::Writing(vec![
                deletions.into_iter().map(Request::Deletion).collect(),
                rows.into_iter().map(Request::Row).collect(),
                vec![Request::Checkpoint {
                    commits: at_work.batch_end,
                    timestamp: write_timestamp(last_offset),
                }],
            ]);
        }
        if let Phase::Writing(stages) = &mut at_work.phase {
            while stages.first().is_some_and(Vec::is_empty) {
                stages.remove(0);
            }
            if stages.is_empty() {
                at_work.position = at_work.batch_end;
                at_work.phase = Phase::Idle;
            }
        }
        self.projectors[projector] = at_work;
    }

    fn begin(&self, position: usize, batch_end: &mut usize, choice: usize) -> Phase {
        if position == self.log.commits.len() {
            return Phase::Idle;
        }
        *batch_end = (position + 1 + choice % BATCH_MAX).min(self.log.commits.len());
        let events = self.log.recorded(position, *batch_end);
        Phase::Loading {
            keys: Plan::<Products>::new(&events).unwrap().keys_to_load(),
            without_row: None,
            stored: BTreeMap::new(),
        }
    }

    fn load(
        &self,
        mut keys: Vec<String>,
        without_row: Option<String>,
        mut stored: BTreeMap<String, Stored<Row>>,
        choice: usize,
    ) -> Phase {
        let mut next_without_row = None;
        if let Some(key) = without_row {
            let deleted_at = self.model.deleted_at(&key);
            let found = Stored {
                row: None,
                deleted_at,
            };
            stored.insert(key, found);
        } else {
            let key = keys.swap_remove(choice % keys.len());
            match self.model.row(&key) {
                Some(row) => {
                    let found = Stored {
                        row: Some(row),
                        deleted_at: None,
                    };
                    stored.insert(key, found);
                }
                None => next_without_row = Some(key),
            }
        }
        Phase::Loading {
            keys,
            without_row: next_without_row,
            stored,
        }
    }

    fn write(&mut self, mut stages: Vec<Vec<Request>>, choice: usize) -> Phase {
        let stage = &mut stages[0];
        let request = stage.swap_remove(choice % stage.len());
        self.send(request);
        Phase::Writing(stages)
    }

    /// Runs a projector to the end of the log.
    fn finish(&mut self, projector: usize) {
        let is_done = |projector: &Projector| {
            projector.position == self.log.commits.len() && matches!(projector.phase, Phase::Idle)
        };
        while !is_done(&self.projectors[projector]) {
            self.go(projector, 0);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (projector, choice) = (0..PROJECTORS, any::<usize>());
    prop_oneof![
        20 => (projector.clone(), choice).prop_map(|(projector, choice)| Step::Go { projector, choice }),
        2 => (projector, 0_usize..4).prop_map(|(projector, ago)| Step::Restart { projector, ago }),
        2 => any::<usize>().prop_map(|choice| Step::Arrive { choice }),
        1 => any::<usize>().prop_map(|choice| Step::Repeat { choice }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn replays_and_zombies_leave_the_rows_of_the_pure_fold(
        operations in proptest::collection::vec((0_u8..2, any::<u8>(), any::<bool>()), 1..16),
        schedule in proptest::collection::vec(step(), 0..160),
    ) {
        let log = Log::new(&operations);
        let mut cluster = Cluster::new(&log);
        for step in &schedule {
            cluster.step(step);
        }
        cluster.restart(0, 0);
        cluster.finish(0);
        prop_assert_eq!(cluster.model.all_rows(), log.rows());
        prop_assert_eq!(cluster.model.checkpoint(), log.commits.len());

        // The zombies finish, the requests in flight arrive, and all requests are repeated.
        for zombie in 1..PROJECTORS {
            cluster.finish(zombie);
        }
        while !cluster.in_flight.is_empty() {
            cluster.step(&Step::Arrive { choice: 0 });
        }
        for request in cluster.sent.clone().into_iter().rev() {
            cluster.send(request);
        }
        prop_assert_eq!(cluster.model.all_rows(), log.rows());
        prop_assert_eq!(cluster.model.checkpoint(), log.commits.len());
    }
}
