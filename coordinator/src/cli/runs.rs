//! `stepfleet runs`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use stepfleet_shared::Client;
use stepfleet_shared::run::{Run, Status};

use super::Fleet;
use super::error::CliResult;
use super::output;
use super::text::span;

const EXAMPLES: &str = "\
Examples:
  stepfleet runs --limit 5
  stepfleet runs --status failed --workflow research
  stepfleet runs --skip 20                                 the next page
  stepfleet runs --json | jq -r '.[] | select(.status == \"failed\") | .id'";

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
    /// Only runs that stand so; may be given several times
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<Status>,
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(text)
        .ok_or_else(|| "use queued, running, paused, completed, failed, cancelled or rejected".to_owned())
}

impl Options {
    async fn find(&self, client: &Client) -> stepfleet_shared::Result<Vec<Run>> {
        let mut runs = client.runs().skip(self.skip);
        if let Some(workflow) = &self.workflow {
            runs = runs.workflow(workflow);
        }
        for status in &self.status {
            runs = runs.status(*status);
        }
        runs.list(self.limit as usize).await
    }
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let client = fleet.client()?;
    let runs = options.find(&client).await?;
    if fleet.json {
        output::json(&runs.iter().map(output::run_summary).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() && (options.skip > 0 || options.workflow.is_some() || !options.status.is_empty()) {
        output::line("No run matches.");
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        output::line("There are no runs. Start one: stepfleet start <workflow> --input '{}'");
        return Ok(ExitCode::SUCCESS);
    }
    let now = client.partitions().await?.first().now_ms().await?;
    let mut table = output::table(&["ID", "WORKFLOW", "STATUS", "AGE", "DURATION"]);
    for run in &runs {
        table.add_row(vec![
            Cell::new(&run.id),
            Cell::new(workflow(run)),
            output::status_cell(run.status),
            Cell::new(span(now.saturating_sub(run.created_ms))),
            Cell::new(duration(run, now).map_or_else(|| "-".into(), span)),
        ]);
    }
    output::print_table(table);
    Ok(ExitCode::SUCCESS)
}

/// `<workflow>:<version>`, or `-` for a request that was rejected before that was known.
pub(super) fn workflow(run: &Run) -> String {
    if run.workflow.is_empty() { "-".into() } else { format!("{}:{}", run.workflow, run.version) }
}

/// From the beginning of the first step to the end, or until now; None where no step has begun.
pub(super) fn duration(run: &Run, now_ms: u64) -> Option<u64> {
    Some(run.finished_ms.unwrap_or(now_ms).saturating_sub(run.started_ms?))
}
