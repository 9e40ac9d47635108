//! Which step works on which event, and who may commit the outcome.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which step is to work on which event, and what it needs for that.
///
/// Routing is decided where the workflow is known (the worker, or the coordinator for start events) and written
/// beside the event, so that Redis never has to look into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Route {
    /// The step's name.
    pub step: String,
    /// The event's name.
    pub event: String,
    /// The step reads the run's context, which is sent along with the event.
    #[serde(default)]
    pub context: bool,
    /// At most this many executions of the step are active in a run at once; others wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How many failures on the way to this event were caught: see [`Commit::caught`](super::Commit::caught).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recoveries: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The token of an attempt: only its holder may commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The run.
    pub run: String,
    /// The step execution's number, unique in its run.
    pub seq: u64,
    /// The attempt, from 1; each claim raises it.
    pub attempt: u32,
    /// The number of the worker's call that took it. It makes the fence unique for its worker, even if
    /// a run's id is used again, or Redis came back without its latest writes and repeats attempt numbers.
    pub claim: u64,
    /// The slot of its worker that it is held in.
    pub slot: u32,
    /// The hold as the store wrote it.
    pub line: Line,
}

/// A hold as the store keeps it: given out with a claim and handed back, so that a fence is compared as one
/// string. Only the store that wrote it reads it; it adds nothing to the rest of a fence, so all lines compare as equal.
#[derive(Clone, Default)]
pub struct Line(Option<Arc<str>>);

impl Line {
    pub(crate) fn new(text: &str) -> Self {
        Self(Some(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

impl Hash for Line {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
