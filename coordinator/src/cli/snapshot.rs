//! `stepfleet snapshot`.

use std::process::ExitCode;

use clap::Args;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::show::missing;

const EXAMPLES: &str = "\
Examples:
  stepfleet snapshot otters-1
  stepfleet snapshot otters-1 --context > context.json
  stepfleet start research --context @context.json         another run begins with it
  stepfleet start research --context-from otters-1         the same, without a file";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    id: String,
    /// Only the context
    #[arg(long)]
    context: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let client = fleet.client()?;
    let Some(snapshot) = client.run(&options.id).snapshot().await? else {
        return Err(CliError::new(missing(&client.partitions().await?, &options.id).await?));
    };
    if options.context {
        output::json(&snapshot.context)?;
    } else {
        output::json(&snapshot)?;
    }
    Ok(ExitCode::SUCCESS)
}
