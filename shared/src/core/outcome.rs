//! The outcome of a call, from the words of its reply and what follows them.

use std::time::Duration;

use super::generated::words;
use super::reply::Reply;
use crate::error::{Error, Result};
use crate::run::Status;
use crate::step::{Answered, Cancelled, CommitStatus, Forked, Paused, Resumed, Retried, SendDeferral, Sent, Signalled};
use crate::store::{
    ChildTold, Deferral, Ended, Fired, ForkPoint, ForkSource, Heartbeat, Reaped, Reservation, Started, Voided,
};
use crate::values::Refusal;

/// Why a merge was refused: the field, and what is wrong with it.
pub(crate) fn refused(mut reply: Reply) -> Result<Error> {
    let field = reply.text()?;
    Ok(Refusal::parse(&reply.text()?)?.error(&field))
}

/// Entries of a journal.
pub(crate) fn numbered(entries: Reply) -> Result<Vec<(u64, Vec<u8>)>> {
    let number = |(number, entry): (String, Vec<u8>)| {
        Ok((number.parse().map_err(|_| Error::reply("a wait has no number"))?, entry))
    };
    entries.pairs()?.into_iter().map(number).collect()
}

pub(crate) fn started(word: words::Start, mut reply: Reply) -> Result<Started> {
    Ok(match word {
        words::Start::Started => Started::New(reply.text()?),
        words::Start::Exists => Started::Known(reply.text()?),
        words::Start::NoSource => Started::NoSource(reply.text()?),
        words::Start::Full => Started::LineFull(reply.text()?),
        words::Start::Void => Started::Void,
    })
}

impl From<words::Defer> for Deferral {
    fn from(word: words::Defer) -> Self {
        match word {
            words::Defer::Deferred => Self::Kept,
            words::Defer::Exists => Self::Known,
            words::Defer::Full => Self::Full,
        }
    }
}

impl From<words::Fail> for CommitStatus {
    fn from(word: words::Fail) -> Self {
        match word {
            words::Fail::Ok => Self::Committed,
            words::Fail::Fenced => Self::Fenced,
            words::Fail::Forgotten => Self::Forgotten,
        }
    }
}

impl From<words::Publish> for CommitStatus {
    fn from(word: words::Publish) -> Self {
        match word {
            words::Publish::Ok => Self::Committed,
            words::Publish::Fenced => Self::Fenced,
        }
    }
}

impl From<words::Signal> for Signalled {
    fn from(word: words::Signal) -> Self {
        match word {
            words::Signal::Delivered => Self::Delivered,
            words::Signal::Kept => Self::Kept,
            words::Signal::Full => Self::Full,
            words::Signal::Gone => Self::Gone,
            words::Signal::Repeated => Self::Repeated,
            words::Signal::Over => Self::Over,
            words::Signal::Unknown => Self::Unknown,
        }
    }
}

impl From<words::Cancel> for Cancelled {
    fn from(word: words::Cancel) -> Self {
        match word {
            words::Cancel::Cancelled => Self::Stopped,
            words::Cancel::Gone => Self::Gone,
            words::Cancel::Repeated => Self::Repeated,
            words::Cancel::Over => Self::Over,
            words::Cancel::Unknown => Self::Unknown,
        }
    }
}

impl From<words::ChildEnded> for ChildTold {
    fn from(word: words::ChildEnded) -> Self {
        match word {
            words::ChildEnded::Told => Self::Told,
            words::ChildEnded::Gone => Self::Gone,
            words::ChildEnded::Over => Self::Over,
        }
    }
}

impl From<words::Answer> for Answered {
    fn from(word: words::Answer) -> Self {
        match word {
            words::Answer::Answered => Self::Answered,
            words::Answer::Closed => Self::Closed,
            words::Answer::Gone => Self::Gone,
            words::Answer::Repeated => Self::Repeated,
            words::Answer::Over => Self::Over,
            words::Answer::Unknown => Self::Unknown,
        }
    }
}

impl From<words::Pause> for Paused {
    fn from(word: words::Pause) -> Self {
        match word {
            words::Pause::Paused => Self::Paused,
            words::Pause::Already => Self::Already,
            words::Pause::Gone => Self::Gone,
            words::Pause::Repeated => Self::Repeated,
            words::Pause::Over => Self::Over,
            words::Pause::Unknown => Self::Unknown,
        }
    }
}

impl From<words::Resume> for Resumed {
    fn from(word: words::Resume) -> Self {
        match word {
            words::Resume::Resumed => Self::GoesOn,
            words::Resume::Already => Self::Already,
            words::Resume::Gone => Self::Gone,
            words::Resume::Repeated => Self::Repeated,
            words::Resume::Over => Self::Over,
            words::Resume::Unknown => Self::Unknown,
        }
    }
}

pub(crate) fn forkable(word: words::Forkable, mut reply: Reply) -> Result<ForkPoint> {
    Ok(match word {
        words::Forkable::Start | words::Forkable::Step => ForkPoint::At(ForkSource {
            is_start: matches!(word, words::Forkable::Start),
            seq: number(&reply.text()?)?,
            step: reply.text()?,
            workflow: reply.text()?,
            version: number(&reply.text()?)?,
            heads: numbered(reply.array()?)?.into_iter().collect(),
        }),
        words::Forkable::Several => {
            let found = reply.array()?.pairs()?.into_iter();
            let named =
                |(seq, step): (String, Vec<u8>)| Ok((number(&seq)?, String::from_utf8_lossy(&step).into_owned()));
            ForkPoint::Several(found.map(named).collect::<Result<_>>()?)
        }
        words::Forkable::Refused => ForkPoint::Refused(reply.text()?),
        words::Forkable::Waiting => ForkPoint::Held,
        words::Forkable::Unknown => ForkPoint::Unknown,
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::reply("what a fork begins with has no number"))
}

pub(crate) fn forked(word: words::Fork, mut reply: Reply) -> Result<Forked> {
    Ok(match word {
        words::Fork::Forked => Forked::Made,
        words::Fork::Exists => Forked::Known,
        words::Fork::Taken => Forked::Taken,
        words::Fork::Changed => Forked::Changed,
        words::Fork::Gone => Forked::Gone,
        words::Fork::Repeated => Forked::Repeated,
        words::Fork::Waiting => Forked::Held,
        words::Fork::Unknown => Forked::Unknown,
        words::Fork::Refused => Forked::Refused(reply.text()?),
    })
}

pub(crate) fn retried(word: words::Retry, mut reply: Reply) -> Result<Retried> {
    Ok(match word {
        words::Retry::Retried => Retried::GoesOn,
        words::Retry::Gone => Retried::Gone,
        words::Retry::Repeated => Retried::Repeated,
        words::Retry::Live => Retried::Live,
        words::Retry::Paused => Retried::Paused,
        words::Retry::Waiting => Retried::Held,
        words::Retry::Over => Retried::Over,
        words::Retry::Unknown => Retried::Unknown,
        words::Retry::Refused => Retried::Refused(reply.text()?),
    })
}

impl From<words::Send> for Sent {
    fn from(word: words::Send) -> Self {
        match word {
            words::Send::Delivered => Self::Delivered,
            words::Send::Full => Self::Full,
            words::Send::Gone => Self::Gone,
            words::Send::Repeated => Self::Repeated,
            words::Send::Over => Self::Over,
            words::Send::Unknown => Self::Unknown,
        }
    }
}

impl From<words::DeferSend> for SendDeferral {
    fn from(word: words::DeferSend) -> Self {
        match word {
            words::DeferSend::Deferred => Self::Deferred,
            words::DeferSend::Gone => Self::Gone,
            words::DeferSend::Repeated => Self::Repeated,
            words::DeferSend::Full => Self::Full,
            words::DeferSend::Live => Self::Live,
            words::DeferSend::Over => Self::Over,
            words::DeferSend::Unknown => Self::Unknown,
        }
    }
}

impl From<words::Void> for Voided {
    fn from(word: words::Void) -> Self {
        match word {
            words::Void::Void => Self::Void,
            words::Void::Exists => Self::Exists,
            words::Void::Deferred => Self::Deferred,
        }
    }
}

/// `moved more [reaped...] workers [late...] [workflow status...]`
pub(crate) fn reaped(mut reply: Reply) -> Result<Reaped> {
    let (requeued, more) = (reply.number()?, reply.number::<i64>()? == 1);
    let (reaped, workers, mut late) = (reply.array()?.texts()?, reply.number()?, reply.array()?);
    let mut expired = Vec::new();
    while !late.is_over() {
        expired.push(u64::try_from(late.number::<i64>()?).ok().map(Duration::from_millis));
    }
    Ok(Reaped { requeued, more, reaped, workers, expired, ended: ended(reply.array()?)? })
}

/// `[workflow status...]`
fn ended(list: Reply) -> Result<Vec<Ended>> {
    let read = |(workflow, status): (String, Vec<u8>)| {
        let status = std::str::from_utf8(&status).ok().and_then(Status::parse);
        Ok(Ended { workflow, status: status.ok_or_else(|| Error::reply("a run ended with an unknown status"))? })
    };
    list.pairs()?.into_iter().map(read).collect()
}

/// `now fired more wait late [workflow status...]`
pub(crate) fn fired(mut reply: Reply) -> Result<Fired> {
    let _now: u64 = reply.number()?;
    let (fired, more, wait) = (reply.number()?, reply.number::<i64>()? == 1, reply.number::<i64>()?);
    let (next_due, late) =
        (u64::try_from(wait).ok().map(Duration::from_millis), Duration::from_millis(reply.number()?));
    Ok(Fired { fired, more, next_due, late, ended: ended(reply.array()?)? })
}

/// The answer to a heartbeat, and the time on Redis' clock (ms).
pub(crate) fn heartbeat(word: words::Heartbeat, mut reply: Reply) -> Result<(Heartbeat, u64)> {
    let now = reply.number()?;
    if word == words::Heartbeat::Lost {
        return Ok((Heartbeat::Lost, now));
    }
    let (mut runs, mut cancelled) = (reply.array()?, Vec::new());
    while !runs.is_over() {
        // Foreign data there must not end the lease.
        cancelled.push(String::from_utf8_lossy(&runs.bytes()?).into_owned());
    }
    Ok((Heartbeat::Renewed { cancelled, drain: reply.number::<i64>()? == 1 }, now))
}

/// `run ticket place`; None if the key is nobody's.
pub(crate) fn reservation(workflow: &str, key: &str, mut reply: Reply) -> Result<Option<Reservation>> {
    let (run, ticket, place) = (reply.text()?, reply.text()?, reply.text()?);
    let (workflow, key) = (workflow.to_owned(), key.to_owned());
    Ok(Some(Reservation { workflow, key, ticket, place: read_place(&place), run }).filter(|it| !it.run.is_empty()))
}

/// `<inbox>/<entry>`, as it is kept.
pub(crate) fn place_text(place: Option<&(u16, String)>) -> String {
    place.map_or_else(String::new, |(inbox, entry)| format!("{inbox}/{entry}"))
}

fn read_place(text: &str) -> Option<(u16, String)> {
    let (inbox, entry) = text.split_once('/')?;
    Some((inbox.parse().ok()?, entry.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Some((3, "1719922000000-0".to_owned()));
        assert_eq!(read_place(&place_text(place.as_ref())), place);
        assert_eq!(read_place(&place_text(None)), None);
        assert_eq!(read_place("x/y"), None);
    }
}
