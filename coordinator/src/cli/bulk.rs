//! One request about each of many runs.

use std::process::ExitCode;

use futures_util::stream::{self, StreamExt};
use serde_json::json;
use stepfleet_shared::client::{Asked, RunHandle};
use stepfleet_shared::run::Run;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::steer::{SEEN_TO, explain};

/// How many runs are asked about at the same time.
const AT_ONCE: usize = 32;

/// A request about a run, in words.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// `run r <done>`.
    pub(super) done: &'static str,
    /// `run r was not <participle>`.
    pub(super) participle: &'static str,
}

/// Sends the request about each run, and prints its outcome. Fails if one was refused.
pub(super) async fn ask_all(
    fleet: &Fleet,
    runs: Vec<Run>,
    words: Words,
    ask: impl AsyncFn(&RunHandle) -> stepfleet_shared::Result<Asked>,
) -> CliResult {
    let (client, ask) = (fleet.client()?, &ask);
    let asked = stream::iter(runs).map(|run| {
        let run = client.run(run.id);
        async move {
            let became = async { ask(&run).await?.taken(SEEN_TO).await.map(drop) }.await;
            let passive = format!("be {}", words.participle);
            (run.id().to_owned(), became.map_err(|error| explain(error, run.id(), &passive)))
        }
    });
    let became: Vec<(String, Result<(), CliError>)> = asked.buffered(AT_ONCE).collect().await;
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for (id, became) in became {
        match became {
            Ok(()) => done.push(id),
            Err(error) => refused.push((id, error.sentence(&fleet.url))),
        }
    }
    print(fleet, words, &done, &refused)?;
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(fleet: &Fleet, words: Words, done: &[String], refused: &[(String, String)]) -> Result<(), CliError> {
    let Words { done: sentence, participle } = words;
    if fleet.json {
        let refused: Vec<_> = refused.iter().map(|(id, reason)| json!({ "id": id, "reason": reason })).collect();
        output::json(&json!({ participle: done, "refused": refused }))?;
        return Ok(());
    }
    for id in done {
        output::line(&format!("run {id} {sentence}"));
    }
    for (id, reason) in refused {
        output::line(&format!("run {id} was not {participle}: {reason}"));
    }
    output::line(&format!("{} of {} runs were {participle}", done.len(), done.len() + refused.len()));
    Ok(())
}
