//! What a run publishes for those who follow it: events, streams of text, the states of its steps, and its end.

mod stream;

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::codec::{self, Content};
use crate::error::{Error, Result};
use crate::run::Status;
use crate::values;

pub(crate) use self::stream::STREAM_BLOCK;
pub use self::stream::{MAX_STREAM, Piece, StreamText, Streams};

/// About this many entries are kept for a run, the newest.
pub const MAX_KEPT: usize = 10_000;

/// How much of what an active step execution publishes and streams is remembered, so that it is not published twice.
pub(crate) const MAX_REMEMBERED: usize = 10_000;

/// A position in what a run has published: the id of an entry in its stream, `<ms>-<n>`.
///
/// Positions of one run increase. Keep that of the last entry that you have processed, and go on after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    ms: u64,
    n: u64,
}

impl Position {
    /// Before the first entry.
    pub const BEGINNING: Self = Self { ms: 0, n: 0 };

    /// The time part: when the entry was written, in ms since 1970 on Redis' clock.
    pub fn at_ms(self) -> u64 {
        self.ms
    }

    /// The highest position before this one.
    pub(crate) fn before(self) -> Self {
        match (self.ms, self.n) {
            (0, 0) => self,
            (ms, 0) => Self { ms: ms - 1, n: u64::MAX },
            (ms, n) => Self { ms, n: n - 1 },
        }
    }

    /// The position of an entry written now, after the one at this position.
    pub(crate) fn next(self, now_ms: u64) -> Self {
        Self { ms: self.ms, n: self.n + 1 }.max(Self { ms: now_ms, n: 0 })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for Position {
    type Err = Error;

    /// Reads `<ms>-<n>`, or `<ms>` for the first entry of that millisecond at the earliest.
    fn from_str(text: &str) -> Result<Self> {
        let (ms, n) = text.split_once('-').unwrap_or((text, "0"));
        match (ms.parse(), n.parse()) {
            (Ok(ms), Ok(n)) => Ok(Self { ms, n }),
            _ => Err(Error::invalid(
                "a position is the id of an entry in the run's stream of events, such as 1795312270622-0",
            )),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// One entry that a run has published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// Its position in the run's stream. To go on after it later, follow from here.
    pub position: Position,
    /// Its number, from 1, without gaps: if a number is missing, entries were trimmed.
    pub number: u64,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

impl Published {
    /// An entry. For tests: a follower returns the published ones.
    pub fn new(position: Position, number: u64, what: What) -> Self {
        Self { position, number, what }
    }
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum What {
    /// A step published an event.
    Event {
        /// The event's name.
        event: String,
        /// The place in the body at which it was published: `<seq>.<call>.<number>`. It is the same each time that
        /// the body runs, and unique in the run. An entry with the id of an earlier one supersedes that one: the body ran
        /// again, and published something else there.
        id: String,
        /// The attempt that published it.
        #[serde(flatten)]
        by: By,
        /// How `data` is written.
        #[serde(serialize_with = "crate::run::content")]
        content: Content,
        /// The event itself; [`Published::read`] reads it.
        #[serde(serialize_with = "crate::run::lossy")]
        data: Vec<u8>,
    },
    /// The state of a step execution has changed. Published only if the run was started with this option.
    State {
        /// The new state.
        state: StepState,
        /// The event that the step works on.
        event: String,
        /// The step execution and its attempt: 0 before the first. The worker is `-` while it waits.
        #[serde(flatten)]
        by: By,
        /// For [`StepState::Done`]: the names of the events that it emitted, each once. The same for a failed one, if
        /// another step catches the failure.
        emitted: Vec<String>,
        /// For [`StepState::Retry`] and [`StepState::Failed`]: the error, if there was one.
        error: Option<String>,
    },
    /// A stream goes on: see [`Streams`].
    Piece {
        /// The stream's name.
        stream: String,
        /// The place in the body at which the stream began: `<seq>.<call>.<number>`. It is the same each time that
        /// the body runs, and unique in the run.
        id: String,
        /// The number of the text, from 1: a new text begins when another attempt writes something else.
        take: u32,
        /// How many bytes of the text come before. With the stream's id and its take, it identifies the piece.
        at: u64,
        /// The piece.
        text: String,
        /// Nothing comes after it.
        last: bool,
        /// The attempt that published it.
        #[serde(flatten)]
        by: By,
    },
    /// The stream's earlier pieces are void: another attempt writes something else. Its text follows, from the
    /// beginning.
    Superseded {
        /// The stream's name.
        stream: String,
        /// Like that of [`What::Piece`].
        id: String,
        /// The number of the text that begins.
        take: u32,
        /// The attempt that published it.
        #[serde(flatten)]
        by: By,
    },
    /// The run has ended. Nothing comes after it.
    End {
        /// Its final status.
        status: Status,
    },
    /// Entries were trimmed before they were read: more were published than are kept.
    Missed {
        /// How many, at most.
        count: u64,
    },
    /// An entry that this version does not know: its fields.
    Other {
        /// Names and values.
        fields: Vec<(String, String)>,
    },
}

/// The state of a step execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StepState {
    /// It waits for a worker, for its turn, or for the delay that the run was started with.
    Waiting,
    /// A worker has it.
    Running,
    /// It has committed.
    Done,
    /// Its attempt failed, and another follows after a delay.
    Retry,
    /// It failed for good.
    Failed,
    /// It waits for signals, and holds no worker.
    Suspended,
    /// Its fan-out was closed because its joins had enough. Executions that never began are not reported.
    Dropped,
}

impl StepState {
    /// As in an entry's `state` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
            Self::Dropped => "dropped",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "waiting" => Self::Waiting,
            "running" => Self::Running,
            "done" => Self::Done,
            "retry" => Self::Retry,
            "failed" => Self::Failed,
            "suspended" => Self::Suspended,
            "dropped" => Self::Dropped,
            _ => return None,
        })
    }
}

/// Which attempt of which step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct By {
    /// The step.
    pub step: String,
    /// The step execution's number.
    pub seq: u64,
    /// The attempt. A later one that publishes the same adds nothing.
    pub attempt: u32,
    /// The worker.
    pub worker: String,
}

impl Published {
    /// The event's name; None for what is not an event.
    pub fn name(&self) -> Option<&str> {
        match &self.what {
            What::Event { event, .. } => Some(event),
            _ => None,
        }
    }

    /// Identifies the event in the run, however often its body runs: see [`What::Event`]. None for what is
    /// not an event.
    pub fn id(&self) -> Option<&str> {
        match &self.what {
            What::Event { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Reads the event; None for what is not an event. Fails if it is of another type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let What::Event { event, content, data, .. } = &self.what else { return Ok(None) };
        let what = format!("the published event {event}");
        match content {
            Content::Json => codec::decode_json(&what, data).map(Some),
            Content::MessagePack => codec::decode_messagepack(&what, data).map(Some),
        }
    }

    /// Reads an entry of the stream. Every entry is accepted: an unknown one becomes [`What::Other`].
    pub(crate) fn parse(position: Position, fields: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let text = |name: &str| {
            let value = fields.iter().find(|(known, _)| known == name.as_bytes()).map(|(_, value)| value.as_slice());
            value.and_then(|value| std::str::from_utf8(value).ok())
        };
        let number = text("n").and_then(|n| n.parse().ok()).unwrap_or(0);
        let by = || {
            Some(By {
                step: text("step")?.to_owned(),
                seq: text("seq")?.parse().ok()?,
                attempt: text("attempt")?.parse().ok()?,
                worker: text("worker")?.to_owned(),
            })
        };
        let known = match text("kind") {
            Some("event") => text("event").zip(text("id")).zip(by()).map(|((event, id), by)| What::Event {
                event: event.to_owned(),
                id: id.to_owned(),
                by,
                content: text("content").and_then(|content| Content::parse(content).ok()).unwrap_or_default(),
                data: fields.iter().find(|(name, _)| name == b"data").map(|(_, data)| data.clone()).unwrap_or_default(),
            }),
            Some("state") => {
                text("state").and_then(StepState::parse).zip(text("event")).zip(by()).map(|((state, event), by)| {
                    What::State {
                        state,
                        event: event.to_owned(),
                        by,
                        emitted: text("emitted").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
                        error: text("error").map(str::to_owned),
                    }
                })
            }
            Some("piece" | "superseded") => text("stream").zip(text("id")).zip(by()).map(|((stream, id), by)| {
                let (stream, id) = (stream.to_owned(), id.to_owned());
                let number = |name| text(name).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
                let take = u32::try_from(number("take")).unwrap_or(u32::MAX);
                if text("kind") == Some("superseded") {
                    return What::Superseded { stream, id, take, by };
                }
                let (at, last) = (number("at"), text("last").is_some());
                What::Piece { stream, id, take, at, text: text("text").unwrap_or_default().to_owned(), last, by }
            }),
            Some("end") => text("status").and_then(Status::parse).map(|status| What::End { status }),
            _ => None,
        };
        let what = known.unwrap_or_else(|| {
            let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            What::Other { fields: fields.iter().map(|(name, value)| (lossy(name), lossy(value))).collect() }
        });
        Self { position, number, what }
    }
}

/// An event as a step publishes it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The recorded call of the body within which it is published; 0 for none. See [`crate::step::Checkpoint::entries`].
    pub call: u64,
    /// Counts what is published within that call, or outside of any, from 1. It identifies a repetition, in whatever
    /// attempt.
    pub number: u64,
    /// The step.
    pub step: String,
    /// The event's name.
    pub event: String,
    /// How `data` is written.
    pub content: Content,
    /// The event.
    pub data: Vec<u8>,
}

impl Publication {
    /// Its place in the body of its step.
    pub(crate) fn place(&self) -> String {
        format!("{}.{}", self.call, self.number)
    }

    /// Distinguishes it from whatever else may be published at the same place.
    pub(crate) fn digest(&self) -> String {
        let mut whole = format!("{} {}\n", self.event, self.content.as_str()).into_bytes();
        whole.extend_from_slice(&self.data);
        let mut digest = values::digest(&whole);
        digest.truncate(16);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[(&str, &str)]) -> Published {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Published::parse(
            Position { ms: 7, n: 1 },
            &fields.iter().map(|(k, v)| (bytes(k), bytes(v))).collect::<Vec<_>>(),
        )
    }

    const BY: [(&str, &str); 4] = [("step", "look"), ("seq", "3"), ("attempt", "2"), ("worker", "w-1")];

    #[test]
    fn an_event_is_read_as_it_is_written() {
        let fields =
            [&[("n", "4"), ("kind", "event"), ("event", "Found"), ("id", "3.0.1"), ("data", "{\"hits\":3}")], &BY[..]]
                .concat();
        let found = parse(&fields);
        assert_eq!((found.number, found.name(), found.id()), (4, Some("Found"), Some("3.0.1")));
        let value: serde_json::Value = found.read().unwrap().unwrap();
        assert_eq!(value["hits"], 3);
        assert!(found.read::<String>().unwrap_err().to_string().contains("event Found"));
    }

    #[test]
    fn an_end_has_a_status_and_no_event() {
        let end = parse(&[("n", "9"), ("kind", "end"), ("status", "cancelled")]);
        assert_eq!(end.what, What::End { status: Status::Cancelled });
        assert_eq!((end.name(), end.id(), end.read::<u8>().unwrap()), (None, None, None));
    }

    #[test]
    fn a_state_is_read() {
        let fields = [&[("kind", "state"), ("state", "done"), ("event", "E"), ("emitted", "A B")], &BY[..]].concat();
        let What::State { state, emitted, error, .. } = parse(&fields).what else { panic!("not a state") };
        assert_eq!((state, emitted, error), (StepState::Done, vec!["A".to_owned(), "B".to_owned()], None));
    }

    #[test]
    fn pieces_of_a_stream_are_read() {
        let head = [("stream", "answer"), ("id", "3.1.1"), ("take", "2")];
        let piece =
            parse(&[&[("kind", "piece"), ("at", "7"), ("text", "tok"), ("last", "1")], &head[..], &BY[..]].concat());
        let What::Piece { stream, take, at, text, last, .. } = piece.what else { panic!("not a piece") };
        assert_eq!((&*stream, take, at, &*text, last), ("answer", 2, 7, "tok", true));
        let superseded = parse(&[&[("kind", "superseded")], &head[..], &BY[..]].concat());
        assert!(matches!(superseded.what, What::Superseded { take: 2, .. }));
    }

    #[test]
    fn what_is_not_known_is_kept_as_it_is() {
        for strange in [&[("kind", "dance")][..], &[("kind", "end")], &[("kind", "event"), ("event", "E")], &[]] {
            assert!(matches!(parse(strange).what, What::Other { fields } if fields.len() == strange.len()));
        }
    }

    #[test]
    fn positions_rise_and_are_read_back() {
        let first = Position::BEGINNING.next(5);
        let later = first.next(5).next(3);
        assert_eq!((first.to_string(), later.to_string()), ("5-0".into(), "5-2".into()));
        assert_eq!("5-2".parse::<Position>().unwrap(), later);
        assert!(later.before() < later && first.before() < first && first.before() > Position::BEGINNING);
        assert!("later".parse::<Position>().unwrap_err().is_invalid());
    }
}
