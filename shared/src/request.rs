//! Reads what callers write into the inbox stream, strictly and within limits. Pure: no I/O.

use std::time::Duration;

use crate::child::Parent;
use crate::codec::{self, Content};
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::{names, values};

mod about_runs;
mod read;
#[cfg(test)]
mod tests;

pub use self::about_runs::{
    AnswerRequest, ChildEndedRequest, ForkRequest, PlainRequest, RetryRequest, SendRequest, SignalRequest,
};

/// The most fields that a context can begin with.
const MAX_CONTEXT_FIELDS: usize = 1000;

/// The longest delay of a start: a year.
pub const MAX_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);

/// A request to start a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: String,
    /// The run's id. A request without one gets the id of its inbox entry.
    pub id: Option<String>,
    /// Requests of one workflow with the same key are the same run.
    pub key: Option<String>,
    /// `json` or `msgpack`: how the input is written, and the result will be.
    #[serde(default)]
    pub content: String,
    /// The start event.
    #[serde(with = "serde_bytes")]
    pub input: Vec<u8>,
    /// The run's initial context: a JSON object, each member of which is a field.
    #[serde(default, with = "serde_bytes")]
    pub context: Vec<u8>,
    /// The run from whose context this one's begins; `context` goes on top of it.
    #[serde(default)]
    pub context_from: Option<String>,
    /// The session that the run is in: its runs go one after another, and share a context.
    #[serde(default)]
    pub session: Option<String>,
    /// Whether its followers also get the states of its steps.
    #[serde(default)]
    pub follow_steps: bool,
    /// How long to wait before the first step, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// How safe its progress must be before it goes on; None for what its workflow says.
    #[serde(default)]
    pub durability: Option<Durability>,
    /// The key of the list for its receipts: [`ReplyList`](crate::reply::ReplyList).
    #[serde(default)]
    pub reply: Option<String>,
    /// The run that waits for this one. A worker asks for that ([`crate::child`]), not a caller.
    #[serde(default)]
    pub parent: Option<Parent>,
}

impl StartRequest {
    /// A request with JSON input, an id made by Redis and no delay.
    pub fn new(workflow: impl Into<String>, input: impl Into<Vec<u8>>) -> Self {
        Self {
            workflow: workflow.into(),
            id: None,
            key: None,
            content: Content::Json.as_str().into(),
            input: input.into(),
            delay_ms: 0,
            context: Vec::new(),
            context_from: None,
            session: None,
            follow_steps: false,
            durability: None,
            reply: None,
            parent: None,
        }
    }

    /// How input and result are written.
    pub fn content(&self) -> Content {
        Content::parse(&self.content).unwrap_or_default()
    }

    /// Checks what can be checked without knowing the workflow.
    pub fn check(&self) -> Result<()> {
        names::check_name("workflow", &self.workflow)?;
        if let Some(id) = &self.id {
            names::check_id("run id", id)?;
        }
        if let Some(key) = &self.key {
            names::check_id("idempotency key", key)?;
        }
        if u128::from(self.delay_ms) > MAX_DELAY.as_millis() {
            return Err(Error::invalid(format!("the delay is {} ms; at most a year is allowed", self.delay_ms)));
        }
        if let Some(from) = &self.context_from {
            names::check_id("run id of context_from", from)?;
        }
        if let Some(session) = &self.session {
            names::check_id("session", session)?;
            if self.context_from.is_some() {
                return Err(Error::invalid(
                    "a run in a session begins with the context of the session; leave out context_from, or session",
                ));
            }
        }
        self.parent.as_ref().map_or(Ok(()), Parent::check)?;
        self.context_fields()?;
        codec::check_input(Content::parse(&self.content)?, &self.input)
    }

    /// The fields of the initial context, as values of [`crate::values`]. Fails if `context` is not a JSON object, is
    /// over 1 MiB, has more than 1,000 members, or a member whose name no field can have.
    pub fn context_fields(&self) -> Result<Vec<(String, Vec<u8>)>> {
        if self.context.is_empty() {
            return Ok(Vec::new());
        }
        codec::check_size("the context", self.context.len())?;
        let members: serde_json::Map<String, serde_json::Value> = codec::decode_json("the context", &self.context)?;
        if members.len() > MAX_CONTEXT_FIELDS {
            let count = members.len();
            return Err(Error::invalid(format!(
                "the context has {count} fields; at most {MAX_CONTEXT_FIELDS} are allowed"
            )));
        }
        let field = |(name, value): (String, serde_json::Value)| {
            names::check_field(&name)?;
            let value = values::encode(&name, &value)?;
            Ok((name, value))
        };
        members.into_iter().map(field).collect()
    }

    /// As an inbox entry.
    pub fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut fields = vec![
            ("op", b"start".to_vec()),
            ("workflow", self.workflow.clone().into_bytes()),
            ("input", self.input.clone()),
            ("content", self.content.clone().into_bytes()),
        ];
        for (name, text) in [
            ("id", &self.id),
            ("key", &self.key),
            ("context_from", &self.context_from),
            ("session", &self.session),
            ("reply", &self.reply),
        ] {
            fields.extend(text.as_ref().map(|text| (name, text.clone().into_bytes())));
        }
        if self.delay_ms > 0 {
            fields.push(("delay", self.delay_ms.to_string().into_bytes()));
        }
        if self.follow_steps {
            fields.push(("follow", b"steps".to_vec()));
        }
        if let Some(durability) = self.durability {
            fields.push(("durability", durability.to_string().into_bytes()));
        }
        if !self.context.is_empty() {
            fields.push(("context", self.context.clone()));
        }
        fields.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
    }
}

/// One inbox entry: its fields in order, as Redis has them.
pub type Fields = [(Vec<u8>, Vec<u8>)];

/// What an inbox entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start a run.
    Start(StartRequest),
    /// Give a run a signal.
    Signal(SignalRequest),
    /// Give a run an event.
    Send(SendRequest),
    /// Answer a question of a run.
    Answer(AnswerRequest),
    /// Tell a run that a child run has ended.
    ChildEnded(ChildEndedRequest),
    /// Cancel a run.
    Cancel(PlainRequest),
    /// Fork a run.
    Fork(ForkRequest),
    /// Pause a run.
    Pause(PlainRequest),
    /// Resume a paused run.
    Resume(PlainRequest),
    /// Retry a failed run.
    Retry(RetryRequest),
}

impl Request {
    /// The run that it is about, and the id that its sender gave it; None if it has none.
    pub fn identity(&self) -> Option<(&str, &str)> {
        let (run, request) = match self {
            Self::Start(_) | Self::ChildEnded(_) => return None,
            Self::Signal(SignalRequest { run, request, .. })
            | Self::Send(SendRequest { run, request, .. })
            | Self::Answer(AnswerRequest { run, request, .. })
            | Self::Retry(RetryRequest { run, request, .. })
            | Self::Fork(ForkRequest { run, request, .. })
            | Self::Cancel(PlainRequest { run, request })
            | Self::Pause(PlainRequest { run, request })
            | Self::Resume(PlainRequest { run, request }) => (run, request),
        };
        Some((run, request.as_deref()?))
    }
}

/// What `op` can be.
const OPERATIONS: &str = "start, signal, send, answer, cancel, retry, fork, pause or resume";

/// Reads an inbox entry. The error's text is what the caller finds in `rejected`.
pub fn parse(fields: &Fields) -> Result<Request> {
    match field(fields, "op")? {
        Some("start") => parse_start(fields).map(Request::Start),
        Some("signal") => read::signal(fields).map(Request::Signal),
        Some("send") => read::send(fields).map(Request::Send),
        Some("answer") => read::answer(fields).map(Request::Answer),
        Some("cancel") => read::plain(fields, "cancel").map(Request::Cancel),
        Some("fork") => read::fork(fields).map(Request::Fork),
        Some("pause") => read::plain(fields, "pause").map(Request::Pause),
        Some("resume") => read::plain(fields, "resume").map(Request::Resume),
        Some("retry") => read::retry(fields).map(Request::Retry),
        Some("child") => read::child(fields).map(Request::Start),
        Some("child-ended") => read::child_ended(fields).map(Request::ChildEnded),
        Some(other) => Err(Error::invalid(format!("operation {:?} is not known; use {OPERATIONS}", shorten(other)))),
        None => Err(Error::invalid(format!("the entry has no field op, which is {OPERATIONS}"))),
    }
}

/// Refuses fields that the operation does not have: a misspelt field would otherwise be ignored.
fn check_fields(fields: &Fields, operation: &str, known: &[&str]) -> Result<()> {
    for (name, _) in fields {
        let name = std::str::from_utf8(name).unwrap_or("not text");
        if name != "op" && name != "reply" && !known.contains(&name) {
            let known = [known, &["reply"]].concat();
            return Err(Error::invalid(format!(
                "field {:?} is not known; a {operation} has {}",
                shorten(name),
                listed(&known)
            )));
        }
    }
    Ok(())
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn parse_start(fields: &Fields) -> Result<StartRequest> {
    check_fields(
        fields,
        "start",
        &[
            "workflow",
            "input",
            "id",
            "key",
            "content",
            "delay",
            "follow",
            "context",
            "context_from",
            "session",
            "durability",
        ],
    )?;
    let owned = |name| Ok::<_, Error>(field(fields, name)?.map(str::to_owned));
    let delay_ms = match field(fields, "delay")? {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Error::invalid(format!("delay {:?} is not a whole number of milliseconds", shorten(text))))?,
    };
    let follow_steps = match field(fields, "follow")? {
        None => false,
        Some("steps") => true,
        Some(other) => {
            return Err(Error::invalid(format!(
                "follow {:?} is not known; use follow steps or leave it out",
                shorten(other)
            )));
        }
    };
    let content = owned("content")?.unwrap_or_else(|| Content::Json.as_str().to_owned());
    let request = StartRequest {
        workflow: owned("workflow")?
            .ok_or_else(|| Error::invalid("the entry has no field workflow; name the workflow to start"))?,
        id: owned("id")?,
        key: owned("key")?,
        input: raw(fields, "input").unwrap_or_else(|| empty_input(&content)).to_vec(),
        content,
        delay_ms,
        context: raw(fields, "context").unwrap_or_default().to_vec(),
        context_from: owned("context_from")?,
        session: owned("session")?,
        follow_steps,
        durability: field(fields, "durability")?.map(str::parse).transpose()?,
        reply: owned("reply")?,
        parent: None,
    };
    request.check()?;
    Ok(request)
}

/// An event without fields.
fn empty_input(content: &str) -> &'static [u8] {
    if content == Content::MessagePack.as_str() { b"\x80" } else { b"{}" }
}

/// The run id under which a rejected entry is shown: the one it asked for, if that is a valid id.
pub fn id_of(fields: &Fields) -> Option<String> {
    let is_child = field(fields, "op").ok()? == Some("child");
    let id = field(fields, if is_child { "run" } else { "id" }).ok()??;
    names::check_id("run id", id).ok()?;
    Some(id.to_owned())
}

/// The parent of the child run that an entry asks for: it learns if that is rejected.
pub fn parent_of(fields: &Fields) -> Option<Parent> {
    let (run, wait) = (field(fields, "parent").ok()??.to_owned(), field(fields, "wait").ok()??.to_owned());
    let parent = Parent { run, wait };
    parent.check().ok()?;
    Some(parent)
}

/// The run that an entry is about and the id that its sender gave the request, if both can be read: the outcome is kept
/// under them.
pub fn identity_of(fields: &Fields) -> Option<(String, String)> {
    let (run, request) = (field(fields, "run").ok()??, field(fields, "request").ok()??);
    names::check_id("run id", run).ok()?;
    names::check_name("request", request).ok()?;
    Some((run.to_owned(), request.to_owned()))
}

/// The same for receipts, also of a request that has no id: that is empty then.
pub fn subject_of(fields: &Fields) -> Option<(String, String)> {
    identity_of(fields).or_else(|| {
        let run = field(fields, "run").ok()??;
        names::check_id("run id", run).ok()?;
        Some((run.to_owned(), String::new()))
    })
}

/// The key of the list that an entry names for its receipts.
pub fn reply_of(fields: &Fields) -> Option<&str> {
    field(fields, "reply").ok()?
}

fn raw<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_slice())
}

fn field<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a str>> {
    raw(fields, name)
        .map(|v| std::str::from_utf8(v).map_err(|_| Error::invalid(format!("field {name} is not UTF-8 text"))))
        .transpose()
}

fn shorten(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(at, _)| &text[..at])
}
