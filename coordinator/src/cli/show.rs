//! `stepfleet show`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::future::try_join_all;
use serde_json::json;
use stepfleet_shared::Partitions;
use stepfleet_shared::fleet::serving_of;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::run::{Compensation, Run};
use stepfleet_shared::step::OpenWait;
use stepfleet_shared::store::{Deferred, Role};

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::runs::{duration, workflow};
use super::session::turn;
use super::steps;
use super::text::{moment, shortened, span};
use super::workflows::{self, unserved};

/// How much of an input, a result or an error is shown.
const SHOWN: usize = 400;
/// How many child runs are shown.
const CHILDREN: usize = 20;
/// How many attempts at steps are shown, the last.
const SHOWN_STEPS: usize = 50;
/// How many waits are shown.
const SHOWN_WAITS: usize = 20;
/// How many records of a history are counted.
const COUNTED: u64 = 10_000;

const EXAMPLES: &str = "\
Examples:
  stepfleet show otters-1
  stepfleet show otters-1 --full
  stepfleet show otters-1 --json | jq .result
  stepfleet show otters-1 --json | jq '.steps[] | select(.error)'

Each attempt of a step has a line: when it began (recorded for attempts that were committed or are under way), when and on which
worker it ended, and its error. Times are on Redis' clock, in this machine's time zone.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    id: String,
    /// Show input, result and errors whole, and all steps
    #[arg(long)]
    full: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let partitions = fleet.partitions().await?;
    if let Some(run) = partitions.run(&options.id).await? {
        let store = partitions.of(&run.id);
        let history = store.history(&run.id, 0, COUNTED).await?;
        let now = store.now_ms().await?;
        let all = if run.status.is_over() { Vec::new() } else { workflows::read(&partitions).await? };
        let waits = unserved(&run, &all, now);
        let turn = turn(&**store, &run).await?;
        let live = if run.status.is_over() { Vec::new() } else { store.live_steps(&run.id).await? };
        let attempts = steps::attempts(&history, &live);
        let awaited = if run.status.is_over() { Vec::new() } else { store.waits(&run.id).await? };
        if fleet.json {
            let mut value = output::run_json(&run);
            value["history"] = counts(&history).into_iter().collect();
            value["steps"] = json!(attempts);
            if !awaited.is_empty() {
                value["waits"] = json!(awaited);
            }
            if turn.is_some() {
                value["turn"] = json!(turn);
            }
            if waits.is_some() {
                let serving = serving_of(&all, &run.workflow, run.version);
                value["unserved"] = json!({"since_ms": serving.and_then(|serving| serving.unserved_since_ms)});
            }
            output::json(&value)?;
        } else {
            print(&run, &history, now, options.full);
            if let Some(turn) = turn {
                field("waits", turn);
            }
            print_waits(&awaited, now);
            if let Some(waits) = waits {
                field("waits", waits);
            }
            steps::print(&attempts, if options.full { usize::MAX } else { SHOWN_STEPS }, options.full);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(deferred) = find_deferred(&partitions, &options.id).await? {
        let waited = partitions.of(&options.id).now_ms().await?.saturating_sub(deferred.since_ms);
        return print_deferred(fleet, &deferred, waited);
    }
    Err(CliError::new(missing(&partitions, &options.id).await?))
}

/// A request under this id that waits for a worker.
pub(super) async fn find_deferred(partitions: &Partitions, id: &str) -> stepfleet_shared::Result<Option<Deferred>> {
    Ok(partitions.of(id).deferred().await?.into_iter().find(|deferred| deferred.run == id))
}

/// Why there is no such run, as far as is known.
pub(super) async fn missing<R: Role + ?Sized>(
    partitions: &Partitions<R>,
    id: &str,
) -> stepfleet_shared::Result<String> {
    let waiting = try_join_all(partitions.all().iter().map(|store| store.waiting_requests())).await?;
    Ok(match waiting.iter().sum::<u64>() {
        waiting @ 1.. => format!(
            "there is no run {id}, but {waiting} requests are still in the inbox; is a coordinator running (`stepfleet \
             coordinator`)?"
        ),
        _ => {
            format!("there is no run {id}; it was never started, or it has expired. `stepfleet runs` lists the newest")
        }
    })
}

fn print_deferred(fleet: &Fleet, deferred: &Deferred, waited_ms: u64) -> CliResult {
    let (run, name) = (&deferred.run, &deferred.request.workflow);
    if fleet.json {
        let since = deferred.since_ms;
        output::json(
            &json!({"id": run, "status": "deferred", "workflow": name, "since_ms": since, "waited_ms": waited_ms}),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let grace = crate::Config::default().grace;
    let left = grace.saturating_sub(Duration::from_millis(waited_ms));
    let left = span(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    output::line(&format!(
        "{run} has waited {} for a worker that serves the workflow \"{name}\". Coordinators with the default grace \
         time of {} reject it in {left}.\nStart a worker that serves it; `stepfleet workers` lists those that are \
         there.",
        span(waited_ms),
        humantime::format_duration(grace)
    ));
    Ok(ExitCode::SUCCESS)
}

fn print(run: &Run, history: &[Record], now_ms: u64, full: bool) {
    let shown = |text: &str| if full { text.to_owned() } else { shortened(text, SHOWN) };
    let good = run.status.is_over().then_some(run.status == stepfleet_shared::run::Status::Completed);
    field("run", run.id.clone());
    field("workflow", workflow(run));
    field("status", output::graded(run.status.as_str(), good));
    if let Some(durability) = run.durability {
        field("durability", durability.to_string());
    }
    if let Some(session) = &run.session {
        field("session", session);
    }
    field("created", format!("{} ({} ago)", moment(run.created_ms), span(now_ms.saturating_sub(run.created_ms))));
    if let Some(started) = run.started_ms {
        field("started", format!("{} (after {})", moment(started), span(started.saturating_sub(run.created_ms))));
    }
    if let Some(finished) = run.finished_ms {
        field("finished", moment(finished));
    }
    if let Some(duration) = duration(run, now_ms) {
        field("duration", span(duration));
    }
    if !run.input.is_empty() {
        field("input", shown(&output::payload(run.content, &run.input)));
    }
    if let Some(result) = &run.result {
        field("result", shown(&output::payload(run.content, result)));
    }
    if let Some(error) = &run.error {
        field("error", shown(error));
    }
    // A run that takes too long fails in no step.
    if let (Some(step), Some(attempt @ 1..)) = (&run.error_step, run.error_attempt) {
        field("failed in", format!("{step}, attempt {attempt}"));
    }
    if let Some(parent) = &run.parent {
        field("child of", parent);
    }
    if let Some(stands) = run.compensation {
        field("undoing", stands.as_str());
    }
    let is_undone = matches!(run.compensation, Some(Compensation::Running | Compensation::Done));
    if run.status == stepfleet_shared::run::Status::Failed && !is_undone
        || run.compensation == Some(Compensation::Failed)
    {
        field("retry", format!("stepfleet retry {}", run.id));
    }
    if run.status == stepfleet_shared::run::Status::Paused {
        field("resume", format!("stepfleet resume {}", run.id));
    }
    let counts: Vec<_> = counts(history).into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if !counts.is_empty() {
        field("history", counts.join(", "));
    }
    for child in children(history).into_iter().take(CHILDREN) {
        field("child", child);
    }
    for record in history {
        match record.kind {
            Kind::UnusedSignals => field("unused", format!("signals {}", shown(&record.told()))),
            Kind::Unreadable => field("set aside", shown(&record.told())),
            _ => {}
        }
    }
}

/// The child runs that it has requested, each once, with its status if it has ended: `<id> <status>`.
fn children(history: &[Record]) -> Vec<String> {
    let mut children: Vec<(&str, &str)> = Vec::new();
    for record in history {
        let (id, rest) = record.detail.split_once(' ').unwrap_or((&record.detail, ""));
        let status = match record.kind {
            Kind::Child => "under way",
            Kind::ChildEnded => rest,
            _ => continue,
        };
        match children.iter_mut().rev().find(|(known, _)| *known == id) {
            Some(known) => known.1 = status,
            None => children.push((id, status)),
        }
    }
    children.into_iter().map(|(id, status)| format!("{id} {status}")).collect()
}

fn field(name: &str, value: impl std::fmt::Display) {
    output::line(&format!("{name:<10}{value}"));
}

/// The signals that the run waits for, a line each.
fn print_waits(waits: &[OpenWait], now_ms: u64) {
    for wait in waits.iter().take(SHOWN_WAITS) {
        output::line(&format!("{:<10}{}", "waits for", described(wait, now_ms)));
    }
    if waits.len() > SHOWN_WAITS {
        output::line(&format!("{:<10}{} more signals", "", waits.len() - SHOWN_WAITS));
    }
}

/// `approval with order=7, in step ship (3), for 5m00s more`.
fn described(wait: &OpenWait, now_ms: u64) -> String {
    let filter: Vec<_> = wait.filter.iter().map(|(field, value)| format!("{field}={value}")).collect();
    let filter = if filter.is_empty() { String::new() } else { format!(" with {}", filter.join(" and ")) };
    let left = wait.due_ms.map_or(String::new(), |due| format!(", for {} more", span(due.saturating_sub(now_ms))));
    // Waits for nothing but a time are named in brackets: see `names::text`.
    let what = match wait.name.as_str() {
        "(sleep)" => "the end of a sleep".to_owned(),
        name if wait.number > stepfleet_shared::journal::FIRST_TRY => format!("the {}", name.trim_matches(['(', ')'])),
        name => format!("the signal {name}"),
    };
    format!("{what}{filter}, in step {} ({}){left}", wait.step, wait.seq)
}

/// How often each kind of thing happened, in the order of their first times.
fn counts(history: &[Record]) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(Kind, u64)> = Vec::new();
    for record in history {
        match counts.iter_mut().find(|(kind, _)| *kind == record.kind) {
            Some((_, count)) => *count += 1,
            None => counts.push((record.kind, 1)),
        }
    }
    counts.into_iter().map(|(kind, count)| (kind.as_str(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_described_with_filter_and_time_left() {
        let wait =
            OpenWait { seq: 3, step: "ship".into(), number: 1, name: "approval".into(), filter: vec![], due_ms: None };
        assert_eq!(described(&wait, 0), "the signal approval, in step ship (3)");
        let filter = vec![("order".into(), "7".into()), ("user".into(), "\"bob\"".into())];
        let told = described(&OpenWait { filter, due_ms: Some(300_000), ..wait }, 0);
        assert_eq!(told, "the signal approval with order=7 and user=\"bob\", in step ship (3), for 5m00s more");
    }

    #[test]
    fn a_history_is_counted_by_kind() {
        let lines: [&[u8]; 4] =
            [b"1 start 0 0 - - rag 1", b"2 done 1 1 a w 1", b"3 done 2 1 b w 2", b"4 completed 2 1 b w "];
        let history: Vec<_> = lines.iter().map(|line| Record::parse(line)).collect();
        assert_eq!(counts(&history), [("start", 1), ("done", 2), ("completed", 1)]);
    }
}
