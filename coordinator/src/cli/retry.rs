//! `stepfleet retry`: one run that failed, or many.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use stepfleet_shared::Error;
use stepfleet_shared::run::Status;

use super::Fleet;
use super::bulk::{Words, ask_all};
use super::error::CliResult;
use super::output;
use super::start::read_input;
use super::steer::{SEEN_TO, explain, known};

const RETRIED: Words = Words { done: "goes on from where it failed", participle: "retried" };

const EXAMPLES: &str = "\
Examples:
  stepfleet retry order-7
  stepfleet retry order-7 --input '{\"customer\": 12}'       with another event for the step that failed
  stepfleet retry --workflow orders --status failed --limit 500

Any Redis client can do the same: XADD sf:{0}:inbox * op retry run order-7

A run that has failed goes on from the step that failed. What is committed and recorded is not done again.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    #[arg(required_unless_present = "workflow", conflicts_with_all = ["workflow", "status", "limit"])]
    id: Option<String>,
    /// Another event for the step that failed: JSON, @ and a file's name, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true, conflicts_with = "workflow")]
    input: Option<String>,
    /// All runs of this workflow that have failed, the newest first
    #[arg(long, value_name = "NAME", requires = "status")]
    workflow: Option<String>,
    /// With --workflow: only runs with this status
    #[arg(long, value_name = "STATUS", value_parser = ["failed"], requires = "workflow")]
    status: Option<String>,
    /// With --workflow: at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    match (&options.id, &options.workflow) {
        (Some(id), _) => one(fleet, id, options.input.as_deref()).await,
        (None, Some(workflow)) => many(fleet, workflow, options.limit as usize).await,
        (None, None) => Err(Error::invalid("name a run, or with --workflow the workflow whose runs to retry").into()),
    }
}

async fn one(fleet: &Fleet, id: &str, input: Option<&str>) -> CliResult {
    let run = known(fleet, id).await?;
    let event = input.map(read_input).transpose()?;
    let event: Option<Value> = event
        .map(|event| serde_json::from_str(&event))
        .transpose()
        .map_err(|error| Error::invalid(format!("the event is not valid JSON: {error}")))?;
    let asked = match &event {
        Some(event) => run.retry_with(event).await?,
        None => run.retry().await?,
    };
    asked.taken(SEEN_TO).await.map_err(|error| explain(error, id, "be retried"))?;
    if fleet.json {
        output::json(&json!({ "id": id }))?;
    } else {
        output::line(&format!("run {id} goes on from where it failed"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn many(fleet: &Fleet, workflow: &str, limit: usize) -> CliResult {
    let failed = fleet.client()?.runs().workflow(workflow).status(Status::Failed).list(limit).await?;
    ask_all(fleet, failed, RETRIED, async |run| run.retry().await).await
}
