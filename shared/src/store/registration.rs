//! What workers register: a version of a workflow, with everything that others may know about it.

use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::names;
use crate::step::Route;

/// The largest registration, as JSON.
const MAX_REGISTRATION: usize = 256 * 1024;

/// What a worker serves: one version of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Registration {
    /// The workflow.
    pub workflow: String,
    /// Its version.
    pub version: u32,
    /// Where start events go.
    pub start: Vec<Route>,
    /// Its steps and events, for people and programs; routing does not use it.
    #[serde(default)]
    pub graph: Graph,
    /// How long a run of it may take, in ms; a run that takes longer fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How safe the progress of its runs must be before they go on.
    #[serde(default, skip_serializing_if = "is_none")]
    pub durability: Durability,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(durability: &Durability) -> bool {
    !durability.waits()
}

impl Registration {
    /// Checks that all names are valid: they become parts of keys and records.
    pub fn check(&self) -> Result<()> {
        names::check_name("workflow", &self.workflow)?;
        for route in &self.start {
            names::check_name("step", &route.step)?;
            names::check_name("event", &route.event)?;
        }
        self.graph.check()
    }

    /// Its JSON, as it is kept. Fails with [`Error::is_too_large`] if that is over 256 KiB.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string(self)
            .map_err(|e| Error::invalid(format!("the registration of {} cannot be written: {e}", self.workflow)))?;
        if json.len() > MAX_REGISTRATION {
            return Err(Error::too_large(format!(
                "the registration of the workflow {} has {} bytes; at most {MAX_REGISTRATION} are allowed: divide the \
                 workflow, or give its steps and events shorter names",
                self.workflow,
                json.len()
            )));
        }
        Ok(json)
    }

    /// Reads what [`Registration::to_json`] wrote.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let found: Self = serde_json::from_slice(json)
            .map_err(|e| Error::invalid(format!("the registration cannot be read: {e}")))?;
        found.check()?;
        Ok(found)
    }

    /// Leaves out the schemas if they make it too large or too deep to read. True if it did.
    pub fn shorten(&mut self) -> bool {
        let is_fine = self.to_json().and_then(|json| Self::from_json(json.as_bytes())).is_ok();
        if !is_fine {
            self.graph.schemas.clear();
        }
        !is_fine
    }
}
