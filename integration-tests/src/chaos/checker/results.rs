//! What the result of a completed run must be.

use std::collections::{BTreeMap, BTreeSet};

use stepfleet_shared::history::Kind;

use super::{Findings, Seen, What, World, history};
use crate::chaos::effects::Mark;
use crate::chaos::load::{Ask, Shape};
use crate::chaos::workflows::Ended;

pub(super) fn check(ask: &Ask, seen: &Seen, world: &World, findings: &mut Findings) {
    let bytes = seen.result.as_deref().unwrap_or_default();
    let ended: Ended = match serde_json::from_slice(bytes) {
        Ok(ended) => ended,
        Err(error) => {
            return findings.add(What::WrongResult, format!("{error}: {}", String::from_utf8_lossy(bytes)));
        }
    };
    marks(ask, seen, &ended.marks, world, findings);
    values(ask, &ended, findings);
}

/// Each effect in the result is in the log, and belongs to the attempt that was committed.
fn marks(ask: &Ask, seen: &Seen, marks: &[Mark], world: &World, findings: &mut Findings) {
    let committed: BTreeMap<_, _> =
        history::of(&seen.history, Kind::Done).map(|record| (record.seq, record.attempt)).collect();
    for mark in marks {
        let is_there = world.did.get(mark.token.as_str()).is_some_and(|did| *did == mark);
        findings.unless(is_there, What::NoEffect, || format!("seen, and never done: {mark:?}"));
        // What was recorded or saved is of the attempt that did so.
        let is_committed = ask.shape.saves() || committed.get(&mark.seq) == Some(&mark.attempt);
        findings.unless(is_committed, What::RejectedVisible, || {
            format!("{mark:?}, but committed was attempt {:?}", committed.get(&mark.seq))
        });
    }
    let tokens: BTreeSet<_> = marks.iter().map(|mark| &mark.token).collect();
    findings.unless(tokens.len() == marks.len(), What::WrongResult, || format!("an effect twice: {marks:?}"));
}

fn values(ask: &Ask, ended: &Ended, findings: &mut Findings) {
    let (n, is) = (ask.work.n, &ended.values);
    match ask.shape {
        Shape::Turns => {
            let is_right = ended.marks.len() as u64 == n + 1 && *is == [(n + 1).to_string()];
            findings.unless(is_right, What::WrongResult, || format!("{} turns were to be, not {is:?}", n + 1));
        }
        Shape::Fan | Shape::Gathers => same((1..=n).map(|n| n.to_string()).collect(), is, What::Join, findings),
        Shape::Nest => {
            let cells = (0..n).flat_map(|row| (0..row).map(move |cell| format!("{row}.{cell}")));
            same(cells.collect(), is, What::Join, findings);
        }
        Shape::Podium => {
            let arrived: BTreeSet<u64> = is.iter().filter_map(|value| value.parse().ok()).collect();
            let is_right = arrived.len() == is.len() && is.len() as u64 == n.min(2) && arrived.iter().all(|m| *m <= n);
            findings.unless(is_right, What::Join, || format!("the first two of {n} were to be, not {is:?}"));
        }
        Shape::Notes => {
            let notes: Vec<_> = (0..n).map(|n| format!("note-{n}")).collect();
            findings.unless(*is == notes, What::WrongResult, || format!("saved were to be {notes:?}, not {is:?}"));
        }
        // What was counted is looked at together.
        Shape::Counts => findings.unless(is.len() == 4, What::WrongResult, || format!("4 numbers, not {is:?}")),
        Shape::Tries | Shape::Mends => findings.unless(*is == ["1"], What::RejectedVisible, || {
            format!("the state has {is:?} marks of a step that has failed")
        }),
        Shape::Records => {
            let calls = (0..n).map(|n| format!("call-{n}"));
            let calls: Vec<_> = calls.chain(["part-a", "part-b", "part-c", "last"].map(str::to_owned)).collect();
            let made: Vec<_> = ended.marks.iter().map(|mark| mark.what.clone()).collect();
            findings.unless(calls == made, What::WrongResult, || format!("calls were to be {calls:?}, not {made:?}"));
            findings.unless(*is == ["overdue"], What::WrongResult, || format!("the wait came to {is:?}"));
        }
        Shape::Asks => same(ask.words.iter().map(|(_, word)| word.clone()).collect(), is, What::Signal, findings),
        Shape::Says => findings.unless(is.last() == Some(&ask.id), What::Session, || format!("it heard {is:?}")),
        Shape::Parent => {
            let children: Vec<_> = (1..=n).map(|n| format!("{n} overdue")).collect();
            findings.unless(*is == children, What::WrongResult, || format!("{children:?} were to be, not {is:?}"));
        }
    }
}

/// The same values, in any order.
fn same(mut should: Vec<String>, is: &[String], what: What, findings: &mut Findings) {
    let mut is = is.to_vec();
    should.sort_unstable();
    is.sort_unstable();
    findings.unless(should == is, what, || {
        let missing: Vec<_> = should.iter().filter(|value| !is.contains(value)).collect();
        let doubled: Vec<_> = is.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        format!("missing: {missing:?}; twice: {doubled:?}; {} in all instead of {}", is.len(), should.len())
    });
}
