//! Fails a run at its timeout. The error names the steps that were active.

use std::collections::BTreeMap;

use super::data::Data;
use super::run::{EventSource, Phase, Steps};
use super::start::run_itself;
use crate::step::join_payloads;

/// How many step executions the error covers: the oldest and the newest ones.
const OLDEST: u64 = 500;
const NEWEST: u64 = 1500;
/// How many bytes of events are read to name their steps.
const NAMED_BYTES: usize = 16 * 1024 * 1024;
const NAMED_STEPS: usize = 20;
const ACTIVITIES: [&str; 6] =
    ["running", "queued", "waiting to start", "waiting to retry", "waiting for a signal", "waiting for a turn"];

impl Data {
    pub(super) fn fire_timeout(&mut self, now: u64, run: &str, retention: u64) {
        let Some(state) = self.runs.get(run) else { return };
        // The due time tells this run's timer from that of an earlier run with this id.
        let (Some(timeout), Some(steps)) =
            (state.timeout.filter(|timeout| timeout.due.is_some_and(|due| due <= now)), &state.steps)
        else {
            return;
        };
        let (limit, active) = (spell(timeout.whole), name_active(steps));
        let paused = if steps.is_paused { ", which keeps running while a run is paused" } else { "" };
        let error = format!("the run did not end within its timeout of {limit}{paused}; active steps: {active}");
        self.fail_run(now, &run_itself(run), error, retention);
    }
}

fn spell(ms: u64) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let whole = units.into_iter().find(|(_, length)| ms > 0 && ms.is_multiple_of(*length));
    whole.map_or_else(|| format!("{ms}ms"), |(unit, length)| format!("{}{unit}", ms / length))
}

fn name_active(steps: &Steps) -> String {
    let (mut counts, mut bytes, mut unnamed) = (BTreeMap::<&str, [u64; ACTIVITIES.len()]>::new(), 0, 0);
    let is_looked_at = |seq: u64| seq <= OLDEST || seq > steps.last.saturating_sub(NEWEST);
    for (_, execution) in steps.executions.iter().filter(|(seq, _)| is_looked_at(**seq)) {
        let Some(activity) = activity(&execution.phase, execution.attempt) else { continue };
        if bytes > NAMED_BYTES {
            unnamed += 1;
            continue;
        }
        bytes += match &execution.work.event {
            EventSource::Input => 0,
            EventSource::Payload(payload) | EventSource::Outside(payload) => payload.len(),
            EventSource::Set(set) => join_payloads(set.iter()).len(),
            EventSource::Joined(joined) => format!("{} {}", joined.group, joined.count).len(),
        };
        counts.entry(&execution.work.route.step).or_default()[activity] += 1;
    }
    let told = |(step, counts): (&&str, &[u64; ACTIVITIES.len()])| {
        let told = ACTIVITIES.iter().zip(counts).filter(|(_, count)| **count > 0);
        let told: Vec<String> = told.map(|(word, count)| format!("{count} {word}")).collect();
        format!("{step} ({})", told.join(", "))
    };
    let mut parts: Vec<String> = counts.iter().take(NAMED_STEPS).map(told).collect();
    if counts.len() > NAMED_STEPS {
        parts.push(format!("{} more steps", counts.len() - NAMED_STEPS));
    }
    if unnamed > 0 {
        parts.push(format!("{unnamed} more step executions"));
    }
    let mut text = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
    if steps.last > OLDEST + NEWEST {
        let last = steps.last;
        text = format!("{text}; of its {last} step executions the first {OLDEST} and the last {NEWEST} were examined");
    }
    text
}

/// The activity as an index into [`ACTIVITIES`].
fn activity(phase: &Phase, attempt: u32) -> Option<usize> {
    match phase {
        Phase::Held { .. } => Some(0),
        Phase::Queued(_) => Some(1),
        Phase::Waiting { .. } if attempt == 0 => Some(2),
        Phase::Waiting { .. } => Some(3),
        Phase::Suspended { .. } => Some(4),
        Phase::Turn => Some(5),
        Phase::Ending => None,
    }
}
