//! Child runs: runs that another run waits for.

use serde::{Deserialize, Serialize};

use crate::codec::{self, Content};
use crate::error::{Error, Result};
use crate::names;
use crate::request::StartRequest;
use crate::run::Status;

/// Who waits for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run.
    pub run: String,
    /// The name of its wait: see [`names::child`].
    pub wait: String,
}

impl Parent {
    /// `<run> <name of the wait>`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.run, self.wait)
    }

    pub(crate) fn check(&self) -> Result<()> {
        names::check_id("run id of the parent", &self.run)?;
        let is_named = names::is_child(&self.wait) || names::is_undo(&self.wait);
        let is_one = is_named && self.wait.len() <= MAX_WAIT && !self.wait.contains([' ', '\n']);
        if is_one { Ok(()) } else { Err(Error::invalid("the parent does not wait for a child run by this name")) }
    }
}

/// The longest name of such a wait, in bytes.
const MAX_WAIT: usize = 300;

/// How a child run ended, as its parent receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The child's id.
    pub run: String,
    /// How it ended.
    pub status: Status,
    /// How its result is written: `json` or `msgpack`.
    pub content: String,
    /// The result if it completed; otherwise the reason why not, as UTF-8 text.
    #[serde(with = "serde_bytes")]
    pub output: Vec<u8>,
}

impl ChildEnd {
    /// As a payload of [`crate::codec`].
    pub fn payload(&self) -> Result<Vec<u8>> {
        codec::encode("the end of a child run", self)
    }

    /// As [`ChildEnd::payload`] wrote it.
    pub fn read(payload: &[u8]) -> Result<Self> {
        codec::decode("the end of a child run", payload)
    }

    /// Its result as a payload of [`crate::codec`]; or why it has none.
    pub fn result(&self) -> std::result::Result<Vec<u8>, String> {
        if self.status == Status::Completed {
            return Ok(codec::input_payload(Content::parse(&self.content).unwrap_or_default(), &self.output));
        }
        Err(String::from_utf8_lossy(&self.output).into_owned())
    }
}

/// What a wait says about the child run that it requests: its id, whether it continues once nobody waits for it any
/// more, and the request.
pub fn asked_for(id: &str, outlives: bool, request: &StartRequest) -> Result<Vec<u8>> {
    let request = rmp_serde::to_vec_named(request).map_err(|error| Error::invalid(error.to_string()))?;
    let outlives = if outlives { OUTLIVES } else { "" };
    Ok([id.as_bytes(), outlives.as_bytes(), b"\n", &request].concat())
}

const OUTLIVES: &str = " outlives";

/// Reads what [`asked`] wrote.
pub(crate) fn split_asked(asked: &[u8]) -> Option<(&str, bool, &[u8])> {
    let stop = asked.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&asked[..stop]).ok()?;
    let (id, outlives) = head.strip_suffix(OUTLIVES).map_or((head, false), |id| (id, true));
    Some((id, outlives, &asked[stop + 1..]))
}
