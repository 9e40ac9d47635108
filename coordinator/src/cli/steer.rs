//! `stepfleet cancel`, `stepfleet signal` and `stepfleet send`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use stepfleet_shared::Error;
use stepfleet_shared::client::{Reception, RunHandle};
use stepfleet_shared::run::Status;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::start::read_input;

/// How long a coordinator may take to handle a request.
pub(super) const SEEN_TO: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Cancel {
    /// The run's id
    id: String,
}

const SIGNAL_EXAMPLES: &str = "\
Examples:
  stepfleet signal order-7 approval --input true
  stepfleet signal order-7 answer --input @answer.json

Any Redis client can do the same: XADD sf:{0}:inbox * op signal run order-7 name approval input true

It prints whether a step that waited has taken the signal, or the run keeps it until a step waits for its name. A signal that is
rejected (the run has ended, or is not there) fails the command, with the reason. --json: {\"became\": \"taken\", \"kept\" or \"rejected\"}.";

#[derive(Args)]
#[command(after_help = SIGNAL_EXAMPLES)]
pub(super) struct Signal {
    /// The run's id
    id: String,
    /// The name that the run waits for
    name: String,
    /// The value: JSON, @ and a file's name, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "null", allow_hyphen_values = true)]
    input: String,
}

const SEND_EXAMPLES: &str = "\
Examples:
  stepfleet send order-7 Approval --input '{\"by\": \"ann\"}'
  stepfleet send order-7 Approval --input @approval.json --step judge

Any Redis client can do the same: XADD sf:{0}:inbox * op send run order-7 event Approval input '{\"by\": \"ann\"}'

`stepfleet graph` shows which events the steps of a workflow take.";

#[derive(Args)]
#[command(after_help = SEND_EXAMPLES)]
pub(super) struct Send {
    /// The run's id
    id: String,
    /// The event's name
    event: String,
    /// The event: JSON, @ and a file's name, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}", allow_hyphen_values = true)]
    input: String,
    /// Only to this step, of those that take the event
    #[arg(long)]
    step: Option<String>,
}

pub(super) async fn send(fleet: &Fleet, options: &Send) -> CliResult {
    let run = known(fleet, &options.id).await?;
    let event: Value = serde_json::from_str(&read_input(&options.input)?)
        .map_err(|error| Error::invalid(format!("the event is not valid JSON: {error}")))?;
    let asked = run.send_to(options.step.as_deref(), &options.event, &event).await?;
    let (id, event) = (&options.id, &options.event);
    let outcome = asked.taken(SEEN_TO).await;
    report(fleet, outcome, json!({ "id": id, "event": event }), "get the event", |reception| match reception {
        Reception::Kept => {
            format!("run {id} waits for a worker to start it, and keeps the event {event} until then")
        }
        _ => format!("run {id} has taken the event {event}: the steps that take it begin"),
    })
}

pub(super) async fn cancel(fleet: &Fleet, options: &Cancel) -> CliResult {
    let run = known(fleet, &options.id).await?;
    run.cancel().await?;
    let ended = run.wait(SEEN_TO).await.map_err(|error| explain(error, &options.id, "be cancelled"))?;
    if fleet.json {
        output::json(&json!({ "id": ended.id, "status": ended.status }))?;
    } else if ended.status == Status::Cancelled {
        output::line(&format!("run {} is cancelled", ended.id));
    } else {
        output::line(&format!("run {} had ended already, as {}", ended.id, ended.status));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn signal(fleet: &Fleet, options: &Signal) -> CliResult {
    let run = known(fleet, &options.id).await?;
    let asked = run.signal_json(&options.name, read_input(&options.input)?).await?;
    let (id, name) = (&options.id, &options.name);
    let outcome = asked.taken(SEEN_TO).await;
    report(fleet, outcome, json!({ "id": id, "name": name }), "get the signal", |reception| match reception {
        Reception::Kept => {
            format!("run {id} keeps the signal {name}: no step waits for it yet, and the next one that does gets it")
        }
        _ => format!("run {id} has taken the signal {name}: a step waited for it"),
    })
}

/// Prints the outcome of a request; with `--json`, a rejection is JSON too.
fn report(
    fleet: &Fleet,
    outcome: stepfleet_shared::Result<Reception>,
    mut about: Value,
    what: &str,
    sentence: impl Fn(Reception) -> String,
) -> CliResult {
    match outcome {
        Err(error) if fleet.json && error.is_invalid() => {
            about["became"] = json!("rejected");
            about["reason"] = json!(error.to_string());
            output::json(&about)?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            let id = about["id"].as_str().unwrap_or_default().to_owned();
            Err(explain(error, &id, what))
        }
        Ok(reception) if fleet.json => {
            about["became"] = json!(if reception == Reception::Kept { "kept" } else { "taken" });
            output::json(&about)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(reception) => {
            output::line(&sentence(reception));
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) async fn known(fleet: &Fleet, id: &str) -> Result<RunHandle, CliError> {
    let run = fleet.client()?.run(id);
    // A request that waits for a worker is no run yet.
    let waits = fleet.partitions().await?.of(id).is_deferred(id).await?;
    if !waits && run.status().await?.is_none() {
        return Err(Error::not_found(format!("there is no run {id}; see stepfleet runs")).into());
    }
    Ok(run)
}

pub(super) fn explain(error: Error, id: &str, what: &str) -> CliError {
    if error.is_timeout() {
        let seconds = SEEN_TO.as_secs();
        return Error::timeout(format!(
            "no coordinator has handled the request within {seconds} s; run {id} will {what} when one does (stepfleet \
             coordinator)"
        ))
        .into();
    }
    error.into()
}
