//! What people are shown of rejected requests and active steps.

use serde::Serialize;

/// A rejected request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRequest {
    /// When it was rejected, in ms since 1970 on Redis' clock.
    pub at_ms: u64,
    /// The id of its inbox entry; empty if it was held for a worker before.
    pub entry: String,
    /// Why.
    pub reason: String,
    /// The request, shortened: the first fields, and of each the beginning.
    pub fields: Vec<(String, String)>,
}

impl RejectedRequest {
    /// Reads an entry of `rejected`.
    pub(crate) fn of(at_ms: u64, fields: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields: Vec<_> = fields.iter().map(|(name, value)| (text(name), text(value))).collect();
        // The first two are ours; a request may have fields of the same names.
        let mut ours = fields.drain(..fields.len().min(2)).map(|(_, value)| value);
        let (reason, entry) = (ours.next().unwrap_or_default(), ours.next().unwrap_or_default());
        drop(ours);
        Self { at_ms, entry, reason, fields }
    }

    /// A field of the request.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| &**value)
    }
}

/// A step execution that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveStep {
    /// Its number.
    pub seq: u64,
    /// Its step; `-` if that cannot be read.
    pub step: String,
    /// The current attempt; 0 before the first.
    pub attempt: u32,
    /// Its state.
    #[serde(flatten)]
    pub standing: StepStanding,
}

/// The state of a step execution that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StepStanding {
    /// It waits for a worker.
    Queued,
    /// A worker executes it.
    Running {
        /// The worker.
        worker: String,
        /// Since when (ms since 1970).
        since_ms: u64,
    },
    /// It waits for a retry, or for the delay that the run was started with.
    Waiting {
        /// Until when (ms since 1970).
        due_ms: u64,
    },
    /// It waits for signals, and holds no worker.
    Suspended,
    /// It waits for its turn: the limit of its step is reached.
    Turn,
}
