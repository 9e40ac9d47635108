//! Runs, as callers and people see them.

use serde::{Deserialize, Serialize};

use crate::codec::{self, Content};
use crate::durability::Durability;

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// No step has begun.
    Queued,
    /// Its steps execute or wait.
    Running,
    /// Nothing new of it begins until it is resumed.
    Paused,
    /// It ended with a result.
    Completed,
    /// A step failed for good.
    Failed,
    /// It was cancelled by request.
    Cancelled,
    /// Its request was rejected.
    Rejected,
}

impl Status {
    /// The text of the run's `status` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }

    /// Reads the `status` field.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled, Self::Rejected]
            .into_iter()
            .find(|s| s.as_str() == text)
    }

    /// Nothing more will happen to the run.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Paused)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of a run's compensations, each of which is a separate run: see `ctx.compensate` of the SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compensation {
    /// They are running.
    Running,
    /// One has failed, and waits for somebody to retry it or the run; those that were registered before it wait too.
    Failed,
    /// All have completed.
    Done,
}

impl Compensation {
    /// The text of the run's `compensation` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }

    /// Reads the `compensation` field.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Failed, Self::Done].into_iter().find(|stands| stands.as_str() == text)
    }
}

/// A run, as it is now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: Status,
    /// The workflow (empty if a request was rejected before it was known).
    pub workflow: String,
    /// The version that it is pinned to.
    pub version: u32,
    /// How input and result are written.
    #[serde(serialize_with = "content")]
    pub content: Content,
    /// When it was created, in ms since 1970 on Redis' clock.
    pub created_ms: u64,
    /// When its first step began.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// The input, as it was sent.
    #[serde(serialize_with = "lossy")]
    pub input: Vec<u8>,
    /// The result of a completed run.
    #[serde(serialize_with = "lossy_option")]
    pub result: Option<Vec<u8>>,
    /// Why it failed or was rejected.
    pub error: Option<String>,
    /// The step that failed.
    pub error_step: Option<String>,
    /// The attempt at which it failed.
    pub error_attempt: Option<u32>,
    /// The session that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How safe its progress must be before it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// The run that this one is a child of.
    pub parent: Option<String>,
    /// The state of its compensations, if it has ended and has any.
    pub compensation: Option<Compensation>,
}

impl Run {
    /// A run about which nothing more is known, with JSON as its input and result. For tests: a client returns existing ones.
    pub fn new(id: impl Into<String>, (workflow, version): (&str, u32), status: Status) -> Self {
        Self {
            id: id.into(),
            status,
            workflow: workflow.to_owned(),
            version,
            content: Content::Json,
            created_ms: 0,
            started_ms: None,
            finished_ms: None,
            input: Vec::new(),
            result: None,
            error: None,
            error_step: None,
            error_attempt: None,
            session: None,
            durability: None,
            parent: None,
            compensation: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn content<S: serde::Serializer>(content: &Content, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(content.as_str())
}

pub(crate) fn lossy<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    let decrypted = codec::decode_json::<serde_json::Value>("the value", bytes).ok();
    match decrypted.map_or_else(|| serde_json::from_slice(bytes), Ok) {
        Ok(value) => value.serialize(to),
        Err(_) => to.serialize_str(&String::from_utf8_lossy(bytes)),
    }
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn lossy_option<S: serde::Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => lossy(bytes, to),
        None => to.serialize_none(),
    }
}
