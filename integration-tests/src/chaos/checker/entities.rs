//! What runs that share an entity must look like together.

use std::collections::BTreeMap;

use stepfleet_shared::run::Status;

use super::{Evidence, Promise, Violation, What};
use crate::chaos::load::Shape;
use crate::chaos::workflows::Ended;

/// The runs got the numbers from 1 on, each once. If Redis forgets, some may be missing: a run that was
/// forgotten may have counted on just before, at the server that took over. And one may be there twice: a change that
/// is forgotten in the moment before its call is recorded is made by the next call (docs/guarantees.md).
pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut given: BTreeMap<String, Vec<(u64, &str)>> = BTreeMap::new();
    for ask in evidence.asked.iter().filter(|ask| ask.shape == Shape::Counts) {
        let seen = evidence.seen.get(&ask.id).filter(|seen| seen.status == Status::Completed);
        // It is lost or stranded, and its numbers are unknown.
        let Some(seen) = seen else { return Vec::new() };
        let ended: Ended = serde_json::from_slice(seen.result.as_deref().unwrap_or_default()).unwrap_or_default();
        for value in &ended.values {
            let (key, number) = value.split_once(' ').unwrap_or((value, ""));
            given.entry(key.to_owned()).or_default().push((number.parse().unwrap_or_default(), &ask.id));
        }
    }
    let mut found = Vec::new();
    for (key, mut numbers) in given {
        numbers.sort_unstable();
        let mut last = 0;
        for (number, run) in numbers {
            let is_next = if evidence.promise == Promise::NoLoss { number == last + 1 } else { number >= last.max(1) };
            if !is_next {
                let evidence = format!("{key}: {number} came after {last}");
                found.push(Violation { what: What::Entity, run: run.to_owned(), evidence });
                break;
            }
            last = number;
        }
    }
    found
}
