//! What the log of effects must say about a run.

use std::collections::BTreeMap;

use stepfleet_shared::history::Kind;

use super::{Findings, Promise, Seen, What, World, history};
use crate::chaos::effects::Verb;
use crate::chaos::load::Ask;

pub(super) fn check(promise: Promise, ask: &Ask, seen: &Seen, world: &World, findings: &mut Findings) {
    if !ask.shape.is_function() {
        for record in history::of(&seen.history, Kind::Done) {
            let has_effect = world.attempts.contains(&(record.seq, record.attempt));
            findings.unless(has_effect, What::NoEffect, || format!("committed, and never done: {record:?}"));
        }
    }
    if promise == Promise::NoLoss {
        what_is_recorded_stays(world, findings);
    }
}

/// Once a body knows the result of a call, no later attempt makes that call again. An attempt that was given up, and does not know
/// it yet, may: no store can stop it.
fn what_is_recorded_stays(world: &World, findings: &mut Findings) {
    // The first attempt that knew the result, and that result.
    let mut known: BTreeMap<(u64, &str), (u32, &str)> = BTreeMap::new();
    for line in &world.lines {
        let call = (line.mark.seq, line.mark.what.as_str());
        match (line.verb, known.get(&call)) {
            (Verb::Knows, None) => drop(known.insert(call, (line.attempt, &line.mark.token))),
            (Verb::Knows, Some((attempt, token))) => {
                findings.unless(*token == line.mark.token, What::DoneAgain, || {
                    format!("attempt {attempt} knew {token}, and now {line:?}")
                });
            }
            (Verb::Did, Some((attempt, token))) => {
                findings.unless(line.attempt < *attempt, What::DoneAgain, || {
                    format!("attempt {attempt} knew {token}, and then {line:?}")
                });
            }
            (Verb::Did, None) => {}
        }
    }
}
