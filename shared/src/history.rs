//! A run's history: one record for each thing that happened to it.

use std::borrow::Cow;

use serde::Serialize;

use crate::names;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// The run was created.
    Start,
    /// A step execution was committed.
    Done,
    /// An attempt failed and will be retried.
    Retry,
    /// A step failed for good, and its failure was handed to a step that catches it.
    Caught,
    /// The worker that held an attempt died or stopped responding; it was queued again.
    Lost,
    /// A worker that was told to stop handed an attempt back.
    Released,
    /// An audit found a breach and repaired it, or failed the run.
    Repaired,
    /// A step waits for signals, and holds no worker meanwhile.
    Suspended,
    /// A signal ended a wait.
    Signal,
    /// People were asked a question.
    Asked,
    /// Somebody answered one.
    Answered,
    /// The run asks for a child run, and waits for it.
    Child,
    /// A child run has ended.
    #[serde(rename = "child-ended")]
    ChildEnded,
    /// The deadline of a wait was over.
    Overdue,
    /// A joining step had all events that it begins with, so the rest of its fan-out was dropped.
    Dropped,
    /// The run completed, and these events were left without a step: their set, buffer or join was never complete.
    Left,
    /// The run has ended, and no step will take the signals that were kept for it.
    #[serde(rename = "unused-signals")]
    UnusedSignals,
    /// A step could not read a signal or an event from outside, which was set aside.
    Unreadable,
    /// The run was cancelled by request.
    Cancelled,
    /// The run completed.
    Completed,
    /// The run failed.
    Failed,
    /// The failed run was retried by request.
    Retried,
    /// The run was paused by request.
    Paused,
    /// The run was resumed by request.
    Resumed,
    /// The run was forked, or is a fork of another run.
    Forked,
    /// It waits for its turn in its session.
    #[serde(rename = "in-line")]
    InLine,
    /// Its turn in its session has come.
    Turn,
    /// A kind that this version does not know; the record's detail has the whole text.
    Other,
}

impl Kind {
    /// As in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Caught => "caught",
            Self::Lost => "lost",
            Self::Released => "released",
            Self::Repaired => "repaired",
            Self::Suspended => "suspended",
            Self::Signal => "signal",
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::Child => "child",
            Self::ChildEnded => "child-ended",
            Self::Overdue => "overdue",
            Self::Dropped => "dropped",
            Self::Left => "left",
            Self::UnusedSignals => "unused-signals",
            Self::Unreadable => "unreadable",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Paused => "paused",
            Self::Forked => "forked",
            Self::InLine => "in-line",
            Self::Turn => "turn",
            Self::Resumed => "resumed",
            Self::Other => "other",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        use Kind::{
            Answered, Asked, Cancelled, Caught, Child, ChildEnded, Completed, Done, Dropped, Failed, Forked, InLine,
            Left, Lost, Overdue, Paused, Released, Repaired, Resumed, Retried, Retry, Signal, Start, Suspended, Turn,
            Unreadable, UnusedSignals,
        };
        [
            Start,
            Done,
            Retry,
            Caught,
            Lost,
            Released,
            Repaired,
            Suspended,
            Signal,
            Asked,
            Answered,
            Child,
            ChildEnded,
            Overdue,
            Dropped,
            Left,
            Cancelled,
            Completed,
            Failed,
            Retried,
            Paused,
            Resumed,
            Forked,
            InLine,
            Turn,
            UnusedSignals,
            Unreadable,
        ]
        .into_iter()
        .find(|k| k.as_str() == text)
    }
}

/// One record of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// When, in ms since 1970 on Redis' clock.
    pub at_ms: u64,
    /// What.
    pub kind: Kind,
    /// The step execution's number; 0 for the run itself.
    pub seq: u64,
    /// The attempt.
    pub attempt: u32,
    /// The step, `-` for the run itself.
    pub step: String,
    /// The worker, `-` for none.
    pub worker: String,
    /// `done`: since when the worker held it (ms); `retry`: the delay in ms and the error; `caught` and
    /// `failed`: the error; `start`: workflow and version; `left`: how many events of what; `unused-signals`: names, and how many
    /// of each; `unreadable`: the signal's name, and why; `asked`: the question's name; `answered`: that, and who answered; `child`: its id, and
    /// the name of the wait; `child-ended`: its id, and how it ended; `in-line`: the session, and the run before it in the line; `turn`:
    /// the session.
    pub detail: String,
}

impl Record {
    /// Reads a record: `<ms> <kind> <seq> <attempt> <step> <worker> <detail>`. Any other text becomes [`Kind::Other`].
    pub fn parse(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        Self::parse_known(&line).unwrap_or_else(|| Self {
            at_ms: 0,
            kind: Kind::Other,
            seq: 0,
            attempt: 0,
            step: "-".to_owned(),
            worker: "-".to_owned(),
            detail: line.into_owned(),
        })
    }

    fn parse_known(line: &str) -> Option<Self> {
        let mut parts = line.splitn(7, ' ');
        Some(Self {
            at_ms: parts.next()?.parse().ok()?,
            kind: Kind::parse(parts.next()?)?,
            seq: parts.next()?.parse().ok()?,
            attempt: parts.next()?.parse().ok()?,
            step: parts.next()?.to_owned(),
            worker: parts.next()?.to_owned(),
            detail: parts.next().unwrap_or_default().to_owned(),
        })
    }

    /// The detail as people read it: in the record, [`crate::names::token`] encodes the names of calls, signals and
    /// buffers.
    pub fn told(&self) -> Cow<'_, str> {
        match self.kind {
            Kind::Asked => Cow::Owned(names::text(self.detail.strip_prefix("%ask.").unwrap_or(&self.detail))),
            Kind::Answered => {
                let (name, by) = self.detail.split_once(' ').unwrap_or((&self.detail, ""));
                let name = names::text(name.strip_prefix("%ask.").unwrap_or(name));
                Cow::Owned(if by.is_empty() { name } else { format!("{name} by {by}") })
            }
            Kind::Suspended | Kind::Signal | Kind::Overdue | Kind::Left | Kind::UnusedSignals => {
                Cow::Owned(names::text(&self.detail))
            }
            Kind::Child => {
                let (id, wait) = self.detail.split_once(' ').unwrap_or((&self.detail, ""));
                Cow::Owned(format!("{id} {}", names::text(wait)))
            }
            Kind::Unreadable => match self.detail.split_once(' ') {
                Some((name, why)) => Cow::Owned(format!("{} {why}", names::text(name))),
                None => Cow::Owned(names::text(&self.detail)),
            },
            _ => Cow::Borrowed(&self.detail),
        }
    }

    /// For a `done` record: when the committed attempt began.
    pub fn began_ms(&self) -> Option<u64> {
        (self.kind == Kind::Done).then(|| self.detail.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_with_spaces_in_its_detail() {
        let record = Record::parse(b"1700000000123 retry 4 2 fetch w-1 250 no route to host");
        assert_eq!((record.kind, record.seq, record.attempt), (Kind::Retry, 4, 2));
        assert_eq!(record.detail, "250 no route to host");
        assert_eq!(Record::parse(b"1 done 4 2 fetch w-1 77").began_ms(), Some(77));
        assert_eq!(record.began_ms(), None);
    }

    #[test]
    fn what_is_not_a_record_is_kept_as_it_is() {
        for bad in [&b""[..], b"x", b"1 done", b"1 danced 1 1 a b", b"\xff\xfe done"] {
            let record = Record::parse(bad);
            assert_eq!((record.kind, record.detail), (Kind::Other, String::from_utf8_lossy(bad).into_owned()));
        }
    }
}
