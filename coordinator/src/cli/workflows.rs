//! `stepfleet workflows`.

use std::process::ExitCode;

use comfy_table::{Cell, Color};
use serde_json::json;
use stepfleet_shared::Partitions;
use stepfleet_shared::fleet::{Serving, serving, serving_of};
use stepfleet_shared::run::Run;
use stepfleet_shared::store::Registration;

use super::Fleet;
use super::error::CliResult;
use super::output;
use super::text::span;

pub(super) async fn run(fleet: &Fleet) -> CliResult {
    let partitions = fleet.partitions().await?;
    let (all, now) = (read(&partitions).await?, partitions.first().now_ms().await?);
    let registered = partitions.registrations().await?;
    let rows: Vec<_> = registered
        .iter()
        .filter_map(|found| Some((found, serving_of(&all, &found.workflow, found.version)?)))
        .collect();
    if fleet.json {
        output::json(&rows.iter().map(|(found, serving)| as_json(found, serving)).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        output::line(
            "There are no workflows. Start a worker that serves one, with the same STEPFLEET_REDIS and namespace.",
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&["WORKFLOW", "VERSION", "WORKERS", "WAITING", "START", "STOP"]);
    for (found, serving) in rows {
        table.add_row(vec![
            Cell::new(&found.workflow),
            Cell::new(found.version),
            workers(serving, now),
            Cell::new(serving.waiting),
            Cell::new(&found.graph.start),
            Cell::new(&found.graph.stop),
        ]);
    }
    output::print_table(table);
    Ok(ExitCode::SUCCESS)
}

/// How each version is served now.
pub(super) async fn read(partitions: &Partitions) -> stepfleet_shared::Result<Vec<Serving>> {
    let (queues, workers, now) =
        (partitions.queues().await?, partitions.workers().await?, partitions.first().now_ms().await?);
    Ok(serving(&queues, &workers, now))
}

fn as_json(found: &Registration, serving: &Serving) -> serde_json::Value {
    let mut value = json!(serving);
    value["start"] = json!(found.graph.start);
    value["stop"] = json!(found.graph.stop);
    value["external"] = json!(found.graph.external);
    value
}

fn workers(serving: &Serving, now_ms: u64) -> Cell {
    match (serving.workers, serving.unserved_since_ms) {
        (0, Some(since)) => Cell::new(format!("none for {}", span(now_ms.saturating_sub(since)))).fg(Color::Yellow),
        (0, None) => Cell::new("none").fg(Color::Yellow),
        (some, _) => Cell::new(some),
    }
}

/// Says that a run waits for a worker of its version, if it does.
pub(super) fn unserved(run: &Run, all: &[Serving], now_ms: u64) -> Option<String> {
    if run.status.is_over() {
        return None;
    }
    let (workflow, version) = (&run.workflow, run.version);
    let serving = serving_of(all, workflow, version);
    if serving.is_some_and(|serving| !serving.is_unserved()) {
        return None;
    }
    let since = serving.and_then(|serving| serving.unserved_since_ms);
    let since = since.map_or_else(String::new, |since| format!(", for {} now", span(now_ms.saturating_sub(since))));
    let others: Vec<_> = all.iter().filter(|other| other.workflow == *workflow && !other.is_unserved()).collect();
    let others = match &others[..] {
        [] => String::new(),
        [one] => format!(" (version {} is served)", one.version),
        many => {
            let versions: Vec<_> = many.iter().map(|other| other.version.to_string()).collect();
            format!(" (versions {} are served)", versions.join(", "))
        }
    };
    Some(format!(
        "for a worker: none serves {workflow} version {version}{since}{others}. It continues when one does; or cancel \
         it"
    ))
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::run::Status;

    use super::*;

    fn pinned(version: u32, status: Status) -> Run {
        Run::new("r", ("rag", version), status)
    }

    fn served(version: u32, workers: usize, unserved_since_ms: Option<u64>) -> Serving {
        Serving { workflow: "rag".into(), version, workers, waiting: 0, unserved_since_ms }
    }

    #[test]
    fn a_run_whose_version_nobody_serves_says_so() {
        let all = [served(1, 0, Some(1000)), served(2, 3, None)];
        let said = unserved(&pinned(1, Status::Running), &all, 61_000).unwrap();
        assert!(said.contains("none serves rag version 1, for 1m00s now (version 2 is served)"), "{said}");
        assert_eq!(unserved(&pinned(2, Status::Running), &all, 61_000), None);
        assert_eq!(unserved(&pinned(1, Status::Failed), &all, 61_000), None);
        let said = unserved(&pinned(3, Status::Queued), &[], 61_000).unwrap();
        assert!(said.contains("none serves rag version 3. It continues"), "{said}");
    }
}
