//! What the history of a run must say.

use std::collections::BTreeMap;

use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::run::Status;

use super::{Findings, Promise, Seen, What};
use crate::chaos::load::{Ask, Shape, Steering};

pub(super) fn check(promise: Promise, ask: &Ask, seen: &Seen, findings: &mut Findings) {
    ends_as_it_should(ask, seen, findings);
    happens_once(ask, &seen.history, findings);
    if seen.status == Status::Completed {
        all_are_committed(ask, &seen.history, findings);
    }
    nothing_comes_after_the_end(&seen.history, findings);
    nothing_begins_too_early(ask, &seen.history, findings);
    nobody_is_blamed(ask, &seen.history, findings);
    if promise == Promise::NoLoss {
        for record in of(&seen.history, Kind::Repaired) {
            findings.add(What::Repaired, format!("{record:?}"));
        }
    }
}

pub(super) fn of(history: &[Record], kind: Kind) -> impl Iterator<Item = &Record> {
    history.iter().filter(move |record| record.kind == kind)
}

/// What came after the run was retried for the last time.
fn last_life(history: &[Record]) -> &[Record] {
    let retried = history.iter().rposition(|record| record.kind == Kind::Retried);
    &history[retried.map_or(0, |at| at + 1)..]
}

fn is_end(record: &Record) -> bool {
    matches!(record.kind, Kind::Completed | Kind::Failed | Kind::Cancelled)
}

fn ends_as_it_should(ask: &Ask, seen: &Seen, findings: &mut Findings) {
    let is_right = match ask.steering {
        Steering::Cancel(_) => matches!(seen.status, Status::Cancelled | Status::Completed),
        Steering::None | Steering::Pause(..) => seen.status == Status::Completed,
    };
    findings.unless(is_right, What::WrongEnd, || format!("it is {}: {:?}; {ask:?}", seen.status, seen.error));
}

fn happens_once(ask: &Ask, history: &[Record], findings: &mut Findings) {
    let lives = 1 + u64::from(ask.shape == Shape::Mends);
    let retried = 1 + of(history, Kind::Retried).count() as u64;
    findings.unless(retried <= lives, What::Twice, || format!("it was retried {} times", retried - 1));
    let mut commits: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
    for record in of(history, Kind::Done) {
        commits.entry(record.seq).or_default().push(record);
    }
    for records in commits.values().filter(|records| records.len() > 1) {
        findings.add(What::Twice, format!("{records:?}"));
    }
    let ends: Vec<_> = last_life(history).iter().filter(|record| is_end(record)).collect();
    findings.unless(ends.len() == 1, What::Twice, || format!("it ended {} times: {ends:?}", ends.len()));
    let starts = of(history, Kind::Start).count();
    // One that was cancelled while its request waited for a worker has never begun.
    let is_held = matches!(history, [record] if record.kind == Kind::Cancelled);
    findings.unless(starts == 1 || is_held, What::Twice, || format!("it began {starts} times"));
}

fn all_are_committed(ask: &Ask, history: &[Record], findings: &mut Findings) {
    let committed: std::collections::BTreeSet<_> = of(history, Kind::Done).map(|record| record.seq).collect();
    let Some(should) = ask.executions() else { return };
    let is = committed.len() as u64;
    findings.unless(is == should, What::NeverCommitted, || {
        let missing: Vec<_> = (1..=should).filter(|seq| !committed.contains(seq)).collect();
        format!("{is} of {should} step executions were committed; missing: {missing:?}")
    });
}

fn nothing_comes_after_the_end(history: &[Record], findings: &mut Findings) {
    let after = last_life(history).iter().skip_while(|record| !is_end(record));
    for record in after.filter(|record| record.kind == Kind::Done) {
        findings.add(What::AfterTheEnd, format!("{record:?}"));
    }
}

fn nothing_begins_too_early(ask: &Ask, history: &[Record], findings: &mut Findings) {
    let Some(start) = of(history, Kind::Start).next() else { return };
    let mut pauses = Vec::new();
    for record in history {
        match record.kind {
            Kind::Paused => pauses.push((record.at_ms, u64::MAX)),
            Kind::Resumed => pauses.iter_mut().for_each(|pause| pause.1 = pause.1.min(record.at_ms)),
            _ => {}
        }
    }
    for record in of(history, Kind::Done) {
        let Some(began) = record.began_ms() else { continue };
        findings.unless(began >= start.at_ms + ask.delay_ms, What::TooEarly, || {
            format!("{record:?} began {began}, the run {}, put off by {} ms", start.at_ms, ask.delay_ms)
        });
        let during = pauses.iter().find(|(paused, resumed)| began > *paused && began < *resumed);
        if let Some(pause) = during {
            findings.add(What::WhilePaused, format!("{record:?} began at {began}, paused was {pause:?}"));
        }
    }
}

fn nobody_is_blamed(ask: &Ask, history: &[Record], findings: &mut Findings) {
    let retries: Vec<_> = of(history, Kind::Retry).collect();
    let own = if ask.shape == Shape::Tries { ask.work.n } else { 0 };
    let is_over = of(history, Kind::Cancelled).next().is_none();
    let is_right = if is_over { retries.len() as u64 == own } else { retries.len() as u64 <= own };
    findings.unless(is_right, What::Blamed, || format!("{own} retries were to be: {retries:?}"));
}
