//! `stepfleet fork`: one run, or many.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use stepfleet_shared::Error;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::run::Status;

use super::Fleet;
use super::bulk::{Words, ask_all};
use super::error::CliResult;
use super::output;
use super::start::read_input;
use super::steer::{SEEN_TO, explain, known};

const FORKED: Words = Words { done: "has a fork", participle: "forked" };

const EXAMPLES: &str = "\
Examples:
  stepfleet fork order-7                                   all that is recorded stays; what comes next is done anew
  stepfleet fork order-7 --call 3 --as order-7-again       the third recorded call and all after it are made anew
  stepfleet fork order-7 --seq 12 --input '{\"customer\": 12}'
  stepfleet fork --workflow orders --status failed --call 3 --limit 500

Any Redis client can do the same: XADD sf:{0}:inbox * op fork run order-7 call 3

The run itself stays as it is. `stepfleet show` tells of its forks.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    #[arg(required_unless_present = "workflow", conflicts_with_all = ["workflow", "status", "limit"])]
    id: Option<String>,
    /// The id of the fork, which must be of the same partition
    #[arg(long = "as", value_name = "ID", conflicts_with = "workflow")]
    new: Option<String>,
    /// The step execution that it begins with: one that has not ended, or failed; 1 for the run's start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "workflow")]
    seq: Option<u64>,
    /// The recorded call that is repeated, with all that come after it; counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    call: Option<u64>,
    /// Another event to begin with: JSON, @ and a file's name, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true, conflicts_with = "workflow")]
    input: Option<String>,
    /// All runs of this workflow with the --status, the newest first
    #[arg(long, value_name = "NAME", requires = "status")]
    workflow: Option<String>,
    /// With --workflow: only runs with this status
    #[arg(long, value_name = "STATUS", value_parser = ["failed", "completed", "cancelled"], requires = "workflow")]
    status: Option<String>,
    /// With --workflow: at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    match (&options.id, &options.workflow) {
        (Some(id), _) => one(fleet, id, options).await,
        (None, Some(workflow)) => many(fleet, workflow, options).await,
        (None, None) => Err(Error::invalid("name a run, or with --workflow the workflow whose runs to fork").into()),
    }
}

async fn one(fleet: &Fleet, id: &str, options: &Options) -> CliResult {
    let run = known(fleet, id).await?;
    let mut fork = run.fork();
    if let Some(new) = &options.new {
        fork = fork.id(new);
    }
    if let Some(seq) = options.seq {
        fork = fork.seq(seq);
    }
    if let Some(call) = options.call {
        fork = fork.call(call);
    }
    if let Some(input) = &options.input {
        let event: Value = serde_json::from_str(&read_input(input)?)
            .map_err(|error| Error::invalid(format!("the event is not valid JSON: {error}")))?;
        fork = fork.input(&event);
    }
    let (fork, asked) = fork.enqueue().await?;
    asked.taken(SEEN_TO).await.map_err(|error| explain(error, id, "be forked"))?;
    if fleet.json {
        output::json(&json!({ "id": fork.id(), "forked": id }))?;
    } else {
        output::line(&format!("run {} goes on from run {id}", fork.id()));
    }
    Ok(ExitCode::SUCCESS)
}

async fn many(fleet: &Fleet, workflow: &str, options: &Options) -> CliResult {
    let mut runs = fleet.client()?.runs().workflow(workflow);
    if let Some(status) = options.status.as_deref().and_then(Status::parse) {
        runs = runs.status(status);
    }
    let runs = runs.list(options.limit as usize).await?;
    let ask = async |run: &RunHandle| {
        let fork = options.call.map_or_else(|| run.fork(), |call| run.fork().call(call));
        Ok(fork.enqueue().await?.1)
    };
    ask_all(fleet, runs, FORKED, ask).await
}
