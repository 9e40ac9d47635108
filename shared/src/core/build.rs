//! Builds the arguments of transitions from what callers have.

use std::time::Duration;

use super::args::{Headed, ms, ms_or_none};
use super::generated::args::{
    self, Audit, Caller, Changes, Checkpoint, Claim, Collect, Complete, Defer, Fail, Place, Publish, Reap, Register,
    Reject, Release, Reserve, Slot, Stage, Start, Stream, Suspend,
};
use super::outcome::place_text;
use crate::attributes;
use crate::child::Parent;
use crate::error::Result;
use crate::names::QueueName;
use crate::published::{Piece, Publication};
use crate::reply::name_of_list;
use crate::step::{self, Body, CallId, Claimed, Commit, Failure, Fence, Merge, Next, Refill, Route, Upon, Wait};
use crate::store::{self, Introduction, Rejection, Reservation};

impl<'a> From<&'a CallId> for Caller<'a> {
    fn from(call: &'a CallId) -> Self {
        Self { worker: &call.worker, call: call.number, again: call.again }
    }
}

impl<'a> From<&'a Fence> for args::Fence<'a> {
    fn from(fence: &'a Fence) -> Self {
        Self { run: &fence.run, seq: fence.seq, line: fence.line.as_str() }
    }
}

fn slot<'a>(fence: &Fence, refill: &'a Refill) -> Slot<'a> {
    let next = match refill.next {
        Next::Nothing => 0,
        Next::Following => 1,
        Next::Others => 2,
    };
    Slot { slot: fence.slot.into(), next, after: queue(refill.after.as_ref()) }
}

fn place(step: &Claimed) -> Place<'_> {
    Place { group: step.group, step: if step.step.is_empty() { "-" } else { &step.step } }
}

pub(super) fn queue(queue: Option<&QueueName>) -> &str {
    queue.map_or("", QueueName::as_str)
}

pub(super) fn fields(fields: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    fields.iter().map(|(field, value)| (&**field, &**value)).collect()
}

/// The records of new step executions.
fn records(group: u64, emits: &[(Route, Vec<u8>)]) -> Vec<Headed<'_>> {
    emits.iter().map(|(route, payload)| route.record(group, None, payload)).collect()
}

fn changes(changes: step::Changes<'_>) -> Changes<'_> {
    Changes {
        set: fields(changes.set),
        unset: changes.unset.iter().map(String::as_str).collect(),
        merges: changes.merges.iter().map(|(field, merge)| merged(field, merge)).collect(),
        expects: changes.expects.iter().map(|(field, sha1)| (&**field, sha1.as_deref().unwrap_or_default())).collect(),
    }
}

fn merged<'a>(field: &'a str, merge: &'a Merge) -> (&'a str, String, Headed<'a>) {
    match merge {
        Merge::Add(delta) => (field, "+".to_owned(), Headed { head: delta.to_string(), rest: &[] }),
        Merge::Append { form, bytes } => {
            (field, char::from(*form).to_string(), Headed { head: String::new(), rest: bytes })
        }
    }
}

fn waits(waits: &[Wait]) -> Vec<(u64, &str, i64, String, &[u8])> {
    let written = |wait: &Wait| attributes::written(&wait.filter);
    let deadline = |wait: &Wait| ms_or_none(wait.deadline);
    waits.iter().map(|wait| (wait.number, &*wait.name, deadline(wait), written(wait), &*wait.question)).collect()
}

/// The idempotency key that the transition looks at: none if it is another partition's.
fn own_key(start: &store::Start) -> &str {
    start.request.key.as_deref().filter(|_| start.ticket.is_none()).unwrap_or_default()
}

pub(crate) fn start(start: &store::Start) -> Start<'_> {
    let request = &start.request;
    Start {
        run: &start.run,
        workflow: &request.workflow,
        version: start.version.into(),
        content: request.content().as_str(),
        input: &request.input,
        key: own_key(start),
        key_ttl: ms(start.key_ttl),
        delay: i64::try_from(request.delay_ms).unwrap_or(i64::MAX),
        entry: start.entry.as_deref().unwrap_or_default(),
        timeout: ms_or_none(start.timeout),
        heads: start.routes.iter().map(|route| route.record(0, Some('i'), &[])).collect(),
        followed: request.follow_steps,
        from: request.context_from.as_deref().unwrap_or_default(),
        fields: fields(&start.context),
        ticket: start.ticket.as_deref().unwrap_or_default(),
        session: request.session.as_deref().unwrap_or_default(),
        parent: parent(start.request.parent.as_ref()),
        reply: reply(start),
        durability: start.durability.to_string(),
    }
}

fn reply(start: &store::Start) -> &str {
    start.request.reply.as_deref().map(name_of_list).unwrap_or_default()
}

fn parent(of: Option<&Parent>) -> String {
    of.map(Parent::line).unwrap_or_default()
}

pub(crate) fn fork<'a>(fork: &'a store::Fork, entry: &'a str, request: &'a str, reply: &'a str) -> args::Fork<'a> {
    args::Fork {
        asked: &fork.asked,
        entry,
        request,
        reply,
        fork: &fork.id,
        point: if fork.is_start { "start" } else { "step" },
        seq: fork.seq.to_string(),
        call: fork.call.map(|call| call.to_string()).unwrap_or_default(),
        timeout: ms_or_none(fork.timeout),
        records: fork.routes.iter().map(|route| route.record(0, Some('i'), &[])).collect(),
        event: fork.event.as_deref().into_iter().collect(),
        entries: fork.entries.iter().map(|kept| (kept.number, &*kept.head, &*kept.becomes)).collect(),
    }
}

/// `request` is it as MessagePack, `limit` how many are kept.
pub(crate) fn defer<'a>(start: &'a store::Start, request: &'a [u8], limit: usize) -> Defer<'a> {
    Defer {
        run: &start.run,
        request,
        entry: start.entry.as_deref().unwrap_or_default(),
        limit: limit as u64,
        workflow: &start.request.workflow,
        key: own_key(start),
        key_ttl: ms(start.key_ttl),
        parent: parent(start.request.parent.as_ref()),
        reply: reply(start),
    }
}

/// `limit` is how many are kept, `most` how many fields of each.
pub(crate) fn reject(rejection: &Rejection, limit: usize, most: usize, retention: Duration) -> Reject<'_> {
    let kept = if rejection.only_shown { 0 } else { limit as u64 };
    let (asked, request) = rejection.request.as_ref().map_or(("", ""), |(run, request)| (run, request));
    Reject {
        asked,
        request,
        entry: &rejection.entry,
        deferred: rejection.deferred.as_deref().unwrap_or_default(),
        run: rejection.run.as_deref().unwrap_or_default(),
        reason: &rejection.reason,
        limit: kept,
        retention: ms(retention),
        parent: parent(rejection.parent.as_ref()),
        reply: rejection.reply.as_deref().unwrap_or_default(),
        fields: rejection.fields.iter().take(most).map(|(field, value)| (&**field, &**value)).collect(),
    }
}

pub(crate) fn claim<'a>(call: &'a CallId, claim: &'a step::Claim) -> Claim<'a> {
    Claim {
        caller: call.into(),
        after: queue(claim.after.as_ref()),
        slots: claim.slots.iter().map(|slot| u64::from(*slot)).collect(),
        alone: claim.alone,
    }
}

pub(crate) fn stage<'a>(fence: &'a Fence, offset: u64, chunk: &'a [(Route, Vec<u8>)]) -> Stage<'a> {
    Stage { fence: fence.into(), offset, records: records(fence.seq, chunk) }
}

pub(crate) fn complete<'a>(
    call: &'a CallId,
    step: &'a Claimed,
    commit: &'a Commit,
    refill: &'a Refill,
) -> Complete<'a> {
    let part =
        |part: &'a step::Part| (part.slot.into(), part.slots.into(), part.route.header(Some('t')), &*part.payload);
    let heads = commit.fan.as_ref().map_or(&[][..], |fan| &fan.joins);
    Complete {
        caller: call.into(),
        slot: slot(&step.fence, refill),
        fence: (&step.fence).into(),
        place: place(step),
        changes: changes(commit.changes()),
        joins: fields(&commit.joins),
        parts: commit.parts.iter().map(part).collect(),
        emits: records(commit.inner_group(step), &commit.emits),
        fan: commit.fan.is_some(),
        heads: heads.iter().map(step::Join::header).collect(),
        staged: commit.fan.as_ref().map_or(0, |fan| fan.staged),
        consumed: step.joined.as_ref().map_or_else(String::new, |joined| format!("{}:{}", joined.group, step.step)),
        journal: journal(commit),
        rests: commit.rests,
        stop: commit.result.as_deref().into_iter().collect(),
        retention: ms(commit.retention),
        caught: commit.instead().into_iter().collect(),
        unreadable: commit.unreadable.is_some(),
        emitted: commit.emitted.join(" "),
        upon: upon(commit.upon),
    }
}

fn upon(upon: Option<Upon>) -> Option<String> {
    upon.map(|upon| upon.to_string())
}

/// Empty if nothing was recorded; otherwise `j`, and the calls that the body has let go of, as `
/// <number>.<given>.<name>`.
fn journal(commit: &Commit) -> String {
    if !commit.journalled {
        return String::new();
    }
    let let_go = commit.let_go.iter().map(|one| format!(" {}.{}.{}", one.number, one.given, one.name));
    std::iter::once("j".to_owned()).chain(let_go).collect()
}

pub(crate) fn fail<'a>(call: &'a CallId, step: &'a Claimed, failure: &'a Failure, refill: &'a Refill) -> Fail<'a> {
    let (mode, delay, reason, retention, forget, known) = match failure {
        Failure::Retry { delay, error } => ("retry", ms(*delay), error, 0, &[][..], None),
        Failure::Fail { error, retention, forget, upon } => ("fail", 0, error, ms(*retention), &forget[..], *upon),
    };
    Fail {
        caller: call.into(),
        slot: slot(&step.fence, refill),
        fence: (&step.fence).into(),
        place: place(step),
        mode,
        delay,
        reason,
        retention,
        forget: forget.to_vec(),
        upon: upon(known),
    }
}

pub(crate) fn suspend<'a>(
    call: &'a CallId,
    step: &'a Claimed,
    (waiting, body, known): (&'a [Wait], Body, Option<Upon>),
    refill: &'a Refill,
) -> Suspend<'a> {
    Suspend {
        caller: call.into(),
        slot: slot(&step.fence, refill),
        fence: (&step.fence).into(),
        place: place(step),
        waits: waits(waiting),
        keeps: body == Body::Kept,
        upon: upon(known),
    }
}

pub(crate) fn checkpoint<'a>(fence: &'a Fence, checkpoint: &'a step::Checkpoint) -> Checkpoint<'a> {
    Checkpoint {
        fence: fence.into(),
        mark: checkpoint.mark.map_or_else(String::new, |mark| mark.to_string()),
        changes: changes(checkpoint.changes()),
        entries: checkpoint.entries.iter().map(|(number, entry)| (*number, &**entry)).collect(),
        gone: checkpoint.let_go.iter().map(|one| (one.number, &*one.name, one.given)).collect(),
        unreadable: checkpoint.unreadable.iter().map(|one| (one.number, &*one.name, &*one.digest, &*one.why)).collect(),
        waits: waits(&checkpoint.waits),
        upon: upon(checkpoint.upon),
    }
}

pub(crate) fn collect<'a>(fence: &'a Fence, collect: &'a step::Collect) -> Collect<'a> {
    Collect {
        fence: fence.into(),
        place: Place { group: collect.group, step: &collect.step },
        number: collect.number,
        buffer: &collect.buffer,
        count: collect.count.into(),
        payload: &collect.payload,
        upon: upon(collect.upon),
    }
}

pub(crate) fn publish<'a>(worker: &'a str, fence: &'a Fence, event: &'a Publication) -> Publish<'a> {
    Publish {
        worker,
        run: &fence.run,
        seq: fence.seq,
        attempt: fence.attempt.into(),
        line: fence.line.as_str(),
        place: event.place(),
        step: &event.step,
        event: &event.event,
        content: event.content.as_str(),
        data: &event.data,
        digest: event.digest(),
    }
}

pub(crate) fn stream<'a>(worker: &'a str, fence: &'a Fence, piece: &'a Piece) -> Stream<'a> {
    Stream {
        worker,
        run: &fence.run,
        seq: fence.seq,
        attempt: fence.attempt.into(),
        line: fence.line.as_str(),
        place: piece.place(),
        step: &piece.step,
        stream: &piece.stream,
        at: piece.at,
        text: piece.text.as_bytes(),
        last: piece.last,
        done: piece.done.iter().map(String::as_str).collect(),
    }
}

/// Events from outside: they belong to no fan-out.
pub(crate) fn sent(events: &[(Route, Vec<u8>)]) -> Vec<Headed<'_>> {
    events.iter().map(|(route, payload)| route.record(0, Some('o'), payload)).collect()
}

pub(crate) fn register(worker: &Introduction, lease: Duration) -> Result<Register<'_>> {
    let name = |registration: &store::Registration| QueueName::new(&registration.workflow, registration.version);
    let mut queues: Vec<String> = worker.serves.iter().map(|served| name(served).to_string()).collect();
    queues.sort_unstable();
    let served = worker.serves.iter().map(|served| Ok((name(served).to_string(), served.to_json()?)));
    Ok(Register {
        worker: &worker.id,
        lease: ms(lease),
        class: class_of(&queues),
        about: vec![
            ("host", worker.host.clone()),
            ("pid", worker.pid.to_string()),
            ("concurrency", worker.concurrency.to_string()),
        ],
        served: served.collect::<Result<_>>()?,
        queues,
    })
}

/// Stands for all workers that serve the same queues.
fn class_of(queues: &[String]) -> String {
    format!("{:08x}", crc32fast::hash(queues.join(" ").as_bytes()))
}

pub(crate) fn release<'a>(worker: &'a str, fences: &'a [Fence]) -> Release<'a> {
    let row = |fence: &'a Fence| (u64::from(fence.slot), &*fence.run, fence.seq, u64::from(fence.attempt), fence.claim);
    Release { worker, fences: fences.iter().map(row).collect() }
}

pub(crate) fn reap(reap: &store::Reap) -> Reap<'_> {
    Reap {
        limit: reap.limit as u64,
        max_losses: reap.max_losses.into(),
        retention: ms(reap.retention),
        suspects: reap.suspects.iter().map(|(worker, client)| (&**worker, *client)).collect(),
    }
}

pub(crate) fn audit<'a>(audit: &store::Audit, kind: &'a str, name: &'a str, cursor_at: &'a str) -> Audit<'a> {
    Audit {
        fix: audit.repair,
        max_losses: audit.max_losses.into(),
        retention: ms(audit.retention),
        kind,
        name,
        cursor_at,
    }
}

pub(crate) fn reserve(wanted: &Reservation, ttl: Duration) -> Reserve<'_> {
    Reserve {
        workflow: &wanted.workflow,
        key: &wanted.key,
        run: &wanted.run,
        ticket: &wanted.ticket,
        place: place_text(wanted.place.as_ref()),
        ttl: ms(ttl),
    }
}

#[cfg(test)]
mod tests;
