//! `stepfleet rejected`.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};
use stepfleet_shared::store::RejectedRequest;

use super::Fleet;
use super::error::CliResult;
use super::output;
use super::text::{moment, shortened};
use super::when::{FORMS, When};

/// How much of a reason is shown.
const SHOWN: usize = 160;

const EXAMPLES: &str = "\
Examples:
  stepfleet rejected                       the newest, with the reasons
  stepfleet rejected --since 1h
  stepfleet rejected --json | jq -r '.[] | select(.workflow == \"research\") | .fields.input'

Any Redis client can do the same: XREVRANGE sf:{0}:rejected + - COUNT 20

About 10,000 are kept for each partition, the newest.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[arg(long, value_name = "TIME", value_parser = When::parse, help = format!("Only what was rejected since then: {FORMS}"))]
    since: Option<When>,
    #[arg(long, value_name = "TIME", value_parser = When::parse, help = "Only what was rejected before then, as in --since")]
    before: Option<When>,
    /// Show the reasons whole
    #[arg(long)]
    full: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let partitions = fleet.partitions().await?;
    let now = partitions.first().now_ms().await?;
    let since = options.since.map_or(0, |when| when.ms(now));
    let before = options.before.map_or(u64::MAX, |when| when.ms(now));
    let limit = options.limit as usize;
    let all = try_join_all(partitions.all().iter().map(|store| store.rejected(since, before, limit))).await?;
    let mut all: Vec<RejectedRequest> = all.into_iter().flatten().collect();
    all.sort_by_key(|rejected| std::cmp::Reverse(rejected.at_ms));
    all.truncate(limit);
    if fleet.json {
        output::json(&all.iter().map(as_json).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        output::line("Nothing was rejected.");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&["TIME", "ID", "OP", "WORKFLOW", "REASON"]);
    for rejected in &all {
        let field = |name| rejected.field(name).unwrap_or("-").to_owned();
        let reason = if options.full { rejected.reason.clone() } else { shortened(&rejected.reason, SHOWN) };
        table.add_row(vec![
            Cell::new(moment(rejected.at_ms)),
            Cell::new(id(rejected).unwrap_or("-")),
            Cell::new(field("op")),
            Cell::new(field("workflow")),
            Cell::new(reason),
        ]);
    }
    output::print_table(table);
    Ok(ExitCode::SUCCESS)
}

/// The run that it asked for or was about; else its inbox entry, which a run without an id would have had for one.
pub(super) fn id(rejected: &RejectedRequest) -> Option<&str> {
    let named = rejected.field("id").or_else(|| rejected.field("run"));
    named.or(Some(&*rejected.entry).filter(|entry| !entry.is_empty()))
}

fn as_json(rejected: &RejectedRequest) -> Value {
    let fields: Map<String, Value> =
        rejected.fields.iter().rev().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "at_ms": rejected.at_ms,
        "entry": rejected.entry,
        "id": id(rejected),
        "op": rejected.field("op"),
        "workflow": rejected.field("workflow"),
        "reason": rejected.reason,
        "fields": fields,
    })
}
