//! A run's context as JSON, to be looked at, kept elsewhere, or given to another run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::run::{Run, Status};
use crate::values;

/// What a run's steps have committed so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The run's id.
    pub run: String,
    /// Its workflow.
    pub workflow: String,
    /// The version that it is pinned to.
    pub version: u32,
    /// Where it stood.
    pub status: Status,
    /// The fields of its context. [`StartRun::context`](crate::client::StartRun::context) takes them.
    pub context: Map<String, Value>,
}

impl Snapshot {
    /// Fails where a field cannot be written as JSON (bytes, or a map with keys that are no text).
    pub(crate) fn of(run: Run, fields: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let mut context = Map::new();
        for (name, value) in fields {
            let value = values::decode(&name, &value)?;
            context.insert(name, value);
        }
        Ok(Self { run: run.id, workflow: run.workflow, version: run.version, status: run.status, context })
    }
}
