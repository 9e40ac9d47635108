//! The steps of a run: its attempts as the history has them, and those that have not ended. Pure.

use comfy_table::Cell;
use serde::Serialize;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::store::{LiveStep, StepStanding};

use super::output;
use super::text::{shortened, span, time_of_day};

/// How much of an error is shown in the table.
const SHOWN: usize = 100;

/// An attempt at a step execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    seq: u64,
    step: String,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Known of those that are under way, and of those that were committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    began_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Those that have ended, in the order of their ends, and then those that have not.
pub(super) fn attempts(history: &[Record], live: &[LiveStep]) -> Vec<Line> {
    let ended = history.iter().filter_map(ended);
    ended.chain(live.iter().map(under_way)).collect()
}

fn ended(record: &Record) -> Option<Line> {
    let error = match record.kind {
        Kind::Retry => record.detail.split_once(' ').map(|(_, error)| error.to_owned()),
        Kind::Caught | Kind::Failed => Some(record.detail.clone()),
        Kind::Lost => Some("its worker died or stopped responding".to_owned()),
        Kind::Done | Kind::Released | Kind::Suspended | Kind::Dropped => None,
        _ => return None,
    };
    // A run that took too long fails in no step.
    if record.seq == 0 {
        return None;
    }
    let began_ms = (record.kind == Kind::Done).then(|| record.detail.parse().ok()).flatten();
    Some(Line {
        seq: record.seq,
        step: record.step.clone(),
        attempt: record.attempt,
        worker: Some(record.worker.clone()).filter(|worker| worker != "-"),
        began_ms,
        ended_ms: Some(record.at_ms),
        state: record.kind.as_str().to_owned(),
        error,
    })
}

fn under_way(live: &LiveStep) -> Line {
    let (state, worker, began_ms) = match &live.standing {
        StepStanding::Running { worker, since_ms } => ("running", Some(worker.clone()), Some(*since_ms)),
        StepStanding::Queued => ("queued", None, None),
        StepStanding::Waiting { .. } => ("waiting", None, None),
        StepStanding::Suspended => ("waits for signals", None, None),
        StepStanding::Turn => ("waits for its turn", None, None),
    };
    let (seq, step, attempt, state) = (live.seq, live.step.clone(), live.attempt, state.to_owned());
    Line { seq, step, attempt, worker, began_ms, state, ..Line::default() }
}

/// Prints at most this many, the last ones.
pub(super) fn print(attempts: &[Line], most: usize, full: bool) {
    if attempts.is_empty() {
        return;
    }
    let shown = &attempts[attempts.len().saturating_sub(most)..];
    let mut table = output::table(&["SEQ", "STEP", "ATTEMPT", "STATE", "WORKER", "BEGAN", "ENDED", "TOOK", "ERROR"]);
    for attempt in shown {
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), time_of_day);
        let took = attempt.began_ms.zip(attempt.ended_ms).map(|(began, ended)| span(ended.saturating_sub(began)));
        let error = attempt.error.as_deref().unwrap_or_default();
        table.add_row(vec![
            Cell::new(attempt.seq),
            Cell::new(&attempt.step),
            Cell::new(attempt.attempt),
            Cell::new(&attempt.state),
            Cell::new(attempt.worker.as_deref().unwrap_or("-")),
            Cell::new(time(attempt.began_ms)),
            Cell::new(time(attempt.ended_ms)),
            Cell::new(took.unwrap_or_else(|| "-".to_owned())),
            Cell::new(if full { error.to_owned() } else { shortened(error, SHOWN) }),
        ]);
    }
    output::line("");
    output::print_table(table);
    if shown.len() < attempts.len() {
        output::line(&format!("and {} before them (--full shows all)", attempts.len() - shown.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_told_with_their_worker_their_times_and_their_errors() {
        let lines: [&[u8]; 6] = [
            b"1 start 0 0 - - rag 1",
            b"5 retry 1 1 plan w-1 2000 no luck",
            b"9 done 1 2 plan w-2 6",
            b"10 lost 2 1 look w-2 ",
            b"20 failed 2 2 look w-1 it broke",
            b"21 failed 0 0 - - it took too long",
        ];
        let history: Vec<_> = lines.iter().map(|line| Record::parse(line)).collect();
        let standing = StepStanding::Running { worker: "w-3".into(), since_ms: 30 };
        let live = LiveStep { seq: 3, step: "sum".into(), attempt: 1, standing };
        let told = attempts(&history, &[live]);
        let short: Vec<_> = told
            .iter()
            .map(|a| (a.seq, a.attempt, &*a.state, a.worker.as_deref().unwrap(), a.began_ms, a.ended_ms))
            .collect();
        assert_eq!(
            short,
            [
                (1, 1, "retry", "w-1", None, Some(5)),
                (1, 2, "done", "w-2", Some(6), Some(9)),
                (2, 1, "lost", "w-2", None, Some(10)),
                (2, 2, "failed", "w-1", None, Some(20)),
                (3, 1, "running", "w-3", Some(30), None),
            ]
        );
        assert_eq!(told[0].error.as_deref(), Some("no luck"));
        assert_eq!(told[3].error.as_deref(), Some("it broke"));
    }
}
