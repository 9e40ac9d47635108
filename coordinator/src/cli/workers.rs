//! `stepfleet workers`.

use std::process::ExitCode;

use comfy_table::{Cell, Color};

use super::Fleet;
use super::error::CliResult;
use super::output;
use super::text::span;

pub(super) async fn run(fleet: &Fleet) -> CliResult {
    let partitions = fleet.partitions().await?;
    let mut workers = partitions.workers().await?;
    workers.sort_by_key(|worker| worker.since_ms);
    if fleet.json {
        output::json(&workers)?;
        return Ok(ExitCode::SUCCESS);
    }
    if workers.is_empty() {
        output::line("There are no workers. Start one with the same STEPFLEET_REDIS and namespace.");
        return Ok(ExitCode::SUCCESS);
    }
    let now = partitions.first().now_ms().await?;
    let mut table = output::table(&["ID", "HOST", "PID", "STEPS", "SERVES", "UP", "LEASE"]);
    for worker in &workers {
        let lease = match u64::try_from(worker.lease_ms) {
            Ok(left @ 1..) => Cell::new(span(left)),
            _ => Cell::new("over").fg(Color::Red),
        };
        table.add_row(vec![
            Cell::new(&worker.id),
            Cell::new(&worker.host),
            Cell::new(worker.pid),
            Cell::new(format!("{}/{}", worker.held, worker.concurrency)),
            Cell::new(worker.serves.join(" ")),
            Cell::new(span(now.saturating_sub(worker.since_ms))),
            lease,
        ]);
    }
    output::print_table(table);
    Ok(ExitCode::SUCCESS)
}
