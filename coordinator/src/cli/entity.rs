//! `stepfleet entity`.

use std::process::ExitCode;

use clap::Args;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;

const EXAMPLES: &str = "\
Examples:
  stepfleet entity Cart user-7
  stepfleet entity Cart user-7 | jq .items";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The name of its type
    kind: String,
    /// Its key
    key: String,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let Options { kind, key } = options;
    let Some(value) = fleet.client()?.entity_json(kind, key).await? else {
        return Err(CliError::new(format!(
            "there is no entity {kind} {key}; it was never created, was cleared, or has expired"
        )));
    };
    output::json(&value)?;
    Ok(ExitCode::SUCCESS)
}
