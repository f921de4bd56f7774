//! What becomes of an append on its way: whether it lands, when, how often, and what is said of it.

use super::{Due, Kept, LATE_MS_MAX, OFFSET_INVALID, ReportPlan, State, TIMEOUT_MS, unknown};
use crate::simulator::{plan::Fate, tally::Happening, world::World};
use kafka::Report;

/// One append's way.
pub(super) struct Way {
    pub line: usize,
    pub number: u64,
    pub now_ms: u64,
    pub landing_ms: u64,
    /// `None`: it lands once and is reported so.
    pub fate: Option<Fate>,
}

impl State {
    pub(super) fn plan(&mut self, at_ms: u64, due: Due) {
        self.planned += 1;
        self.due.insert((at_ms, self.planned), due);
    }

    pub(super) fn travel(&mut self, world: &World, record: Kept, way: Way) {
        let Way {
            line,
            number,
            now_ms,
            landing_ms,
            fate,
        } = way;
        let way = &way;
        let after_ms = world.dice().between(0, self.lines[line].delay_ms);
        let truly = ReportPlan {
            line,
            number,
            after_ms,
            offset: None,
        };
        let error_ms = now_ms + world.dice().between(1, TIMEOUT_MS);
        match fate {
            None => {
                let report = self.in_run_of_duplicates(world, truly, false);
                self.land_in_order(way, record, Some(report));
            }
            Some(Fate::Lost) => {
                world.count(Happening::AppendLost);
                self.fail(line, number, error_ms);
            }
            Some(Fate::Unknown) => {
                world.count(Happening::AppendUnknown);
                self.land_in_order(way, record, None);
                self.fail(line, number, error_ms.max(landing_ms));
            }
            Some(Fate::Late) => {
                world.count(Happening::AppendLate);
                self.fail(line, number, error_ms);
                let late_ms = error_ms.max(landing_ms) + world.dice().between(1, LATE_MS_MAX);
                self.land_unreported(late_ms, record);
            }
            Some(Fate::Doubled) => {
                world.count(Happening::AppendDoubled);
                let again_ms = landing_ms + world.dice().between(0, TIMEOUT_MS);
                self.land_in_order(way, record.clone(), Some(truly));
                self.land_unreported(again_ms, record);
            }
            Some(Fate::Duplicate) => {
                let report = self.in_run_of_duplicates(world, truly, true);
                self.land_in_order(way, record, Some(report));
            }
            Some(Fate::Implicit) => {
                world.count(Happening::OffsetUnknown);
                let offset = Some(OFFSET_INVALID);
                self.land_in_order(way, record, Some(ReportPlan { offset, ..truly }));
            }
            Some(Fate::Unreported) => {
                world.count(Happening::ReportLost);
                self.land_in_order(way, record, None);
            }
            Some(Fate::ReportedLate) => {
                world.count(Happening::ReportLate);
                let after_ms = world.dice().between(1_000, TIMEOUT_MS);
                self.land_in_order(way, record, Some(ReportPlan { after_ms, ..truly }));
            }
            Some(Fate::Refused | Fate::Broken) => {
                unreachable!("these were not taken on the way")
            }
        }
    }

    /// A batch that the broker had already is reported with offsets from -1 on, whatever they were.
    fn in_run_of_duplicates(
        &mut self,
        world: &World,
        report: ReportPlan,
        begins: bool,
    ) -> ReportPlan {
        let line = &mut self.lines[report.line];
        let offset = match line.duplicate {
            Some(offset) if world.fault(600) => Some(offset),
            _ => begins.then_some(-1),
        };
        line.duplicate = offset.map(|offset| offset + 1);
        if offset.is_some() {
            world.count(Happening::OffsetUnknown);
        }
        ReportPlan { offset, ..report }
    }

    fn land_in_order(&mut self, way: &Way, record: Kept, report: Option<ReportPlan>) {
        let landing_ms = way.landing_ms;
        self.lines[way.line].last_landing_ms = landing_ms;
        self.plan(landing_ms, Due::Land { record, report });
    }

    /// Out of order: behind whatever lands before.
    fn land_unreported(&mut self, at_ms: u64, record: Kept) {
        let report = None;
        self.plan(at_ms, Due::Land { record, report });
    }

    fn fail(&mut self, line: usize, number: u64, at_ms: u64) {
        let result = Err(unknown("timed out"));
        let report = Report { number, result };
        self.plan(at_ms, Due::Report { line, report });
    }
}
