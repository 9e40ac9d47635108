//! What the runs of a session must look like together.

use std::collections::BTreeMap;

use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::run::Status;

use super::{Evidence, Promise, Seen, Violation, What, history};
use crate::chaos::load::Ask;
use crate::chaos::workflows::Ended;

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut sessions: BTreeMap<&str, Vec<(&Ask, &Seen)>> = BTreeMap::new();
    for ask in &evidence.asked {
        let (Some(session), Some(seen)) = (&ask.session, evidence.seen.get(&ask.id)) else { continue };
        if seen.status == Status::Completed {
            sessions.entry(session).or_default().push((ask, seen));
        }
    }
    sessions.into_values().flat_map(|runs| check_session(evidence.promise, runs)).collect()
}

/// `runs`: in the order of their requests.
fn check_session(promise: Promise, runs: Vec<(&Ask, &Seen)>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |run: &str, evidence: String| {
        found.push(Violation { what: What::Session, run: run.to_owned(), evidence });
    };
    let heard = |seen: &Seen| {
        let ended = serde_json::from_slice::<Ended>(seen.result.as_deref().unwrap_or_default());
        ended.map(|ended| ended.values).unwrap_or_default()
    };
    let mut runs: Vec<_> = runs.into_iter().map(|(ask, seen)| (ask.id.as_str(), heard(seen), &*seen.history)).collect();
    // If Redis forgets, a run may have to be requested again, behind later ones.
    if promise == Promise::Prefix {
        runs.sort_by_key(|(_, heard, _)| heard.len());
    }
    let mut said: Vec<&str> = Vec::new();
    let mut free_since = 0;
    for (run, heard, records) in &runs {
        said.push(run);
        if *heard != said {
            add(run, format!("it heard {heard:?}, and not {said:?}"));
        }
        let began = history::of(records, Kind::Done).filter_map(Record::began_ms).min().unwrap_or(u64::MAX);
        if began < free_since {
            add(run, format!("it began at {began}, before the one before it ended, at {free_since}"));
        }
        free_since = history::of(records, Kind::Completed).map(|record| record.at_ms).max().unwrap_or(free_since);
    }
    found
}
