//! The report of a chaos test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use stepfleet_shared::history::{Kind, Record};

use super::checker::{Evidence, Violation};
use super::crew::Faults;
use super::load::Shape;

/// How many violations of a kind are shown.
const SHOWN: usize = 12;

/// What the report shows besides the evidence.
pub(super) struct Told {
    pub(super) title: String,
    pub(super) faults: Faults,
    /// Faults that were impossible, and why.
    pub(super) missing: Option<&'static str>,
    pub(super) silenced: Vec<(String, u64, bool)>,
    pub(super) forgotten: u64,
    /// Commits that were answered as too late.
    pub(super) fenced: usize,
    pub(super) repeat: String,
}

pub(super) fn report(evidence: &Evidence, told: &Told, violations: &[Violation]) -> String {
    let mut text = format!("{}\n  faults:", told.title);
    for (kind, times) in &told.faults {
        let _ = write!(text, " {kind:?} {times}");
    }
    if let Some(missing) = told.missing {
        let _ = write!(text, "\n  NOT RUN: {missing}");
    }
    let mut shapes: BTreeMap<(Shape, &str), u32> = BTreeMap::new();
    for ask in &evidence.asked {
        let status = evidence.seen.get(&ask.id).map_or("gone", |seen| seen.status.as_str());
        *shapes.entry((ask.shape, status)).or_default() += 1;
    }
    text.push_str("\n  runs:");
    for ((shape, status), count) in &shapes {
        let _ = write!(text, " {} {status} {count},", shape.workflow());
    }
    let records = || evidence.seen.values().flat_map(|seen| &seen.history);
    let count = |kind| records().filter(|record| record.kind == kind).count();
    let _ = write!(
        text,
        "\n  {} runs with children; {} commits, {} attempts lost with their worker, {} handed back, {} repaired by audits",
        evidence.seen.len(),
        count(Kind::Done),
        count(Kind::Lost),
        count(Kind::Released),
        count(Kind::Repaired),
    );
    let _ = write!(
        text,
        "\n  {} effects; {} commits of rejected attempts were turned away; {} accepted runs were forgotten and asked for again",
        evidence.effects.len(),
        told.fenced,
        told.forgotten
    );
    for (is_killed, what) in [(true, "killed"), (false, "frozen or cut off")] {
        let longest = recoveries(evidence, told, is_killed).max();
        let longest = longest.map_or_else(|| "none was needed".to_owned(), |(ms, of)| format!("{ms} ms, {of}"));
        let _ = write!(text, "\n  longest recovery after a worker was {what}: {longest}");
    }
    let _ = write!(text, "\n  {} violations; again: {}", violations.len(), told.repeat);
    let mut kinds: BTreeMap<_, u32> = BTreeMap::new();
    for violation in violations {
        *kinds.entry(violation.what).or_default() += 1;
    }
    for (what, count) in &kinds {
        let _ = write!(text, "\n  {what:?}: {count}");
        for violation in violations.iter().filter(|violation| violation.what == *what).take(SHOWN) {
            let _ = write!(text, "\n    VIOLATION {violation}");
        }
    }
    text
}

/// For each step that a silent worker held: how long until its next attempt began, in ms.
fn recoveries(evidence: &Evidence, told: &Told, is_killed: bool) -> impl Iterator<Item = (u64, String)> {
    let silenced: BTreeMap<_, _> = told
        .silenced
        .iter()
        .filter(|(.., killed)| *killed == is_killed)
        .map(|(name, ms, _)| (name.as_str(), *ms))
        .collect();
    evidence.seen.iter().flat_map(move |(run, seen)| {
        let lost = seen.history.iter().enumerate().filter(|(_, record)| record.kind == Kind::Lost);
        let recovery = |(at, lost): (usize, &Record)| {
            let since = silenced.get(lost.worker.rsplit_once('-')?.0)?;
            let lasted = next_attempt(&seen.history[at..], lost)?.checked_sub(*since)?;
            Some((lasted, format!("step {} of {run}", lost.seq)))
        };
        lost.filter_map(recovery).collect::<Vec<_>>()
    })
}

/// When the next attempt began. None if that one was lost too: then nothing says when it began.
fn next_attempt(later: &[Record], lost: &Record) -> Option<u64> {
    let next = later.iter().find(|record| record.seq == lost.seq && record.attempt > lost.attempt)?;
    (next.kind != Kind::Lost).then(|| next.began_ms().unwrap_or(next.at_ms))
}

/// Writes the histories beside the logs and the effects.
pub(super) fn leave(folder: &Path, evidence: &Evidence, report: &str) {
    let mut histories = String::new();
    for (run, seen) in &evidence.seen {
        let result = seen.result.as_deref().map(String::from_utf8_lossy);
        let _ = writeln!(histories, "{run} {} {result:?} {:?}", seen.status, seen.error);
        for record in &seen.history {
            let Record { at_ms, kind, seq, attempt, step, worker, detail, .. } = record;
            let _ = writeln!(histories, "  {at_ms} {} {seq} {attempt} {step} {worker} {detail}", kind.as_str());
        }
    }
    let rest = format!("{:#?}\n{:#?}\n", evidence.left, evidence.asked);
    for (name, text) in [("histories", histories.as_str()), ("report", report), ("rest", &rest)] {
        std::fs::write(folder.join(name), text).expect("the folder of the evidence");
    }
}
