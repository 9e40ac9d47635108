//! `stepfleet pause` and `stepfleet resume`: one run, or many.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use stepfleet_shared::Error;
use stepfleet_shared::client::{Asked, RunHandle};
use stepfleet_shared::run::{Run, Status};

use super::Fleet;
use super::bulk::{Words, ask_all};
use super::error::{CliError, CliResult};
use super::output;
use super::steer::{SEEN_TO, explain, known};

const PAUSED: Words = Words { done: "is paused", participle: "paused" };
const RESUMED: Words = Words { done: "goes on", participle: "resumed" };

const PAUSE_EXAMPLES: &str = "\
Examples:
  stepfleet pause order-7
  stepfleet pause --workflow orders                     all that are queued or running
  stepfleet pause --workflow orders --status running --limit 500

Any Redis client can do the same: XADD sf:{0}:inbox * op pause run order-7

Steps that are executing go on and commit; no other step begins until the run is resumed. Its timeout keeps running.";

#[derive(Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(super) struct Pause {
    /// The run's id
    #[arg(required_unless_present = "workflow", conflicts_with_all = ["workflow", "status", "limit"])]
    id: Option<String>,
    /// All runs of this workflow that are queued or running, the newest first
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// With --workflow: only runs with this status
    #[arg(long, value_name = "STATUS", value_parser = ["queued", "running"], requires = "workflow")]
    status: Option<String>,
    /// With --workflow: at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

const RESUME_EXAMPLES: &str = "\
Examples:
  stepfleet resume order-7
  stepfleet resume --workflow orders --limit 500        all that are paused

Any Redis client can do the same: XADD sf:{0}:inbox * op resume run order-7";

#[derive(Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(super) struct Resume {
    /// The run's id
    #[arg(required_unless_present = "workflow", conflicts_with_all = ["workflow", "limit"])]
    id: Option<String>,
    /// All runs of this workflow that are paused, the newest first
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// With --workflow: at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn pause(fleet: &Fleet, options: &Pause) -> CliResult {
    let status = options.status.as_deref().and_then(Status::parse);
    let standing = status.map_or_else(|| vec![Status::Queued, Status::Running], |status| vec![status]);
    let ask = async |run: &RunHandle| run.pause().await;
    match (&options.id, &options.workflow) {
        (Some(id), _) => one(fleet, id, PAUSED, ask).await,
        (None, Some(workflow)) => {
            let runs = find(fleet, workflow, &standing, options.limit).await?;
            ask_all(fleet, runs, PAUSED, ask).await
        }
        (None, None) => Err(Error::invalid("name a run, or with --workflow the workflow whose runs to pause").into()),
    }
}

pub(super) async fn resume(fleet: &Fleet, options: &Resume) -> CliResult {
    let ask = async |run: &RunHandle| run.resume().await;
    match (&options.id, &options.workflow) {
        (Some(id), _) => one(fleet, id, RESUMED, ask).await,
        (None, Some(workflow)) => {
            let runs = find(fleet, workflow, &[Status::Paused], options.limit).await?;
            ask_all(fleet, runs, RESUMED, ask).await
        }
        (None, None) => Err(Error::invalid("name a run, or with --workflow the workflow whose runs to resume").into()),
    }
}

async fn find(fleet: &Fleet, workflow: &str, standing: &[Status], limit: u32) -> Result<Vec<Run>, CliError> {
    let mut runs = fleet.client()?.runs().workflow(workflow);
    for status in standing {
        runs = runs.status(*status);
    }
    Ok(runs.list(limit as usize).await?)
}

async fn one(
    fleet: &Fleet,
    id: &str,
    words: Words,
    ask: impl AsyncFn(&RunHandle) -> stepfleet_shared::Result<Asked>,
) -> CliResult {
    let run = known(fleet, id).await?;
    let became = async { ask(&run).await?.taken(SEEN_TO).await }.await;
    became.map_err(|error| explain(error, id, &format!("be {}", words.participle)))?;
    if fleet.json {
        output::json(&json!({ "id": id }))?;
    } else {
        output::line(&format!("run {id} {}", words.done));
    }
    Ok(ExitCode::SUCCESS)
}
