//! What a transition is given, as the arguments of its function: the Lua reads them in the same order.

use redis::Cmd;

use crate::attributes;
use crate::step::{Call, Changes, Checkpoint, Claim, Claimed, Commit, Fence, Merge, Next, Refill, Route, Wait};
use crate::store::millis;

pub(super) fn call_args(command: &mut Cmd, call: &Call) {
    command.arg(&call.worker).arg(call.number).arg(u8::from(call.again));
}

/// `run, seq, line`
pub(super) fn fence_args(command: &mut Cmd, fence: &Fence) {
    command.arg(&fence.run).arg(fence.seq).arg(fence.line.as_str());
}

pub(super) fn claim_args(command: &mut Cmd, claim: &Claim) {
    command.arg(claim.after.as_ref().map_or("", |queue| queue.as_str())).arg(claim.slots.len());
    for slot in &claim.slots {
        command.arg(slot);
    }
    command.arg(u8::from(claim.alone));
}

/// `slot, next, after`
pub(super) fn refill_args(command: &mut Cmd, fence: &Fence, refill: &Refill) {
    let next = match refill.next {
        Next::Nothing => 0,
        Next::Following => 1,
        Next::Others => 2,
    };
    command.arg(fence.slot).arg(next).arg(refill.after.as_ref().map_or("", |queue| queue.as_str()));
}

/// The start that the short ways share: `worker, call, slot, run, seq, line`, and the history record without its time.
fn short_args(call: &Call, step: &Claimed) -> Cmd {
    let mut command = Cmd::new();
    let fence = &step.fence;
    let since = fence.line.as_str().split(' ').nth(5).unwrap_or_default();
    command.arg(&call.worker).arg(call.number).arg(fence.slot);
    fence_args(&mut command, fence);
    command.arg(format!(" done {} {} {} {} {since}", fence.seq, fence.attempt, step.step, call.worker));
    command
}

/// The arguments of `hand_over` in `lua/short.lua`.
pub(super) fn hand_over_args(call: &Call, step: &Claimed, commit: &Commit, next: &(Route, Vec<u8>)) -> Cmd {
    let (route, payload) = next;
    let mut command = short_args(call, step);
    command.arg(route.record(step.scope, None, payload));
    if route.context {
        command.arg(step.context_version);
    } else {
        command.arg("-");
    }
    for (field, value) in &commit.set {
        command.arg(field).arg(value);
    }
    command
}

/// The arguments of `end_run` in `lua/short.lua`.
pub(super) fn end_run_args(call: &Call, step: &Claimed, commit: &Commit, refill: &Refill, result: &[u8]) -> Cmd {
    let fence = &step.fence;
    let mut command = short_args(call, step);
    command.arg(refill.after.as_ref().map_or("", |queue| queue.as_str()));
    command.arg(format!(" completed {} {} {} {} ", fence.seq, fence.attempt, step.step, call.worker));
    command.arg(result).arg(millis(commit.retention));
    for (field, value) in &commit.set {
        command.arg(field).arg(value);
    }
    command
}

/// The arguments of `end_branch` in `lua/short.lua`.
pub(super) fn end_branch_args(call: &Call, step: &Claimed, commit: &Commit, refill: &Refill) -> Cmd {
    let mut command = short_args(call, step);
    command.arg(refill.after.as_ref().map_or("", |queue| queue.as_str())).arg(step.scope);
    match commit.joins.first() {
        Some((join, payload)) => command.arg(join).arg(payload),
        None => command.arg("").arg(""),
    };
    for (field, value) in &commit.set {
        command.arg(field).arg(value);
    }
    command
}

pub(super) fn changes_args(command: &mut Cmd, changes: &Changes) {
    command.arg(changes.set.len() * 2);
    for (field, value) in changes.set {
        command.arg(field).arg(value);
    }
    command.arg(changes.unset.len());
    for field in changes.unset {
        command.arg(field);
    }
    command.arg(changes.merges.len() * 3);
    for (field, merge) in changes.merges {
        match merge {
            Merge::Add(delta) => command.arg(field).arg("+").arg(delta),
            Merge::Append { form, bytes } => command.arg(field).arg(&[*form][..]).arg(bytes),
        };
    }
    command.arg(changes.expects.len() * 2);
    for (field, digest) in changes.expects {
        command.arg(field).arg(digest.as_deref().unwrap_or_default());
    }
}

pub(super) fn commit_args(command: &mut Cmd, step: &Claimed, commit: &Commit) {
    changes_args(command, &commit.changes());
    command.arg(commit.joins.len() * 2);
    for (join, payload) in &commit.joins {
        command.arg(join).arg(payload);
    }
    command.arg(commit.parts.len() * 4);
    for part in &commit.parts {
        command.arg(part.slot).arg(part.slots).arg(part.route.header(Some('t'))).arg(&part.payload);
    }
    emit_args(command, commit.inner_scope(step), &commit.emits);
    let heads = commit.fan.as_ref().map_or(&[][..], |fan| &fan.joins);
    command.arg(u8::from(commit.fan.is_some())).arg(heads.len());
    for join in heads {
        command.arg(join.header());
    }
    command.arg(commit.fan.as_ref().map_or(0, |fan| fan.staged));
    command.arg(step.joined.as_ref().map_or_else(String::new, |j| format!("{}:{}", j.scope, step.step)));
    command.arg(journal_arg(commit)).arg(u8::from(commit.rests)).arg(usize::from(commit.result.is_some()));
    if let Some(result) = &commit.result {
        command.arg(result);
    }
    command.arg(millis(commit.retention)).arg(usize::from(commit.caught.is_some()));
    if let Some(error) = &commit.caught {
        command.arg(error);
    }
    command.arg(commit.emitted.join(" "));
}

/// The records of new step executions.
pub(super) fn emit_args(command: &mut Cmd, scope: u64, emits: &[(Route, Vec<u8>)]) {
    command.arg(emits.len());
    for (route, payload) in emits {
        command.arg(route.record(scope, None, payload));
    }
}

pub(super) fn journal_arg(commit: &Commit) -> String {
    if !commit.journalled {
        return String::new();
    }
    let let_go = commit.let_go.iter().map(|(number, name)| format!(" {number}.{name}"));
    std::iter::once("j".to_owned()).chain(let_go).collect()
}

pub(super) fn waits_args(command: &mut Cmd, waits: &[Wait]) {
    command.arg(waits.len() * 4);
    for wait in waits {
        let deadline = wait.deadline.map_or(-1, |deadline| i64::try_from(millis(deadline)).unwrap_or(i64::MAX));
        command.arg(wait.number).arg(&wait.name).arg(deadline).arg(attributes::written(&wait.filter));
    }
}

pub(super) fn checkpoint_args(command: &mut Cmd, checkpoint: &Checkpoint) {
    changes_args(command, &checkpoint.changes());
    command.arg(checkpoint.entries.len() * 2);
    for (number, payload) in &checkpoint.entries {
        command.arg(number).arg(payload);
    }
    command.arg(checkpoint.let_go.len() * 2);
    for (number, name) in &checkpoint.let_go {
        command.arg(number).arg(name);
    }
    waits_args(command, &checkpoint.waits);
}

#[cfg(test)]
mod tests;
