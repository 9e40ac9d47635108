//! What must not be left once all runs have ended.

use stepfleet_shared::run::Status;

use super::{Evidence, Promise, Violation, What};

/// What is in Redis in the end.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Keys, without namespace and partition.
    pub keys: Vec<String>,
    /// Timers.
    pub timers: Vec<String>,
    /// Queues that have entries, and how many.
    pub queued: Vec<(String, u64)>,
    /// Requests that nobody has taken.
    pub inbox: u64,
    /// Live workers, and how many steps each holds.
    pub workers: Vec<(String, u64)>,
    /// How often an audit has repaired something.
    pub repaired: u64,
    /// Requests that were rejected, with the reasons.
    pub rejected: Vec<String>,
}

/// Keys that are of no use once all runs have ended.
const OF_LIVE_RUNS: [&str; 6] = ["steps", "turns", "children", "sent", "deferred", "line"];
/// Keys of a run that was stopped before its end.
const OF_STOPPED_RUNS: [&str; 4] = ["stopped", "joined", "fan", "signals"];

pub(in crate::chaos) fn check(evidence: &Evidence) -> Vec<Violation> {
    let left = &evidence.left;
    let mut found = Vec::new();
    let mut add = |what, evidence: String| found.push(Violation { what, run: "-".to_owned(), evidence });
    for key in &left.keys {
        let (kind, of) = key.split_once(':').unwrap_or((key, ""));
        let run = of.split(':').next().unwrap_or_default();
        let is_stopped = evidence.seen.get(run).is_some_and(|seen| seen.status != Status::Completed);
        if OF_LIVE_RUNS.contains(&kind) || OF_STOPPED_RUNS.contains(&kind) && !is_stopped {
            add(What::Left, format!("the key {key}"));
        }
        // Only a live worker has a key for its holds.
        if kind == "held" && !left.workers.iter().any(|(worker, _)| worker == of) {
            add(What::Left, format!("what the worker {of} held, which is not there any more"));
        }
    }
    // Runs and sessions that have ended are forgotten after some days.
    for timer in left.timers.iter().filter(|timer| !is_of_retention(timer)) {
        add(What::Left, format!("the timer {timer}"));
    }
    for (queue, entries) in left.queued.iter().filter(|(_, entries)| *entries > 0) {
        add(What::Left, format!("{entries} entries in the queue {queue}"));
    }
    for (worker, held) in left.workers.iter().filter(|(_, held)| *held > 0) {
        add(What::Left, format!("{held} steps held by {worker}"));
    }
    if left.inbox > 0 {
        add(What::Left, format!("{} requests in the inbox", left.inbox));
    }
    if evidence.promise == Promise::NoLoss {
        if left.repaired > 0 {
            add(What::Repaired, format!("audits have mended {} breaches", left.repaired));
        }
        for rejected in &left.rejected {
            add(What::WrongEnd, format!("a request was rejected: {rejected}"));
        }
    }
    found
}

fn is_of_retention(timer: &str) -> bool {
    timer.starts_with("expire ") || timer.starts_with("session ")
}
