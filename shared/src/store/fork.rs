//! The point of a run at which a fork begins.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::fork::Kept;
use crate::step::Route;

/// Where a run can be forked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForkPoint {
    /// Here.
    At(ForkSource),
    /// At one of these step executions, by number and step: the request must say at which.
    Several(Vec<(u64, String)>),
    /// Not there, for this reason.
    Refused(String),
    /// Its request waits for a worker.
    Held,
    /// There is no such run (yet).
    Unknown,
}

/// The point of a run that a fork begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkSource {
    /// The fork begins as the run did, with its input; otherwise with this step execution alone.
    pub is_start: bool,
    /// The step execution.
    pub seq: u64,
    /// Its step; `-` for the start.
    pub step: String,
    /// The workflow of the run.
    pub workflow: String,
    /// The version that it is pinned to.
    pub version: u32,
    /// The heads of what the body has recorded, by number.
    pub heads: BTreeMap<u64, Vec<u8>>,
}

/// A fork of a run.
#[derive(Clone, Debug, Default)]
pub struct Fork {
    /// The run, as it was asked for.
    pub asked: String,
    /// The id of the fork, which is of the same partition.
    pub id: String,
    /// It begins as the run did.
    pub is_start: bool,
    /// The step execution that it begins with.
    pub seq: u64,
    /// The call that is repeated, for the history.
    pub call: Option<u64>,
    /// The steps that take the input, for a fork from the start.
    pub routes: Vec<Route>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Another event than the source's, as a payload of [`crate::codec`].
    pub event: Option<Vec<u8>>,
    /// The journal entries that it has.
    pub entries: Vec<Kept>,
}
