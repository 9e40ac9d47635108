//! `stepfleet runs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::Cell;
use serde_json::{Value, json};
use stepfleet_shared::Client;
use stepfleet_shared::fleet::{Serving, serving_of};
use stepfleet_shared::run::{Run, Status};

use super::error::{CliError, CliResult};
use super::output;
use super::text::{shortened, span, time_of_day};
use super::when::{FORMS, When};
use super::workflows::{self, unserved};
use super::{Fleet, told_to_stop};

/// How much of an error is shown.
const SHOWN: usize = 200;

/// How many runs are named that wait for one version.
const NAMED: usize = 5;

/// The pause between two looks with --watch.
const PAUSE: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  stepfleet runs --limit 5
  stepfleet runs --status failed --workflow research --since 1h
  stepfleet runs --text timeout                            in the id or the error
  stepfleet runs --watch                                   as they come and go
  stepfleet runs --skip 20                                 the next page
  stepfleet runs --json | jq -r '.[] | select(.status == \"failed\") | .id'

There is no index by anything but time: without --since, runs are read until enough match.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Pass over this many of the runs that match, newest first
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Only runs of this workflow
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only runs with this status; may be given several times
    #[arg(long, value_name = "STATUS", ignore_case = true)]
    status: Vec<StatusName>,
    #[arg(long, value_name = "TIME", value_parser = When::parse, help = format!("Only runs that were created since then: {FORMS}"))]
    since: Option<When>,
    #[arg(long, value_name = "TIME", value_parser = When::parse, help = "Only runs that were created before then, as in --since")]
    before: Option<When>,
    /// Only runs that have this text in their id or error, in whatever case
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Look again every second, until ctrl-c. If the output is not a terminal, print a line for each run that is new or has another status
    #[arg(long)]
    watch: bool,
}

/// The statuses, for `--help` and completions.
#[derive(Clone, Copy, ValueEnum)]
enum StatusName {
    /// No step has begun
    Queued,
    /// Under way
    Running,
    /// Nothing new begins until it is resumed
    Paused,
    /// Ended with a result
    Completed,
    /// A step failed for good, or the run took too long
    Failed,
    /// Stopped by request
    Cancelled,
    /// The request could not be taken
    Rejected,
}

impl From<StatusName> for Status {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Queued => Self::Queued,
            StatusName::Running => Self::Running,
            StatusName::Paused => Self::Paused,
            StatusName::Completed => Self::Completed,
            StatusName::Failed => Self::Failed,
            StatusName::Cancelled => Self::Cancelled,
            StatusName::Rejected => Self::Rejected,
        }
    }
}

impl Options {
    async fn find(&self, client: &Client, now_ms: u64) -> stepfleet_shared::Result<Vec<Run>> {
        let mut runs = client.runs().skip(self.skip);
        if let Some(workflow) = &self.workflow {
            runs = runs.workflow(workflow);
        }
        for status in &self.status {
            runs = runs.status((*status).into());
        }
        if let Some(text) = &self.text {
            runs = runs.text(text);
        }
        if let Some(since) = self.since {
            runs = runs.since(since.ms(now_ms));
        }
        if let Some(before) = self.before {
            runs = runs.before(before.ms(now_ms));
        }
        runs.list(self.limit as usize).await
    }

    fn filters(&self) -> bool {
        let is_any = self.skip > 0 || self.workflow.is_some() || !self.status.is_empty() || self.text.is_some();
        is_any || self.since.is_some() || self.before.is_some()
    }
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let client = fleet.client()?;
    if options.watch {
        return watch(fleet, &client, options).await;
    }
    let now = client.partitions().await?.first().now_ms().await?;
    let runs = options.find(&client, now).await?;
    let served = read_served(fleet, &runs).await?;
    if fleet.json {
        output::json(&runs.iter().map(|run| summary(run, &served, now)).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&runs, &served, now, options);
    Ok(ExitCode::SUCCESS)
}

/// How the versions are served, if one of the runs is live.
async fn read_served(fleet: &Fleet, runs: &[Run]) -> Result<Vec<Serving>, CliError> {
    if runs.iter().all(|run| run.status.is_over()) {
        return Ok(Vec::new());
    }
    Ok(workflows::read(&fleet.partitions().await?).await?)
}

fn summary(run: &Run, served: &[Serving], now: u64) -> Value {
    let mut value = output::run_summary(run);
    if unserved(run, served, now).is_some() {
        let since = serving_of(served, &run.workflow, run.version).and_then(|serving| serving.unserved_since_ms);
        value["unserved"] = json!({ "since_ms": since });
    }
    value
}

/// Tells which of the runs wait for a version that no worker serves.
fn print_unserved(runs: &[Run], served: &[Serving], now: u64) {
    let mut waiting: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for run in runs {
        if let Some(waits) = unserved(run, served, now) {
            waiting.entry(waits).or_default().push(&run.id);
        }
    }
    for (waits, ids) in waiting {
        let more = ids.len().saturating_sub(NAMED);
        let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let (named, verb) = (ids[..ids.len() - more].join(", "), if ids.len() == 1 { "waits" } else { "wait" });
        output::line(&format!("\n{named}{and_more} {verb} {waits}."));
    }
}

fn print(runs: &[Run], served: &[Serving], now: u64, options: &Options) {
    if runs.is_empty() && options.filters() {
        return output::line("No run matches.");
    }
    if runs.is_empty() {
        return output::line("There are no runs. Start one: stepfleet start <workflow> --input '{}'");
    }
    let mut table = output::table(&["ID", "WORKFLOW", "STATUS", "AGE", "DURATION"]);
    for run in runs {
        table.add_row(vec![
            Cell::new(&run.id),
            Cell::new(workflow(run)),
            output::status_cell(run.status),
            Cell::new(span(now.saturating_sub(run.created_ms))),
            Cell::new(duration(run, now).map_or_else(|| "-".into(), span)),
        ]);
    }
    output::print_table(table);
    print_unserved(runs, served, now);
}

async fn watch(fleet: &Fleet, client: &Client, options: &Options) -> CliResult {
    let is_terminal = !fleet.json && std::io::stdout().is_terminal();
    let (mut stop, mut seen) = (Box::pin(told_to_stop()), HashMap::new());
    loop {
        let now = client.partitions().await?.first().now_ms().await?;
        let runs = options.find(client, now).await?;
        if is_terminal {
            // The screen is wiped, and the cursor goes to its corner.
            output::text("\x1b[2J\x1b[H");
            let served = read_served(fleet, &runs).await?;
            print(&runs, &served, now, options);
        }
        let changed = runs.iter().rev().filter(|run| seen.insert(run.id.clone(), run.status) != Some(run.status));
        for run in changed.filter(|_| !is_terminal) {
            if fleet.json {
                output::json(&output::run_summary(run))?;
            } else {
                output::line(&changed_line(run, now));
            }
        }
        let listed: HashSet<&String> = runs.iter().map(|run| &run.id).collect();
        seen.retain(|id, _| listed.contains(id));
        tokio::select! {
            stopped = &mut stop => return Ok(stopped.map(|()| ExitCode::SUCCESS)?),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// A run that is new, or has another status.
pub(super) fn changed_line(run: &Run, now_ms: u64) -> String {
    let error = run.error.as_ref().map(|error| format!(": {}", shortened(error, SHOWN))).unwrap_or_default();
    format!("{}  {}  {}  {}{error}", time_of_day(now_ms), run.id, workflow(run), run.status)
}

/// `<workflow>:<version>`, or `-` for a request that was rejected before that was known.
pub(super) fn workflow(run: &Run) -> String {
    if run.workflow.is_empty() { "-".into() } else { format!("{}:{}", run.workflow, run.version) }
}

/// From the beginning of the first step to the end, or until now; None if no step has begun.
pub(super) fn duration(run: &Run, now_ms: u64) -> Option<u64> {
    Some(run.finished_ms.unwrap_or(now_ms).saturating_sub(run.started_ms?))
}
