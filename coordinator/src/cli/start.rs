//! `stepfleet start`.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use stepfleet_shared::Error;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::durability::Durability;
use stepfleet_shared::fleet::Serving;
use stepfleet_shared::run::{Run, Status};

use super::Fleet;
use super::error::{CliError, CliResult};
use super::{output, workflows};

/// The pause between two looks at what the run waits for.
const PROGRESS: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  stepfleet start research --input '{\"topic\":\"otters\"}'
  stepfleet start research --input @request.json --id otters-1     an id given twice is the same run
  generate | stepfleet start research --input - --wait | jq .      the result goes to standard output
  stepfleet start research --context-from otters-1                 with what that run came to know
  stepfleet start chat --session user-7 --input '\"Hello\"'   once the runs before it have ended
  stepfleet start report --delay 5m --key daily-2026-11-22         one run however often this is sent

Any Redis client can do the same: XADD sf:{0}:inbox * op start workflow research input '{\"topic\":\"otters\"}'

With --wait the exit code is 0 when the run completed, and 1 when it did not (or not in time; it goes on then).";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The workflow to start
    workflow: String,
    /// The input: JSON, @ and a file's name, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}", allow_hyphen_values = true)]
    input: String,
    /// The run's id [default: made by Redis]
    #[arg(long)]
    id: Option<String>,
    /// An idempotency key: requests of one workflow with the same key are one run, for a day
    #[arg(long)]
    key: Option<String>,
    /// What the run's context begins with: a JSON object, @ and a file's name, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    context: Option<String>,
    /// The run whose context this one's begins with; --context goes on top
    #[arg(long, value_name = "ID")]
    context_from: Option<String>,
    /// The session that the run is in: its runs go one after another, and share a context
    #[arg(long, value_name = "NAME", conflicts_with = "context_from")]
    session: Option<String>,
    /// How safe the run's progress must be before it goes on: none, fsync (on disk) or replicas:N [default: as its workflow says]
    #[arg(long, value_name = "LEVEL")]
    durability: Option<Durability>,
    /// Delay the first step by this long, as in 5s, 10m or 1h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// Tell those who follow the run where its steps stand (`stepfleet follow ID --events`)
    #[arg(long)]
    follow_steps: bool,
    /// Wait for the run to end, and print its result
    #[arg(long)]
    wait: bool,
    /// How long to wait, as in 30s, 5m or 1h; the run goes on after that
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Send the request although workers are there and none has ever registered the workflow: it is held for one, for the
    /// coordinators' grace time
    #[arg(long)]
    hold: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let client = fleet.client()?;
    let mut start = client.start_json(&options.workflow, &read_input(&options.input)?);
    if let Some(id) = &options.id {
        start = start.id(id);
    }
    if let Some(key) = &options.key {
        start = start.key(key);
    }
    if options.follow_steps {
        start = start.follow_steps();
    }
    if let Some(context) = &options.context {
        let context: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&read_input(context)?)
            .map_err(|error| CliError::new(format!("the context is not a JSON object: {error}")))?;
        start = start.context(&context);
    }
    if let Some(from) = &options.context_from {
        start = start.context_from(from);
    }
    if let Some(session) = &options.session {
        start = start.session(session);
    }
    if let Some(durability) = options.durability {
        start = start.durability(durability);
    }
    if options.hold {
        start = start.hold();
    }
    let handle = start.delay(options.delay.unwrap_or_default()).enqueue().await.map_err(misspelt)?;
    if !fleet.json {
        warn_unserved(fleet, &options.workflow).await;
    }
    if !options.wait {
        if fleet.json {
            output::json(&serde_json::json!({ "id": handle.id() }))?;
        } else {
            output::line(handle.id());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !fleet.json {
        eprintln!("run {}", handle.id());
    }
    let ended = Box::pin(wait(fleet, &handle, options.timeout)).await.map_err(|error| explain(error, handle.id()))?;
    report(fleet, &ended)
}

pub(super) fn read_input(input: &str) -> Result<String, CliError> {
    let read = match input.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file),
        None if input == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        None => return Ok(input.to_owned()),
    };
    read.map_err(|error| CliError::new(format!("the input {input} cannot be read: {error}")))
}

/// Shows what the run waits for meanwhile: beside a spinner on a terminal, otherwise in a line each time that it changes.
async fn wait(fleet: &Fleet, handle: &RunHandle, limit: Duration) -> stepfleet_shared::Result<Run> {
    // Draws nothing where standard error is not a terminal.
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    let ended = tokio::select! {
        ended = handle.wait(limit) => ended,
        never = show_progress(fleet, handle, &spinner) => never,
    };
    spinner.finish_and_clear();
    ended
}

async fn show_progress(fleet: &Fleet, handle: &RunHandle, spinner: &ProgressBar) -> stepfleet_shared::Result<Run> {
    let mut told = String::new();
    loop {
        tokio::time::sleep(PROGRESS).await;
        let Ok(waits) = Box::pin(handle.waits_for()).await else { continue };
        let now = waits.map_or_else(|| "under way".to_owned(), |waits| format!("waits for {waits}"));
        if now == told {
            continue;
        }
        spinner.set_message(now.clone());
        if spinner.is_hidden() && !fleet.json && now != "under way" {
            eprintln!("run {} {now}", handle.id());
        }
        told = now;
    }
}

/// A workflow that was registered and that no live worker serves now: the request is held, and that is said at once. Nothing is said
/// if that cannot be found out: a user for callers may not read workers.
async fn warn_unserved(fleet: &Fleet, workflow: &str) {
    let Ok(partitions) = fleet.partitions().await else { return };
    let Ok(serving) = workflows::read(&partitions).await else { return };
    let mut versions = serving.iter().filter(|serving| serving.workflow == workflow).peekable();
    if versions.peek().is_some() && versions.all(Serving::is_unserved) {
        eprintln!(
            "No live worker serves the workflow \"{workflow}\" now. The request is held for one: for {}, if the \
             coordinators use the default grace time.",
            humantime::format_duration(crate::Config::default().grace)
        );
    }
}

fn misspelt(error: Error) -> CliError {
    if !error.is_not_found() {
        return error.into();
    }
    CliError::new(format!(
        "{error}. Nothing was sent. If its worker starts later, send the request with --hold; `stepfleet workflows` \
         lists what is served."
    ))
}

fn explain(error: Error, id: &str) -> CliError {
    if !error.is_timeout() {
        return error.into();
    }
    CliError::new(format!("{error}. See `stepfleet show {id}`, or keep waiting with `stepfleet follow {id}`."))
}

fn report(fleet: &Fleet, run: &Run) -> CliResult {
    let completed = run.status == Status::Completed;
    if fleet.json {
        output::json(&output::run_json(run))?;
    } else if let (true, Some(result)) = (completed, &run.result) {
        output::line(&output::payload(run.content, result));
    } else {
        let reason = run.error.as_deref().unwrap_or("no reason was recorded");
        eprintln!("run {} ended as {}: {reason}", run.id, run.status);
    }
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
