//! Reads requests about a run from an inbox entry.

use super::{
    AnswerRequest, ChildEndedRequest, Fields, ForkRequest, PlainRequest, RetryRequest, SendRequest, SignalRequest,
    StartRequest,
};
use super::{check_fields, empty_input, field, raw, shorten};
use crate::child::{ChildEnd, Parent};
use crate::codec::Content;
use crate::error::{Error, Result};
use crate::journal::FIRST_ORDER;
use crate::names;
use crate::run::Status;

pub(super) fn signal(fields: &Fields) -> Result<SignalRequest> {
    check_fields(fields, "signal", &["run", "name", "input", "content", "request"])?;
    let needed = |name: &str, what: &str| {
        let found = field(fields, name)?.map(str::to_owned);
        found.ok_or_else(|| Error::invalid(format!("the entry has no field {name}; {what}")))
    };
    let content = Content::parse(field(fields, "content")?.unwrap_or_else(|| Content::Json.as_str()))?;
    let request = SignalRequest {
        run: needed("run", "name the run to signal")?,
        name: needed("name", "give the name that the run waits for")?,
        content,
        input: raw(fields, "input").unwrap_or(if content == Content::MessagePack { b"\xc0" } else { b"null" }).to_vec(),
        request: field(fields, "request")?.map(str::to_owned),
    };
    request.check()?;
    Ok(request)
}

pub(super) fn send(fields: &Fields) -> Result<SendRequest> {
    check_fields(fields, "send", &["run", "event", "step", "input", "content", "request"])?;
    let needed = |name: &str, what: &str| {
        let found = field(fields, name)?.map(str::to_owned);
        found.ok_or_else(|| Error::invalid(format!("the entry has no field {name}; {what}")))
    };
    let content = field(fields, "content")?.unwrap_or_else(|| Content::Json.as_str());
    let request = SendRequest {
        run: needed("run", "name the run to send the event to")?,
        event: needed("event", "name the event")?,
        step: field(fields, "step")?.map(str::to_owned),
        content: Content::parse(content)?,
        input: raw(fields, "input").unwrap_or_else(|| empty_input(content)).to_vec(),
        request: field(fields, "request")?.map(str::to_owned),
    };
    request.check()?;
    Ok(request)
}

pub(super) fn answer(fields: &Fields) -> Result<AnswerRequest> {
    check_fields(fields, "answer", &["run", "question", "input", "content", "by", "request"])?;
    let needed = |name: &str, what: &str| {
        let found = field(fields, name)?.map(str::to_owned);
        found.ok_or_else(|| Error::invalid(format!("the entry has no field {name}; {what}")))
    };
    let request = AnswerRequest {
        run: needed("run", "name the run that asks")?,
        question: needed("question", "give the question's name, or its number")?,
        content: Content::parse(field(fields, "content")?.unwrap_or_else(|| Content::Json.as_str()))?,
        input: raw(fields, "input").ok_or_else(|| Error::invalid("the entry has no field input, the answer"))?.to_vec(),
        by: field(fields, "by")?.map(str::to_owned),
        request: field(fields, "request")?.map(str::to_owned),
    };
    request.check()?;
    Ok(request)
}

pub(super) fn plain(fields: &Fields, operation: &str) -> Result<PlainRequest> {
    check_fields(fields, operation, &["run", "request"])?;
    let request = PlainRequest {
        run: field(fields, "run")?
            .ok_or_else(|| Error::invalid(format!("the entry has no field run; name the run to {operation}")))?
            .to_owned(),
        request: field(fields, "request")?.map(str::to_owned),
    };
    request.check()?;
    Ok(request)
}

pub(super) fn retry(fields: &Fields) -> Result<RetryRequest> {
    check_fields(fields, "retry", &["run", "input", "content", "request"])?;
    let run = field(fields, "run")?.map(str::to_owned);
    let input = raw(fields, "input").map(<[u8]>::to_vec);
    let content = field(fields, "content")?;
    if content.is_some() && input.is_none() {
        return Err(Error::invalid("the entry has content and no input; leave both out to retry with the same event"));
    }
    let request = RetryRequest {
        run: run.ok_or_else(|| Error::invalid("the entry has no field run; name the run to retry"))?,
        content: Content::parse(content.unwrap_or_else(|| Content::Json.as_str()))?,
        input,
        request: field(fields, "request")?.map(str::to_owned),
    };
    request.check()?;
    Ok(request)
}

pub(super) fn fork(fields: &Fields) -> Result<ForkRequest> {
    check_fields(fields, "fork", &["run", "as", "seq", "call", "input", "content", "request"])?;
    let input = raw(fields, "input").map(<[u8]>::to_vec);
    let content = field(fields, "content")?;
    if content.is_some() && input.is_none() {
        return Err(Error::invalid("the entry has content and no input; leave both out to fork with the same event"));
    }
    let number = |name: &str| {
        let number = |text: &str| text.parse().ok().filter(|number: &u64| (1..FIRST_ORDER).contains(number));
        let read =
            |text| number(text).ok_or_else(|| Error::invalid(format!("{name} {:?} is not a number", shorten(text))));
        field(fields, name)?.map(read).transpose()
    };
    let request = ForkRequest {
        run: field(fields, "run")?
            .ok_or_else(|| Error::invalid("the entry has no field run; name the run to fork"))?
            .to_owned(),
        id: field(fields, "as")?.map(str::to_owned),
        seq: number("seq")?,
        call: number("call")?,
        content: Content::parse(content.unwrap_or_else(|| Content::Json.as_str()))?,
        input,
        request: field(fields, "request")?.map(str::to_owned),
    };
    request.check()?;
    Ok(request)
}

/// A child run that a run asks for.
pub(super) fn child(fields: &Fields) -> Result<StartRequest> {
    check_fields(fields, "child", &["run", "parent", "wait", "request"])?;
    let request = raw(fields, "request").unwrap_or_default();
    let request = StartRequest {
        id: Some(text(fields, "run")?),
        parent: Some(Parent { run: text(fields, "parent")?, wait: text(fields, "wait")? }),
        ..rmp_serde::from_slice(request)
            .map_err(|error| Error::invalid(format!("the request cannot be read: {error}")))?
    };
    request.check()?;
    Ok(request)
}

pub(super) fn child_ended(fields: &Fields) -> Result<ChildEndedRequest> {
    check_fields(fields, "child-ended", &["run", "wait", "child", "status", "content", "output"])?;
    let parent = Parent { run: text(fields, "run")?, wait: text(fields, "wait")? };
    parent.check()?;
    let (run, status) = (text(fields, "child")?, text(fields, "status")?);
    names::check_id("run id", &run)?;
    let status = Status::parse(&status).filter(|status| status.is_over());
    let end = ChildEnd {
        run,
        status: status.ok_or_else(|| Error::invalid("the entry does not say how the child run ended"))?,
        content: Content::parse(&text(fields, "content")?)?.as_str().to_owned(),
        output: raw(fields, "output").unwrap_or_default().to_vec(),
    };
    Ok(ChildEndedRequest { parent, end })
}

fn text(fields: &Fields, name: &str) -> Result<String> {
    let found = field(fields, name)?.map(str::to_owned);
    found.ok_or_else(|| Error::invalid(format!("the entry has no field {name}")))
}
