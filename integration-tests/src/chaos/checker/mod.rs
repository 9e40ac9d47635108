//! Reads what a chaos test has left, and finds violations. It knows no Redis and no clock: plain data goes in, a list of
//! violations comes out.

mod effects;
mod entities;
mod history;
mod left;
mod results;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::run::Status;

pub use self::left::Left;
pub(super) use self::left::check as check_left;
use super::effects::{Effect, Mark, Verb};
use super::load::{Ask, Shape};
use super::workflows::Work;

/// What Redis promises about what it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// All of it stays.
    NoLoss,
    /// Its last moments may be gone: its data is that of an earlier moment.
    Prefix,
}

/// A run, as it was found in the end.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its status.
    pub status: Status,
    /// Its result.
    pub result: Option<Vec<u8>>,
    /// Its error.
    pub error: Option<String>,
    /// Its history.
    pub history: Vec<Record>,
}

/// All that is known in the end.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What Redis promises.
    pub promise: Promise,
    /// The runs whose requests were accepted.
    pub asked: Vec<Ask>,
    /// These runs and their children as they were found, by id.
    pub seen: BTreeMap<String, Seen>,
    /// The log of effects.
    pub effects: Vec<Effect>,
    /// Everything else that is left.
    pub left: Left,
}

/// Kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// An accepted run does not exist.
    Lost,
    /// A run has not ended.
    Stranded,
    /// A run ended with another status than it should.
    WrongEnd,
    /// A run has another result than it should.
    WrongResult,
    /// A step execution was committed twice, or a run began or ended twice.
    Twice,
    /// A step execution was never committed.
    NeverCommitted,
    /// A step was committed after the end of its run.
    AfterTheEnd,
    /// A step began while its run was paused.
    WhilePaused,
    /// A run began before it was due.
    TooEarly,
    /// A step was blamed for trouble of the server.
    Blamed,
    /// An audit had to repair something.
    Repaired,
    /// Something that a rejected attempt wrote is visible.
    RejectedVisible,
    /// A committed step, or a result, has no effect outside.
    NoEffect,
    /// A recorded call was made again.
    DoneAgain,
    /// An event is missing in a join, or comes twice.
    Join,
    /// A signal was lost, or taken twice.
    Signal,
    /// The runs of a session did not execute one after another.
    Session,
    /// A change of an entity was lost, or made twice.
    Entity,
    /// Something was not removed.
    Left,
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its kind.
    pub what: What,
    /// The run; `-` if it concerns none.
    pub run: String,
    /// The evidence.
    pub evidence: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}: {}", self.what, self.run, self.evidence)
    }
}

/// Collects the violations of one run.
struct Findings<'a> {
    run: &'a str,
    found: Vec<Violation>,
}

impl Findings<'_> {
    fn add(&mut self, what: What, evidence: impl Into<String>) {
        self.found.push(Violation { what, run: self.run.to_owned(), evidence: evidence.into() });
    }

    fn unless(&mut self, is_so: bool, what: What, evidence: impl FnOnce() -> String) {
        if !is_so {
            self.add(what, evidence());
        }
    }
}

/// What the log says about one run.
#[derive(Default)]
struct World<'a> {
    /// In the order of the log.
    lines: Vec<&'a Effect>,
    /// By token.
    did: BTreeMap<&'a str, &'a Mark>,
    /// Which attempts of which step executions had an effect.
    attempts: BTreeSet<(u64, u32)>,
}

/// All violations.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut worlds: BTreeMap<&str, World> = BTreeMap::new();
    for effect in &evidence.effects {
        let world = worlds.entry(&effect.run).or_default();
        world.lines.push(effect);
        if effect.verb == Verb::Did {
            world.did.insert(&effect.mark.token, &effect.mark);
            world.attempts.insert((effect.mark.seq, effect.mark.attempt));
        }
    }
    let children = children(evidence);
    let nothing = World::default();
    let mut found = Vec::new();
    for ask in evidence.asked.iter().chain(&children) {
        let world = worlds.get(ask.id.as_str()).unwrap_or(&nothing);
        found.extend(check_run(evidence, ask, world));
    }
    found.extend(sessions::check(evidence));
    found.extend(entities::check(evidence));
    found.extend(left::check(evidence));
    found
}

/// The children in the histories, each as a job.
fn children(evidence: &Evidence) -> Vec<Ask> {
    let mut found = Vec::new();
    for ask in evidence.asked.iter().filter(|ask| ask.shape == Shape::Parent) {
        let Some(seen) = evidence.seen.get(&ask.id) else { continue };
        let children: BTreeSet<_> = children_of(&seen.history).collect();
        let child = |id: &str| Ask::new(id, Shape::Records, Work { n: 1, ms: ask.work.ms });
        found.extend(children.into_iter().map(child));
    }
    found
}

/// The ids of the children in a history.
pub fn children_of(history: &[Record]) -> impl Iterator<Item = &str> {
    let asked = history.iter().filter(|record| record.kind == Kind::Child);
    asked.map(|record| record.detail.split(' ').next().unwrap_or_default())
}

fn check_run(evidence: &Evidence, ask: &Ask, world: &World) -> Vec<Violation> {
    let mut findings = Findings { run: &ask.id, found: Vec::new() };
    let Some(seen) = evidence.seen.get(&ask.id) else {
        findings
            .unless(evidence.promise == Promise::Prefix, What::Lost, || format!("accepted, and not there: {ask:?}"));
        return findings.found;
    };
    if !ask.is_over(seen.status) {
        let last: Vec<_> = seen.history.iter().rev().take(5).collect();
        findings.add(What::Stranded, format!("it is {}; its last records, the newest first: {last:?}", seen.status));
        return findings.found;
    }
    history::check(evidence.promise, ask, seen, &mut findings);
    effects::check(evidence.promise, ask, seen, world, &mut findings);
    if seen.status == Status::Completed {
        results::check(ask, seen, world, &mut findings);
    }
    findings.found
}
