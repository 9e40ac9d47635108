//! The graph of a workflow as data: workers register it, callers read it, and pictures are drawn from it. Pure.

mod picture;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::names;
use crate::step::Route;

/// The steps of a workflow, and the events between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// The event that a run begins with: its input.
    #[serde(default)]
    pub start: String,
    /// The event that ends a run: its result.
    #[serde(default)]
    pub stop: String,
    /// Events that may come from outside while a run is under way.
    #[serde(default)]
    pub external: Vec<String>,
    /// The steps, in the order of the source.
    #[serde(default)]
    pub steps: Vec<StepNode>,
    /// JSON Schemas of the start, stop and external events, by the event's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, Value>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNode {
    /// Its name.
    pub name: String,
    /// What it waits for.
    pub accepts: Accepts,
    /// The events that it may emit.
    #[serde(default)]
    pub emits: Vec<Emit>,
    /// It reads or writes the run's context.
    #[serde(default)]
    pub context: bool,
    /// At most this many of its executions are active in a run at once; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Attempts after the first.
    #[serde(default)]
    pub retries: u32,
    /// For a step that catches the failures of others: which steps; an empty list means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catches: Option<Vec<String>>,
    /// How long one attempt may take, in ms; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What a step waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepts {
    /// The events; more than one if it waits for one of each.
    pub events: Vec<String>,
    /// It waits for the end of a fan-out, and takes all events of its branches.
    #[serde(default, skip_serializing_if = "is_false")]
    pub joined: bool,
    /// It takes this many events of the branches, and does not wait for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
}

/// An event that a step may emit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emit {
    /// The event.
    pub event: String,
    /// It emits any number of them: a fan-out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub many: bool,
    /// Its body sends it instead of returning it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sent: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Graph {
    /// The steps that take an event of this name by itself: not those that take it joined.
    pub fn takers(&self, event: &str) -> Vec<Route> {
        let takes = |step: &&StepNode| !step.accepts.joined && step.accepts.events == [event];
        let route = |step: &StepNode| Route {
            step: step.name.clone(),
            event: event.to_owned(),
            context: step.context,
            limit: step.concurrency,
            ..Route::default()
        };
        self.steps.iter().filter(takes).map(route).collect()
    }

    /// Checks that all names are valid.
    pub fn check(&self) -> Result<()> {
        for event in [&self.start, &self.stop].into_iter().filter(|event| !event.is_empty()) {
            names::check_name("event", event)?;
        }
        self.external.iter().chain(self.schemas.keys()).try_for_each(|event| names::check_name("event", event))?;
        for step in &self.steps {
            names::check_name("step", &step.name)?;
            step.catches.iter().flatten().try_for_each(|caught| names::check_name("step", caught))?;
            let emitted = step.emits.iter().map(|emit| &emit.event);
            step.accepts.events.iter().chain(emitted).try_for_each(|event| names::check_name("event", event))?;
        }
        Ok(())
    }
}
