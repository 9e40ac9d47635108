//! The short ways of commits, checkpoints and starts: their arguments and outcomes.

use std::collections::BTreeMap;

use super::args::ms;
use super::build::{fields, queue};
use super::generated::args::{EndBranch, EndRun, Ending, HandOver, Record, StartRun};
use super::record::claimed;
use super::reply::{self, Reply};
use super::value::Value;
use crate::error::Result;
use crate::step::{Bytes, CallId, Checkpoint, Claimed, Commit, Fence, Line, Refill, Route};
use crate::store::Start;

fn ending<'a>(call: &'a CallId, step: &'a Claimed) -> Ending<'a> {
    let fence = &step.fence;
    let since = fence.line.as_str().split(' ').nth(5).unwrap_or_default();
    Ending {
        worker: &call.worker,
        call: call.number,
        slot: fence.slot.into(),
        run: &fence.run,
        number: fence.seq,
        line: fence.line.as_str(),
        history: format!(" done {} {} {} {} {since}", fence.seq, fence.attempt, step.step, call.worker),
    }
}

pub(crate) fn hand_over<'a>(
    call: &'a CallId,
    step: &'a Claimed,
    commit: &'a Commit,
    (route, payload): &'a (Route, Vec<u8>),
) -> HandOver<'a> {
    HandOver {
        ending: ending(call, step),
        record: route.record(step.group, None, payload),
        version: if route.context { step.context_version.to_string() } else { "-".to_owned() },
        fields: fields(&commit.set),
    }
}

pub(crate) fn end_branch<'a>(
    call: &'a CallId,
    step: &'a Claimed,
    commit: &'a Commit,
    refill: &'a Refill,
) -> EndBranch<'a> {
    let (join, event) = commit.joins.first().map_or(("", &[][..]), |(join, event)| (join, event));
    EndBranch {
        ending: ending(call, step),
        after: queue(refill.after.as_ref()),
        group: step.group,
        join,
        event,
        fields: fields(&commit.set),
    }
}

pub(crate) fn end_run<'a>(
    call: &'a CallId,
    step: &'a Claimed,
    commit: &'a Commit,
    refill: &'a Refill,
    result: &'a [u8],
) -> EndRun<'a> {
    let fence = &step.fence;
    EndRun {
        ending: ending(call, step),
        after: queue(refill.after.as_ref()),
        completed: format!(" completed {} {} {} {} ", fence.seq, fence.attempt, step.step, call.worker),
        result,
        retention: ms(commit.retention),
        fields: fields(&commit.set),
    }
}

/// None if the checkpoint has to go the long way.
pub(crate) fn record<'a>(fence: &'a Fence, checkpoint: &'a Checkpoint) -> Option<Record<'a>> {
    let (number, entry) = checkpoint.only_entry()?;
    let upon = checkpoint.upon.map_or_else(String::new, |upon| upon.to_string());
    Some(Record { run: &fence.run, number: fence.seq, line: fence.line.as_str(), upon, call: *number, entry })
}

/// None if the start has to go the long way.
pub(crate) fn start(start: &Start) -> Option<StartRun<'_>> {
    let (entry, route) = start.is_plain()?;
    let request = &start.request;
    Some(StartRun {
        run: &start.run,
        workflow: &request.workflow,
        version: start.version.into(),
        content: request.content().as_str(),
        input: &request.input,
        entry,
        record: route.record(0, Some('i'), &[]),
    })
}

/// Whether the short way of a checkpoint or a start did all of it.
pub(crate) fn was_gone(reply: &Value) -> Result<bool> {
    Ok(reply::number::<i64>(reply)? == 1)
}

/// The outcome of the short way of a commit: `seq, now, version`, and the context if the worker cannot know it. The
/// rest is what the worker has sent. None if the commit must go the long way. Pure.
pub(crate) fn handed_over(reply: Value, call: &CallId, step: &Claimed, commit: &Commit) -> Result<Option<Claimed>> {
    if reply == Value::Int(0) {
        return Ok(None);
    }
    let Some((route, payload)) = commit.only_successor() else { return Ok(None) };
    let mut reply = Reply::new(reply)?;
    let (seq, now, context_version) = (reply.number()?, reply.text()?, reply.number()?);
    let context = match (route.context, reply.is_over()) {
        (false, _) => Vec::new(),
        (true, false) => reply.array()?.shared_pairs()?,
        (true, true) => with_changes(&step.context, &commit.set),
    };
    let fence = Fence {
        run: step.fence.run.clone(),
        seq,
        attempt: 1,
        claim: call.number,
        slot: step.fence.slot,
        line: Line::new(&format!("H 1 0 0 {} {now} {}", call.worker, call.number)),
    };
    Ok(Some(Claimed {
        fence,
        recoveries: route.recoveries,
        group: step.group,
        within: step.within.clone(),
        step: route.step.clone(),
        event: route.event.clone(),
        payload: payload.clone(),
        workflow: step.workflow.clone(),
        version: step.version,
        content: step.content,
        durability: step.durability,
        context,
        context_version: if route.context { context_version } else { 0 },
        ..Claimed::default()
    }))
}

/// The outcome of the short way of a commit.
pub(crate) enum Shortly {
    /// It must go the long way.
    LongWay,
    /// It was committed, and this is what the slot has now.
    Committed(Option<Box<Claimed>>),
}

impl Shortly {
    pub(crate) fn handed_over(successor: Option<Claimed>) -> Self {
        successor.map_or(Self::LongWay, |successor| Self::Committed(Some(Box::new(successor))))
    }
}

/// The outcome of a short way that ends a branch or a run: 0, 1, or what the slot has now. Pure.
pub(crate) fn slot_after(reply: Value, call: u64) -> Result<Shortly> {
    match reply {
        Value::Int(0) => Ok(Shortly::LongWay),
        Value::Int(_) => Ok(Shortly::Committed(None)),
        item => Ok(Shortly::Committed(Some(Box::new(claimed(Reply::new(item)?, call)?)))),
    }
}

/// The context after a commit that set these fields.
fn with_changes(context: &[(String, Bytes)], set: &[(String, Vec<u8>)]) -> Vec<(String, Bytes)> {
    let known = context.iter().map(|(field, value)| (field, value.clone()));
    let mut fields: BTreeMap<&String, Bytes> = known.collect();
    fields.extend(set.iter().map(|(field, value)| (field, Bytes::copy_from_slice(value))));
    fields.into_iter().map(|(field, value)| (field.clone(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn what_is_handed_over_has_the_context_that_the_worker_knows() {
        let step = Claimed {
            context: vec![("a".into(), vec![1].into()), ("b".into(), vec![2].into())],
            context_version: 7,
            ..Claimed::default()
        };
        let route = Route { step: "next".into(), event: "E".into(), context: true, ..Route::default() };
        let commit = Commit { emits: vec![(route, vec![9])], set: vec![("b".into(), vec![3])], ..Commit::default() };
        let call = CallId { worker: "w".into(), number: 5, again: false };
        let known = Value::List(vec![bulk("12"), bulk("1795312511771"), bulk("8")]);
        let next = handed_over(known, &call, &step, &commit).unwrap().unwrap();
        assert_eq!(
            (next.context, next.context_version),
            (vec![("a".into(), vec![1].into()), ("b".into(), vec![3].into())], 8)
        );
        assert_eq!(next.fence.line.as_str(), "H 1 0 0 w 1795312511771 5");
        let changed = Value::List(vec![bulk("12"), bulk("1"), bulk("9"), Value::List(vec![bulk("c"), bulk("z")])]);
        let next = handed_over(changed, &call, &step, &commit).unwrap().unwrap();
        assert_eq!((next.context, next.context_version), (vec![("c".into(), b"z".to_vec().into())], 9));
        assert!(handed_over(Value::Int(0), &call, &step, &commit).unwrap().is_none());
    }
}
