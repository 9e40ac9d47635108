//! `pause`: lets no step execution of a run begin. `resume`: lets those held back begin.

use super::data::Data;
use super::run::Steps;
use super::signal::{Standing, entry_of};
use super::start::run_itself;
use crate::history::Kind;
use crate::run::Status;
use crate::step::{Paused, Resumed};
use crate::store::{Origin, RequestFate};

impl Data {
    pub(super) fn pause(&mut self, now: u64, asked: &str, origin: Option<&Origin>) -> Paused {
        if self.is_gone(entry_of(origin)) {
            return Paused::Gone;
        }
        if self.is_repeated(now, asked, origin) {
            return Paused::Repeated;
        }
        let run = self.led_to(now, asked);
        let is_new = match self.standing(&run) {
            Standing::Over => return Paused::Over,
            Standing::Unknown => return Paused::Unknown,
            Standing::Waiting => self.held_paused.insert(run),
            Standing::Live => self.begin_pause(now, &run),
        };
        self.settle_request(now, asked, origin, RequestFate::Taken);
        if is_new { Paused::Paused } else { Paused::Already }
    }

    /// False if the run is already paused.
    pub(super) fn begin_pause(&mut self, now: u64, id: &str) -> bool {
        let Some(run) = self.runs.get_mut(id) else { return false };
        let Some(steps) = run.steps.as_mut().filter(|steps| !steps.is_paused) else { return false };
        steps.is_paused = true;
        run.shown.status = Status::Paused;
        self.note(now, Kind::Paused, &run_itself(id), String::new());
        true
    }

    pub(super) fn resume(&mut self, now: u64, asked: &str, origin: Option<&Origin>) -> Resumed {
        if self.is_gone(entry_of(origin)) {
            return Resumed::Gone;
        }
        if self.is_repeated(now, asked, origin) {
            return Resumed::Repeated;
        }
        let run = self.led_to(now, asked);
        let was_paused = match self.standing(&run) {
            Standing::Over => return Resumed::Over,
            Standing::Unknown => return Resumed::Unknown,
            Standing::Waiting => self.held_paused.remove(&run),
            Standing::Live => self.end_pause(now, &run),
        };
        self.settle_request(now, asked, origin, RequestFate::Taken);
        if was_paused { Resumed::GoesOn } else { Resumed::Already }
    }

    /// False if the run is not paused.
    fn end_pause(&mut self, now: u64, id: &str) -> bool {
        let Some(run) = self.runs.get_mut(id) else { return false };
        let Some(steps) = run.steps.as_mut().filter(|steps| steps.is_paused) else { return false };
        steps.is_paused = false;
        run.shown.status = if run.shown.started_ms.is_some() { Status::Running } else { Status::Queued };
        let in_line = steps.in_line;
        self.note(now, Kind::Resumed, &run_itself(id), String::new());
        if !in_line {
            self.go_on(now, id);
        }
        true
    }

    pub(super) fn is_held_back(&self, run: &str) -> bool {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref());
        steps.is_some_and(Steps::is_held_back)
    }

    pub(super) fn is_paused(&self, run: &str) -> bool {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref());
        steps.is_some_and(|steps| steps.is_paused)
    }
}
