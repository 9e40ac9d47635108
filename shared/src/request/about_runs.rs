//! Requests about a run, existing or future: signals, events from outside, cancel, retry and others.

use crate::child::{ChildEnd, Parent};
use crate::codec::{self, Content};
use crate::error::Result;
use crate::names;

/// A request to give a run a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRequest {
    /// The run's id.
    pub run: String,
    /// The name that the run waits for.
    pub name: String,
    /// How the value is written.
    pub content: Content,
    /// The value.
    pub input: Vec<u8>,
    /// The id of the request, which is taken once.
    pub request: Option<String>,
}

impl SignalRequest {
    /// Checks what can be checked without knowing the run.
    pub fn check(&self) -> Result<()> {
        names::check_id("run id", &self.run)?;
        names::check_call("signal", &self.name)?;
        check_request(self.request.as_deref())?;
        codec::check_input(self.content, &self.input)
    }

    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![
            ("op", &b"signal"[..]),
            ("run", self.run.as_bytes()),
            ("name", self.name.as_bytes()),
            ("content", self.content.as_str().as_bytes()),
            ("input", &self.input),
        ];
        fields.extend(self.request.as_ref().map(|request| ("request", request.as_bytes())));
        owned(&fields)
    }

    /// As a payload of [`crate::codec`].
    pub fn payload(&self) -> Vec<u8> {
        codec::input_payload(self.content, &self.input)
    }
}

/// A request to give a run an event from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// The run's id.
    pub run: String,
    /// The event's name.
    pub event: String,
    /// The step that is to get it; none for all steps that take it.
    pub step: Option<String>,
    /// How the event is written.
    pub content: Content,
    /// The event.
    pub input: Vec<u8>,
    /// The id of the request, which is taken once.
    pub request: Option<String>,
}

impl SendRequest {
    /// Checks what can be checked without knowing the run.
    pub fn check(&self) -> Result<()> {
        names::check_id("run id", &self.run)?;
        names::check_name("event", &self.event)?;
        if let Some(step) = &self.step {
            names::check_name("step", step)?;
        }
        check_request(self.request.as_deref())?;
        codec::check_input(self.content, &self.input)
    }

    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![
            ("op", &b"send"[..]),
            ("run", self.run.as_bytes()),
            ("event", self.event.as_bytes()),
            ("content", self.content.as_str().as_bytes()),
            ("input", &self.input),
        ];
        fields.extend(self.step.as_ref().map(|step| ("step", step.as_bytes())));
        fields.extend(self.request.as_ref().map(|request| ("request", request.as_bytes())));
        owned(&fields)
    }

    /// As a payload of [`crate::codec`].
    pub fn payload(&self) -> Vec<u8> {
        codec::input_payload(self.content, &self.input)
    }
}

/// A request to answer a question of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRequest {
    /// The run's id.
    pub run: String,
    /// The question's name, or its [`OpenQuestion::id`](crate::question::OpenQuestion::id).
    pub question: String,
    /// How the answer is written.
    pub content: Content,
    /// The answer.
    pub input: Vec<u8>,
    /// Who answers.
    pub by: Option<String>,
    /// The id of the request, which is taken once.
    pub request: Option<String>,
}

impl AnswerRequest {
    /// Checks what can be checked without knowing the question.
    pub fn check(&self) -> Result<()> {
        names::check_id("run id", &self.run)?;
        names::check_call("question", &self.question)?;
        if let Some(by) = &self.by {
            names::check_call("name of who answers", by)?;
        }
        check_request(self.request.as_deref())?;
        codec::check_input(self.content, &self.input)
    }

    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![
            ("op", &b"answer"[..]),
            ("run", self.run.as_bytes()),
            ("question", self.question.as_bytes()),
            ("content", self.content.as_str().as_bytes()),
            ("input", &self.input),
        ];
        fields.extend(self.by.as_ref().map(|by| ("by", by.as_bytes())));
        fields.extend(self.request.as_ref().map(|request| ("request", request.as_bytes())));
        owned(&fields)
    }

    /// The answer.
    pub fn answer(&self) -> Result<serde_json::Value> {
        codec::decode("the answer", &codec::input_payload(self.content, &self.input))
    }
}

/// A request to tell a run that a child run has ended. The store makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildEndedRequest {
    /// Who waits for the child.
    pub parent: Parent,
    /// How it ended.
    pub end: ChildEnd,
}

impl ChildEndedRequest {
    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Self { parent, end } = self;
        owned(&[
            ("op", b"child-ended"),
            ("run", parent.run.as_bytes()),
            ("wait", parent.wait.as_bytes()),
            ("child", end.run.as_bytes()),
            ("status", end.status.as_str().as_bytes()),
            ("content", end.content.as_bytes()),
            ("output", &end.output),
        ])
    }
}

/// A request about a run without further data: to cancel, pause or resume it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainRequest {
    /// The run's id.
    pub run: String,
    /// The id of the request, which is taken once.
    pub request: Option<String>,
}

impl PlainRequest {
    /// Checks what can be checked without knowing the run.
    pub fn check(&self) -> Result<()> {
        names::check_id("run id", &self.run)?;
        check_request(self.request.as_deref())
    }

    /// As an inbox entry that asks for this: `cancel`, `pause` or `resume`.
    pub fn fields(&self, operation: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![("op", operation.as_bytes()), ("run", self.run.as_bytes())];
        fields.extend(self.request.as_ref().map(|request| ("request", request.as_bytes())));
        owned(&fields)
    }
}

/// A request to retry a failed run from where it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRequest {
    /// The run's id.
    pub run: String,
    /// How the event is written.
    pub content: Content,
    /// Another event for the step that failed; None for the same one.
    pub input: Option<Vec<u8>>,
    /// The id of the request, which is taken once.
    pub request: Option<String>,
}

impl RetryRequest {
    /// Checks what can be checked without knowing the run.
    pub fn check(&self) -> Result<()> {
        names::check_id("run id", &self.run)?;
        check_request(self.request.as_deref())?;
        self.input.as_ref().map_or(Ok(()), |input| codec::check_input(self.content, input))
    }

    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![("op", &b"retry"[..]), ("run", self.run.as_bytes())];
        if let Some(input) = &self.input {
            fields.extend([("content", self.content.as_str().as_bytes()), ("input", &**input)]);
        }
        fields.extend(self.request.as_ref().map(|request| ("request", request.as_bytes())));
        owned(&fields)
    }

    /// The event as a payload of [`crate::codec`], if there is one.
    pub fn payload(&self) -> Option<Vec<u8>> {
        self.input.as_ref().map(|input| codec::input_payload(self.content, input))
    }
}

/// A request to fork a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkRequest {
    /// The run's id.
    pub run: String,
    /// The id of the fork, which must be in the same partition; None for a generated one.
    pub id: Option<String>,
    /// The step execution that it begins with; None for the start if there is no other, else the one that failed or has
    /// not ended.
    pub seq: Option<u64>,
    /// The recorded call that is repeated, with all that come after it; None for no recorded call.
    pub call: Option<u64>,
    /// How the event is written.
    pub content: Content,
    /// Another event; None for the same one.
    pub input: Option<Vec<u8>>,
    /// The id of the request, which is taken once.
    pub request: Option<String>,
}

impl ForkRequest {
    /// Checks what can be checked without knowing the run.
    pub fn check(&self) -> Result<()> {
        names::check_id("run id", &self.run)?;
        self.id.as_ref().map_or(Ok(()), |id| names::check_id("run id", id))?;
        check_request(self.request.as_deref())?;
        self.input.as_ref().map_or(Ok(()), |input| codec::check_input(self.content, input))
    }

    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let numbers = [("seq", self.seq), ("call", self.call)];
        let numbers: Vec<_> =
            numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string()))).collect();
        let mut fields = vec![("op", &b"fork"[..]), ("run", self.run.as_bytes())];
        fields.extend(self.id.as_ref().map(|id| ("as", id.as_bytes())));
        fields.extend(numbers.iter().map(|(name, number)| (*name, number.as_bytes())));
        if let Some(input) = &self.input {
            fields.extend([("content", self.content.as_str().as_bytes()), ("input", &**input)]);
        }
        fields.extend(self.request.as_ref().map(|request| ("request", request.as_bytes())));
        owned(&fields)
    }

    /// The event as a payload of [`crate::codec`], if there is one.
    pub fn payload(&self) -> Option<Vec<u8>> {
        self.input.as_ref().map(|input| codec::input_payload(self.content, input))
    }
}

fn owned(fields: &[(&str, &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// It is the last part of a key, behind the run's id, which may have colons.
fn check_request(request: Option<&str>) -> Result<()> {
    request.map_or(Ok(()), |request| names::check_name("request", request))
}
